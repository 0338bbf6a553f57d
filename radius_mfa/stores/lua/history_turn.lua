-- Whether it is this node's turn to write the history; if so, the events after a position.
--
-- KEYS: 1 whose turn it is, 2 stream
-- ARGV: 1 node, 2 how long a turn lasts, in milliseconds, 3 position, 4 most events
-- Returns {events, newest event}, or nil while it is another node's turn.

local whose = redis.call('GET', KEYS[1])
if whose and whose ~= ARGV[1] then
  return false
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {
  redis.call('XRANGE', KEYS[2], '(' .. ARGV[3], '+', 'COUNT', ARGV[4]),
  redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1),
}
