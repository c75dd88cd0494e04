-- Gives an owner of keys a budget, or takes it away.
--
-- KEYS[1]  the owner's hash
-- KEYS[2]  the sorted set of changes, by the number of the last change of each
-- KEYS[3]  the number of the last change of any
-- ARGV[1]  the owner's name
-- ARGV[2..] the fields of the hash and their values, by turns; none for no budget
--
-- Returns the number of this change.

local time = redis.call('TIME')
local version = math.max(time[1] * 1e6 + time[2], tonumber(redis.call('GET', KEYS[3]) or '0') + 1)
redis.call('SET', KEYS[3], string.format('%.0f', version))
redis.call('ZADD', KEYS[2], string.format('%.0f', version), 'owner:' .. ARGV[1])

redis.call('DEL', KEYS[1])
if #ARGV > 1 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 2))
end
return string.format('%.0f', version)
