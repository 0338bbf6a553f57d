-- Make the outcome of a login final: the one place where a code is consumed and a failure counted.
-- The rules of the tallies are those of radius_mfa/policy/lockout.py. Times are Unix milliseconds.
--
-- KEYS: 1 epoch, 2 generation, 3 tally of the user, 4 tallies by source, 5 used time steps,
--       6 mark of the wrong value, 7... verdicts, then, each where there is one: the challenge
--       answered, the challenge given, the verdicts that end with the answer
-- ARGV: 1 now, 2 epoch seen, 3 generation seen, 4 source, 5 device id ('' where no step is
--       consumed), 6 time step, 7 verdict, 8 verdict if the step is used, 9 verdict if locked,
--       10 '' where a reject is no failure of the user; else the text 'whether it counts towards
--       the limits (0 or 1), same-value window, limit by source, limit by user, failure window,
--       lock, longest lock, most consecutive failures', 11 how many verdicts, 12... lifetimes of
--       the verdicts; then, where a challenge is answered or given: record of the one answered as
--       it was seen ('' for none), as it is once answered, verdict if it is answered already,
--       record of the one given ('' for none), its lifetime, verdict if a lock closes instead
-- Returns {state, verdict, locked until}; state is 'cold', 'stale', 'shared' or 'settled'.

local now = tonumber(ARGV[1])
local source = ARGV[4]
local window, lock, longest  -- of failures alone: see below
local UNTIL_UNLOCKED = -1
local MOST_SOURCES = 100
local LAST_VERDICT = 6 + tonumber(ARGV[11])
local CHALLENGE = 6 + LAST_VERDICT  -- its first argument

local function numbers(text)
  local found = {}
  for number in string.gmatch(text, '%S+') do
    found[#found + 1] = tonumber(number)
  end
  return found
end

-- A tally is the text 'failures since locks until consecutive'.
local function read(text)
  return text and numbers(text) or { 0, 0, 0, 0, 0 }
end

local function written(tally)
  return string.format('%.0f %.0f %.0f %.0f %.0f', unpack(tally))
end

local function locked(tally)
  return tally[4] == UNTIL_UNLOCKED or tally[4] > now
end

-- When the later of two locks ends; 0 where neither is closed.
local function lock_of(one, other)
  local until_one, until_other = locked(one) and one[4] or 0, locked(other) and other[4] or 0
  if until_one == UNTIL_UNLOCKED or until_other == UNTIL_UNLOCKED then
    return UNTIL_UNLOCKED
  end
  return math.max(until_one, until_other)
end

local function forgotten(tally)
  return tally[4] ~= UNTIL_UNLOCKED and now >= math.max(tally[4], tally[2] + window) + longest
end

local function lock_end(locks)
  if lock == 0 then
    return UNTIL_UNLOCKED
  end
  return now + math.min(lock * 2 ^ math.min(locks, 30), math.max(longest, lock))
end

local function count(tally, limit)
  if forgotten(tally) then
    tally = { 0, 0, 0, 0, tally[5] }
  end
  local open = tally[1] > 0 and now < tally[2] + window  -- also before its beginning
  local failures = open and tally[1] + 1 or 1
  local since = open and tally[2] or now
  if limit == 0 or failures < limit then
    return { failures, since, tally[3], tally[4], tally[5] }
  end
  return { 0, now, tally[3] + 1, lock_end(tally[3]), tally[5] }
end

if redis.call('GET', KEYS[1]) ~= ARGV[2] then
  return { 'cold', '', 0 }
end
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[3] then
  return { 'stale', '', 0 }
end

-- A verdict is the text 'generation expiry verdict'; one of an older generation is void.
for i = 7, LAST_VERDICT do
  local generation, expiry, verdict =
    string.match(redis.call('GET', KEYS[i]) or '', '^(%S+) (%S+) (%S+)$')
  if generation == ARGV[3] and tonumber(expiry) > now then
    return { 'shared', verdict, 0 }
  end
end

local function settled(verdict, locked_until)
  for i = 7, LAST_VERDICT do
    local lifetime = ARGV[5 + i]
    local record = ARGV[3] .. ' ' .. string.format('%.0f', now + tonumber(lifetime)) .. ' ' .. verdict
    redis.call('SET', KEYS[i], record, 'PX', lifetime)
  end
  return { 'settled', verdict, locked_until }
end

local user = read(redis.call('GET', KEYS[3]))
local here = read(redis.call('HGET', KEYS[4], source) or nil)
if lock_of(user, here) ~= 0 then
  return settled(ARGV[9], lock_of(user, here))
end

local given = LAST_VERDICT + 1  -- the key of the challenge given, if there is one
if (ARGV[CHALLENGE] or '') ~= '' then
  local answered = given
  given = given + 1
  if redis.call('GET', KEYS[answered]) ~= ARGV[CHALLENGE] then
    return settled(ARGV[CHALLENGE + 2], 0)
  end
  redis.call('SET', KEYS[answered], ARGV[CHALLENGE + 1], 'KEEPTTL')
  for i = ARGV[CHALLENGE + 3] == '' and given or given + 1, #KEYS do
    redis.call('DEL', KEYS[i])
  end
end

-- No Accept: the challenge that goes with it is given, unless this failure has closed a lock.
local function not_accepted(verdict, locked_until)
  if (ARGV[CHALLENGE + 3] or '') == '' then
    return settled(verdict, locked_until)
  elseif locked_until ~= 0 then
    return settled(ARGV[CHALLENGE + 5], locked_until)
  end
  redis.call('SET', KEYS[given], ARGV[CHALLENGE + 3], 'PX', ARGV[CHALLENGE + 4])
  return settled(verdict, 0)
end

local function accepted(verdict)
  redis.call('DEL', KEYS[3])
  redis.call('HDEL', KEYS[4], source)
  return settled(verdict, 0)
end

local verdict = ARGV[7]
if ARGV[5] ~= '' then
  local last = tonumber(redis.call('HGET', KEYS[5], ARGV[5]) or '-1')
  if tonumber(ARGV[6]) > last then
    redis.call('HSET', KEYS[5], ARGV[5], ARGV[6])
    return accepted(verdict)
  end
  verdict = ARGV[8]
elseif string.sub(verdict, 1, 7) == 'accept:' then  -- the password alone, or a recovery code
  return accepted(verdict)
end

if ARGV[10] == '' then
  return not_accepted(verdict, 0)
end
local counted, same_value, limit_by_source, limit_by_user, most_consecutive
counted, same_value, limit_by_source, limit_by_user, window, lock, longest, most_consecutive =
  unpack(numbers(ARGV[10]))
-- A mark holds the time until which the same value is not counted again.
local marked_until = tonumber(redis.call('GET', KEYS[6]) or '0')
if marked_until > now then
  return not_accepted(verdict, 0)
end
redis.call('SET', KEYS[6], string.format('%.0f', now + same_value), 'PX', same_value)

if counted == 1 then
  user = count(user, limit_by_user)
end
user[5] = user[5] + 1
if user[5] >= most_consecutive then
  user[4] = UNTIL_UNLOCKED
end
redis.call('SET', KEYS[3], written(user))
if counted == 0 then
  return not_accepted(verdict, lock_of(user, here))
end

here = count(here, limit_by_source)
if redis.call('HLEN', KEYS[4]) >= MOST_SOURCES then
  local tallies = redis.call('HGETALL', KEYS[4])
  for i = 1, #tallies, 2 do
    if forgotten(read(tallies[i + 1])) then
      redis.call('HDEL', KEYS[4], tallies[i])
    end
  end
end
redis.call('HSET', KEYS[4], source, written(here))
if lock == 0 then
  redis.call('PERSIST', KEYS[4])  -- no time ends such a lock
else
  redis.call('PEXPIRE', KEYS[4], 2 * (window + math.max(longest, lock)))
end
return not_accepted(verdict, lock_of(user, here))
