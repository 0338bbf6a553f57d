-- Whether it is this writer's turn to write the history; if so, the events after a position. A writer
-- of higher rank takes the turn from one of lower.
--
-- KEYS: 1 whose turn it is, 2 stream
-- ARGV: 1 writer, 2 rank, 3 how long a turn lasts, in milliseconds, 4 position, 5 most events
-- Returns {events, newest event}, or nil while it is another one's turn.

local me, rank = ARGV[2] .. ':' .. ARGV[1], tonumber(ARGV[2])
local whose = redis.call('GET', KEYS[1])
if whose and whose ~= me and tonumber(string.match(whose, '^%d+') or '0') >= rank then
  return false
end
redis.call('SET', KEYS[1], me, 'PX', ARGV[3])
return {
  redis.call('XRANGE', KEYS[2], '(' .. ARGV[4], '+', 'COUNT', ARGV[5]),
  redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1),
}
