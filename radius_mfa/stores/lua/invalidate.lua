-- A user is about to be changed, or was: nothing read before counts any more. Run on both sides
-- of the change; the barrier keeps what is read in between from being cached.
--
-- KEYS: 1 generation, 2 barrier, 3 cached enrolment
-- ARGV: 1 lifetime of the generation, 2 lifetime of the barrier, in milliseconds

redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
redis.call('DEL', KEYS[3])
return 1
