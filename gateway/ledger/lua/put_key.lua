-- Adds a virtual key.
--
-- KEYS[1]  the key's hash
-- KEYS[2]  the sorted set of all keys' ids by the time of their creation, in ms
-- KEYS[3]  the sorted set of changes, by the number of the last change of each
-- KEYS[4]  the number of the last change of any
-- ARGV[1]  the key's id
-- ARGV[2..] the fields of its hash and their values, by turns
--
-- Returns the seconds since 1970 at which it was created, which its field `created_at` holds too; -1 where
-- there is a key of this id already, which stays as it is.

if redis.call('EXISTS', KEYS[1]) == 1 then
  return -1
end

local time = redis.call('TIME')
local now = time[1] * 1e6 + time[2]
local version = math.max(now, tonumber(redis.call('GET', KEYS[4]) or '0') + 1)
redis.call('SET', KEYS[4], string.format('%.0f', version))
redis.call('ZADD', KEYS[3], string.format('%.0f', version), 'key:' .. ARGV[1])

-- Each is later than the last, so that a page's end stays where it is.
local created = now / 1e3
local newest = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if newest[2] then
  created = math.max(created, tonumber(newest[2]) + 1e-3)
end
redis.call('ZADD', KEYS[2], string.format('%.3f', created), ARGV[1])
redis.call('HSET', KEYS[1], 'created_at', time[1], unpack(ARGV, 2))
return tonumber(time[1])
