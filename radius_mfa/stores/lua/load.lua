-- All that is known of a user at a source, in one round trip. Reads only.
--
-- KEYS: 1 epoch, 2 generation, 3 tally of the user, 4 tallies by source, 5 used time steps,
--       6 cached enrolment, 7... verdicts
-- ARGV: 1 source

local verdicts = {}
for i = 7, #KEYS do
  verdicts[#verdicts + 1] = redis.call('GET', KEYS[i])
end
return {
  redis.call('GET', KEYS[1]),
  redis.call('GET', KEYS[2]),
  redis.call('GET', KEYS[3]),
  redis.call('HGET', KEYS[4], ARGV[1]),
  redis.call('HGETALL', KEYS[5]),
  redis.call('GET', KEYS[6]),
  verdicts,
}
