-- Holds what a call may cost at most in all of its budgets at once, and counts it against its rate limits:
-- all of it or nothing.
--
-- KEYS[1]    the mark that this reservation was given up
-- KEYS[2]    the hash of the rate limits (unused where ARGV[5] and ARGV[6] are empty)
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
-- Returns {outcome, USD held in each budget, index of the budget that is short, requests and tokens used
-- within the minute before this call, seconds of the minute that have passed, requests and tokens of this
-- minute alone, number of the minute}; what is not known yet is empty. Outcomes: `held`; `spent`: a budget no
-- longer has the least; `busy`: it has, but others hold it now; `requests`, `tokens`: over that limit;
-- `void`: given up before.
-- The rate is that of a sliding minute: this minute's and as much of the last one's as still lies within 60 s.
-- A call that is held already, and asks again, is told what it holds.

local call = ARGV[1]
local most, least, lease = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local rpm, tpm, tokens = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local BELOW_NOTICE = 1e-12 -- USD, the noise of sums

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

if redis.call('EXISTS', KEYS[1]) == 1 then
  return {'void', '', '', '', '', '', '', '', ''}
end

local minute = math.floor(now / 60)
local passed = now - minute * 60
local rate = {requests = 0, tokens = 0, requests_before = 0, tokens_before = 0}
local limited = rpm or tpm
if limited then
  local stored = redis.call('HMGET', KEYS[2], 'minute', 'requests', 'tokens', 'requests_before', 'tokens_before')
  local stored_minute = tonumber(stored[1] or '-1')
  if stored_minute == minute then
    rate.requests, rate.tokens = tonumber(stored[2] or '0'), tonumber(stored[3] or '0')
    rate.requests_before, rate.tokens_before = tonumber(stored[4] or '0'), tonumber(stored[5] or '0')
  elseif stored_minute == minute - 1 then
    rate.requests_before, rate.tokens_before = tonumber(stored[2] or '0'), tonumber(stored[3] or '0')
  end
end
local share = 1 - passed / 60
local used_requests = rate.requests_before * share + rate.requests
local used_tokens = rate.tokens_before * share + rate.tokens

local function result(outcome, usd, index)
  return {outcome, usd or '', index or '', tostring(used_requests), tostring(used_tokens), tostring(passed),
    tostring(rate.requests), tostring(rate.tokens), string.format('%.0f', minute)}
end

local budgets = (#ARGV - 8) / 2
if ARGV[8] == 'again' and budgets > 0 then
  for _, member in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    if string.sub(member, 1, #call + 1) == call .. ':' then
      return result('held', string.sub(member, #call + 2))
    end
  end
end

if rpm and used_requests + 1 > rpm then
  return result('requests')
end
if tpm and used_tokens + tokens > tpm then
  return result('tokens')
end

local room, tightest, shared = most, nil, false
for index = 1, budgets do
  local budget, holds = KEYS[1 + 2 * index], KEYS[2 + 2 * index]
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', holds, '-inf', now)) do
    redis.call('ZREM', holds, member)
    redis.call('HINCRBYFLOAT', budget, 'held', '-' .. string.match(member, ':(.*)$'))
  end
  if redis.call('EXISTS', holds) == 0 then
    redis.call('HSET', budget, 'held', '0')
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
  redis.call('HSET', KEYS[2], 'minute', minute, 'requests', rate.requests + 1, 'tokens', rate.tokens + tokens,
    'requests_before', rate.requests_before, 'tokens_before', rate.tokens_before)
  redis.call('EXPIRE', KEYS[2], 180)
end
return result('held', amount)
