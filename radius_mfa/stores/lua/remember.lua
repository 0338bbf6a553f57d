-- Cache an enrolment, unless the user was changed since it was read, or is being changed.
--
-- KEYS: 1 generation, 2 barrier, 3 cached enrolment
-- ARGV: 1 generation seen, 2 enrolment, 3 lifetime in milliseconds

if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
return 1
