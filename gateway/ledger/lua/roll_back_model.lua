-- Puts live again what was before the last promotion.
--
-- KEYS[1]  the hash of the trained models
--
-- Returns 1, or 0 where there is nothing to go back to.

local found = redis.call('HMGET', KEYS[1], 'previous', 'version')
if not found[1] then
  return 0
end
local time = redis.call('TIME')
local version = math.max(time[1] * 1e6 + time[2], tonumber(found[2] or '0') + 1)
redis.call('HSET', KEYS[1], 'version', string.format('%.0f', version))
if found[1] == '' then
  redis.call('HDEL', KEYS[1], 'live')
else
  redis.call('HSET', KEYS[1], 'live', found[1])
end
redis.call('HDEL', KEYS[1], 'previous')
return 1
