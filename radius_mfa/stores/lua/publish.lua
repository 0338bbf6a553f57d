-- Append events to the stream that every node shares. A batch whose reply was lost may be in it
-- already: it is sent again under its number, and goes in once.
--
-- KEYS: 1 stream, 2 number of the last batch of this process
-- ARGV: 1 number of the batch, 2 how long it is remembered, in milliseconds, 3 events to keep,
--       4 node, 5... events

if tonumber(redis.call('GET', KEYS[2]) or '0') >= tonumber(ARGV[1]) then
  return 0
end
for i = 5, #ARGV do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'node', ARGV[4], 'event', ARGV[i])
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
