-- Puts off the time at which holds lapse.
--
-- KEYS      for each hold the sorted set that it is in, and the hash of its budget
-- ARGV[1]   seconds from now until they lapse
-- ARGV[2]   `restore`: holds that are missing are held again, after Redis has lost the last of its memory;
--           else a hold that has lapsed or was given back stays so
-- ARGV[3..] the member of each hold, in the order of KEYS
--
-- Returns the number of holds that there still are.

local now = tonumber(redis.call('TIME')[1])
local lapses = now + tonumber(ARGV[1])
local there = 0
for index = 1, #KEYS / 2 do
  local holds, budget, member = KEYS[2 * index - 1], KEYS[2 * index], ARGV[index + 2]
  if redis.call('ZSCORE', holds, member) then
    redis.call('ZADD', holds, 'XX', lapses, member)
    there = there + 1
  elseif ARGV[2] == 'restore' then
    redis.call('ZADD', holds, lapses, member)
    redis.call('HINCRBYFLOAT', budget, 'held', string.match(member, ':(.*)$'))
    there = there + 1
  end
end
return there
