-- Cache an enrolment, unless the user was changed since it was read, or is being changed. A Redis
-- that has lost its memory since then can't tell: it has forgotten the change too.
--
-- KEYS: 1 epoch, 2 generation, 3 barrier, 4 cached enrolment
-- ARGV: 1 epoch seen, 2 generation seen, 3 enrolment, 4 lifetime in milliseconds

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[2] or redis.call('EXISTS', KEYS[3]) == 1 then
  return 0
end
redis.call('SET', KEYS[4], ARGV[3], 'PX', ARGV[4])
return 1
