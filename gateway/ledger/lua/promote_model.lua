-- Puts the candidate live, and keeps what was live until now for one step back.
--
-- KEYS[1]  the hash of the trained models
-- ARGV[1]  the version of the candidate that was judged
-- ARGV[2]  the number of the last change of what is live, against which it was judged; 0 for none
--
-- Returns 1, or 0 where either has changed since, and nothing happens.

local found = redis.call('HMGET', KEYS[1], 'candidate', 'candidate_version', 'version', 'live')
if not found[1] or found[2] ~= ARGV[1] or (found[3] or '0') ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local version = math.max(time[1] * 1e6 + time[2], tonumber(found[3] or '0') + 1)
redis.call('HSET', KEYS[1], 'previous', found[4] or '', 'live', found[1], 'version', string.format('%.0f', version))
redis.call('HDEL', KEYS[1], 'candidate', 'candidate_version')
return 1
