-- Changes a virtual key that has not been revoked.
--
-- KEYS[1]  the key's hash
-- KEYS[2]  the sorted set of changes, by the number of the last change of each
-- KEYS[3]  the number of the last change of any
-- ARGV[1]  the key's id
-- ARGV[2]  `revoke` to revoke it as of now, else empty
-- ARGV[3..] the fields to set and their values, by turns; an empty value removes the field
--
-- Returns {outcome, field, value, ...} with all fields as they are then. The outcome is `changed`, or
-- `unknown` or `revoked` where nothing has changed.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'unknown'}
end

local function result(outcome)
  local record = redis.call('HGETALL', KEYS[1])
  table.insert(record, 1, outcome)
  return record
end

if redis.call('HEXISTS', KEYS[1], 'revoked_at') == 1 then
  return result('revoked')
end

local time = redis.call('TIME')
local version = math.max(time[1] * 1e6 + time[2], tonumber(redis.call('GET', KEYS[3]) or '0') + 1)
redis.call('SET', KEYS[3], string.format('%.0f', version))
redis.call('ZADD', KEYS[2], string.format('%.0f', version), 'key:' .. ARGV[1])

if ARGV[2] == 'revoke' then
  redis.call('HSET', KEYS[1], 'revoked_at', time[1])
end
for index = 3, #ARGV, 2 do
  if ARGV[index + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[index])
  else
    redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1])
  end
end
return result('changed')
