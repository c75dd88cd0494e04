-- Holds what a call may cost at most in all of its budgets at once, and counts it against its rate limits:
-- all of it or nothing.
--
-- KEYS[1]    the mark that this reservation was given up
-- KEYS[2]    the hash of what the limits count, `rSECOND` requests and `tSECOND` tokens of each second of the
--            last minute (unused where ARGV[5] and ARGV[6] are empty)
-- KEYS[3..]  for each budget its hash, with `spent` and `held` in USD, and the sorted set of its holds,
--            `CALL:USD` each by the time at which it lapses
-- ARGV[1]    the call's id
-- ARGV[2]    USD that it may cost at most, ARGV[3] USD that its least useful answer costs
-- ARGV[4]    seconds after which a hold lapses that is not renewed
-- ARGV[5]    requests per minute, ARGV[6] tokens per minute, each empty for no limit
-- ARGV[7]    tokens that the call is taken to need
-- ARGV[8]    `again` for a reservation that Redis may have got before
-- ARGV[9..]  for each budget its limit in USD and the time in seconds since 1970 at which its hash and its
--            holds may go, 0 for never
--
-- Returns {outcome, USD held in each budget, index of the budget that is short, requests and tokens used within
-- the last minute before this call, seconds until all of those requests and all of those tokens are forgotten,
-- seconds until there is room in the limit that is short, second in which this call is counted}; what is not
-- known yet is empty. Outcomes: `held`; `spent`: a budget no longer has the least; `busy`: it has, but others
-- hold it now; `requests`, `tokens`: over that limit; `void`: given up before.
-- A call that is held already, and asks again, is told what it holds.
-- A second is forgotten when all of it is a minute old, so that no minute ever has more than a limit.

local call = ARGV[1]
local most, least, lease = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local rpm, tpm, tokens = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local BELOW_NOTICE = 1e-12 -- USD, the noise of sums

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

if redis.call('EXISTS', KEYS[1]) == 1 then
  return {'void', '', '', '', '', '', '', '', ''}
end

local second = math.floor(now)
local used = {r = 0, t = 0}
local counts = {r = {}, t = {}} -- of each second
local limited = rpm or tpm
if limited then
  local stored = redis.call('HGETALL', KEYS[2])
  for index = 1, #stored, 2 do
    local kind, at = string.sub(stored[index], 1, 1), tonumber(string.sub(stored[index], 2))
    if at < second - 60 or at > second + 1 then -- the latter after a clock was set back
      redis.call('HDEL', KEYS[2], stored[index])
    else
      local count = tonumber(stored[index + 1])
      used[kind] = used[kind] + count
      table.insert(counts[kind], {at, count})
    end
  end
end

-- The seconds until no more than `room` of what was used is left.
local function seconds_until(kind, room)
  table.sort(counts[kind], function(one, other) return one[1] < other[1] end)
  local left, forgotten_at = used[kind], now
  for _, each in ipairs(counts[kind]) do
    if left <= room then
      break
    end
    left = left - each[2]
    forgotten_at = each[1] + 61
  end
  return forgotten_at - now
end

local function result(outcome, usd, index, wait)
  return {outcome, usd or '', index or '', tostring(used.r), tostring(used.t), tostring(seconds_until('r', 0)),
    tostring(seconds_until('t', 0)), tostring(wait or ''), string.format('%.0f', second)}
end

local budgets = (#ARGV - 8) / 2
if ARGV[8] == 'again' and budgets > 0 then
  for _, member in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    if string.sub(member, 1, #call + 1) == call .. ':' then
      return result('held', string.sub(member, #call + 2))
    end
  end
end

if rpm and used.r + 1 > rpm then
  return result('requests', nil, nil, seconds_until('r', rpm - 1))
end
if tpm and used.t + tokens > tpm then
  return result('tokens', nil, nil, tokens <= tpm and seconds_until('t', tpm - tokens))
end

local room, tightest, shared = most, nil, false
for index = 1, budgets do
  local budget, holds = KEYS[1 + 2 * index], KEYS[2 + 2 * index]
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', holds, '-inf', now)) do
    redis.call('ZREM', holds, member)
    redis.call('HINCRBYFLOAT', budget, 'held', '-' .. string.match(member, ':(.*)$'))
  end
  if redis.call('EXISTS', holds) == 0 and redis.call('HEXISTS', budget, 'held') == 1 then
    redis.call('HSET', budget, 'held', '0') -- no noise of sums stays behind
  end
end
for index = 1, budgets do
  local budget = KEYS[1 + 2 * index]
  local state = redis.call('HMGET', budget, 'spent', 'held')
  local spent, held = tonumber(state[1] or '0'), tonumber(state[2] or '0')
  local limit = tonumber(ARGV[7 + 2 * index])
  if spent + least > limit + BELOW_NOTICE then
    return result('spent', nil, index)
  end
  if limit - spent - held < room then
    room, tightest, shared = limit - spent - held, index, held > BELOW_NOTICE
  end
end

local usd = most
if tightest and room + BELOW_NOTICE < most then
  if room + BELOW_NOTICE < least then
    return result('busy', nil, tightest)
  end
  -- The last of a budget that others are using too is not given to one call whole.
  usd = shared and math.max(least, room / 2) or room
end
local amount = string.format('%.12f', math.max(usd, 0))

for index = 1, budgets do
  local budget, holds = KEYS[1 + 2 * index], KEYS[2 + 2 * index]
  local member = call .. ':' .. amount
  if redis.call('ZADD', holds, now + lease, member) == 1 then
    redis.call('HINCRBYFLOAT', budget, 'held', amount)
  end
  local ends = tonumber(ARGV[8 + 2 * index])
  if ends > 0 then
    redis.call('EXPIREAT', budget, ends)
    redis.call('EXPIREAT', holds, ends)
  end
end
if limited then
  redis.call('HINCRBY', KEYS[2], 'r' .. string.format('%.0f', second), 1)
  redis.call('HINCRBY', KEYS[2], 't' .. string.format('%.0f', second), tokens)
  redis.call('EXPIRE', KEYS[2], 120)
end
return result('held', amount)
