-- Moves the share that holds a day's spend, once across all workers, and tells how the day stands.
--
-- KEYS[1]  hash: `day`, `began` (what had been spent by then), `share`, and of its last `step` the number, the
--          time `at` (milliseconds) and what had been `spent`
-- KEYS[2]  what has been spent so far, USD
-- ARGV[1]  the day, such as 2026-11-24; an earlier one than is known changes nothing
-- ARGV[2]  the step that is known to be the last; where it is not, another worker has made the next
-- ARGV[3]  the share from now on; empty to leave it
-- ARGV[4]  the share to begin with
--
-- Returns {day, began, share, step, seconds since that, spent at that, spent so far}.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local spent = redis.call('GET', KEYS[2]) or '0'
local day = redis.call('HGET', KEYS[1], 'day')
if not day then
  redis.call('HSET', KEYS[1], 'share', ARGV[4], 'step', 0, 'at', string.format('%.0f', now), 'spent', spent)
end
if not day or day < ARGV[1] then
  redis.call('HSET', KEYS[1], 'day', ARGV[1], 'began', spent)
end
if ARGV[3] ~= '' and redis.call('HGET', KEYS[1], 'step') == ARGV[2] then
  redis.call('HSET', KEYS[1], 'share', ARGV[3], 'at', string.format('%.0f', now), 'spent', spent)
  redis.call('HINCRBY', KEYS[1], 'step', 1)
end
local known = redis.call('HMGET', KEYS[1], 'day', 'began', 'share', 'step', 'at', 'spent')
return {known[1], known[2], known[3], known[4], string.format('%.3f', (now - known[5]) / 1000), known[6], spent}
