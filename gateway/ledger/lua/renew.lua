-- Puts off the time at which holds lapse. A hold that has lapsed or was given back stays so.
--
-- KEYS     the sorted set of each hold
-- ARGV[1]  seconds from now until they lapse
-- ARGV[2..] the member of each hold, in the order of KEYS
--
-- Returns the number of holds that there still are.

local now = tonumber(redis.call('TIME')[1])
local renewed = 0
for index, holds in ipairs(KEYS) do
  if redis.call('ZSCORE', holds, ARGV[index + 1]) then
    redis.call('ZADD', holds, 'XX', now + tonumber(ARGV[1]), ARGV[index + 1])
    renewed = renewed + 1
  end
end
return renewed
