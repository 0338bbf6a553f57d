-- All that is known of a user at a source, in one round trip. Reads only.
--
-- KEYS: 1 epoch, 2 generation, 3 tally of the user, 4 tallies by source, 5 used time steps,
--       6 cached enrolment, 7... verdicts, and at the end the challenge that is answered
-- ARGV: 1 source 'client|station', 2 there where a challenge is answered

local source, last, challenge = ARGV[1], #KEYS, false
if ARGV[2] then
  challenge = redis.call('GET', KEYS[last])
  last = last - 1
  if challenge and string.sub(source, -1) == '|' then  -- pam_radius names the station once
    source = string.match(challenge, '^%S+ %S+ %S+ (.*)$')
  end
end

local verdicts = {}
for i = 7, last do
  verdicts[#verdicts + 1] = redis.call('GET', KEYS[i])
end
return {
  redis.call('GET', KEYS[1]),
  redis.call('GET', KEYS[2]),
  redis.call('GET', KEYS[3]),
  redis.call('HGET', KEYS[4], source),
  redis.call('HGETALL', KEYS[5]),
  redis.call('GET', KEYS[6]),
  verdicts,
  challenge,
}
