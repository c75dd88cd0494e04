-- Adds batches of a writer to the counters, each exactly once.
--
-- KEYS[1]   the writer's key: the number of the last of its batches that has been added
-- KEYS[2]   the name of this Redis's memory, which goes when the memory goes
-- KEYS[3..] the keys that the acts change
-- ARGV[1]   the number of the first batch that the writer does not know to have been added, ARGV[2] of the last
--           in this call: it numbers them from 1, and sends all that lie in between
-- ARGV[3]   seconds for which the writer is remembered
-- ARGV[4]   the acts as JSON: {name, index of the key in KEYS, ...}, amounts as strings; empty for a mere look
-- ARGV[5]   the memory that the writer knows, or empty; ARGV[6] what to call one that has no name yet
-- ARGV[7]   `regardless`: take the batches although earlier ones are missing
--
-- Returns {outcome, number of the last batch added so far, name of the memory, refused act, ...}. Outcomes:
-- `added`; `known`: all had been added before; `overlap`: a part had, and nothing has changed; `lost`: batches
-- are missing that had been added once, since Redis has come back without the last of its memory, and nothing
-- has changed. A memory of another name lacks them for good, and has lost nothing. An act that its key cannot
-- take, such as an increment of what is no number, is refused alone, and told.
-- Raises what Redis says of the first write where it takes none; then nothing has changed either.

local first, last = tonumber(ARGV[1]), tonumber(ARGV[2])
local memory = redis.call('GET', KEYS[2])
local is_other = not memory or (ARGV[5] ~= '' and ARGV[5] ~= memory)
if not memory then
  memory = ARGV[6]
  redis.call('SET', KEYS[2], memory)
end

local before = redis.call('GET', KEYS[1])
local added = tonumber(before or (is_other and first - 1 or 0))
local is_missing = added < first - 1 and not is_other

if is_missing and ARGV[7] == 'regardless' then
  added, is_missing = first - 1, false
end

local outcome = 'added'
if is_missing then
  outcome = 'lost'
elseif ARGV[4] == '' or added >= last then
  outcome = 'known'
elseif added >= first then
  outcome = 'overlap'
end

-- Written also where nothing is added, so that a call tells whether Redis takes writes.
redis.call('SET', KEYS[1], string.format('%.0f', outcome == 'added' and last or added), 'EX', ARGV[3])
if outcome ~= 'added' then
  return {outcome, added, memory}
end

local act = {}

function act.incrby(key, amount)
  return redis.pcall('INCRBY', key, amount)
end

function act.incrbyfloat(key, amount)
  return redis.pcall('INCRBYFLOAT', key, amount)
end

function act.hincrby(key, field, amount)
  return redis.pcall('HINCRBY', key, field, amount)
end

function act.hincrbyfloat(key, field, amount)
  return redis.pcall('HINCRBYFLOAT', key, field, amount)
end

function act.expireat(key, time)
  return redis.pcall('EXPIREAT', key, time)
end

-- Gives a hold back, unless it has lapsed.
function act.free(holds, budget, member, usd)
  local removed = redis.pcall('ZREM', holds, member)
  if removed == 1 then
    if redis.call('EXISTS', holds) == 1 then
      return redis.pcall('HINCRBYFLOAT', KEYS[budget], 'held', '-' .. usd)
    end
    return redis.pcall('HSET', KEYS[budget], 'held', '0')  -- no noise of sums stays behind
  end
  return removed
end

-- Gives back whatever a call holds, of which nobody knows how much it is.
function act.drop(holds, budget, call)
  local members = redis.pcall('ZRANGE', holds, 0, -1)
  if members.err then
    return members
  end
  for _, member in ipairs(members) do
    if string.sub(member, 1, #call + 1) == call .. ':' then
      local freed = act.free(holds, budget, member, string.sub(member, #call + 2))
      if type(freed) == 'table' and freed.err then
        return freed
      end
    end
  end
  return 0
end

-- Marks a reservation as given up, should Redis get it only now.
function act.void(key, seconds)
  return redis.pcall('SET', key, '1', 'EX', seconds)
end

-- Corrects the tokens that a call was taken to need, as long as its second counts.
function act.tokens(key, second, difference)
  local known = redis.pcall('HEXISTS', key, 't' .. second)
  return known == 1 and redis.pcall('HINCRBY', key, 't' .. second, difference) or known
end

-- Keeps a decision of a routing policy. One that is taken again under the same name has no score yet.
local kept = nil
function act.decide(decisions, times, scores, decision, record, time, most)
  local is_new = redis.pcall('HSET', decisions, decision, record)
  if type(is_new) == 'table' and is_new.err then
    return is_new
  end
  if is_new == 0 then
    redis.pcall('HDEL', KEYS[scores], decision)
  end
  kept = {decisions = decisions, times = KEYS[times], scores = KEYS[scores], most = tonumber(most)}
  return redis.pcall('ZADD', KEYS[times], time, decision)
end

-- Drops the oldest decisions where there are too many, but so few at a time that no call takes long.
local function drop_oldest()
  local there = redis.pcall('ZCARD', kept.times)
  if type(there) == 'number' and there > kept.most then
    local oldest = redis.pcall('ZPOPMIN', kept.times, math.min(there - kept.most, 500))
    local names = {}
    for index = 1, #oldest, 2 do
      table.insert(names, oldest[index])
    end
    redis.pcall('HDEL', kept.decisions, unpack(names))
    redis.pcall('HDEL', kept.scores, unpack(names))
  end
end

-- Notes how good the answer was that came of a decision; the last word counts.
function act.score(decisions, scores, decision, score)
  local known = redis.pcall('HEXISTS', decisions, decision)
  return known == 1 and redis.pcall('HSET', KEYS[scores], decision, score) or known
end

local acts = cjson.decode(ARGV[4])
local result = {outcome, last, memory}
local changed = false
for _, each in ipairs(acts) do
  local answer = act[each[1]](KEYS[each[2]], unpack(each, 3))
  if type(answer) == 'table' and answer.err then
    local of_the_value = string.find(answer.err, '^WRONGTYPE') or string.find(answer.err, ' not a')
      or string.find(answer.err, 'overflow') or string.find(answer.err, 'NaN')
    if not changed and not of_the_value then
      -- Redis takes no writes of this kind at all, as by its access rules.
      if before then
        redis.call('SET', KEYS[1], before, 'EX', ARGV[3])
      else
        redis.call('DEL', KEYS[1])
      end
      return redis.error_reply(answer.err)
    end
    table.insert(result, each[1] .. ' ' .. KEYS[each[2]] .. ': ' .. answer.err)
  else
    changed = true
  end
end
if kept then
  drop_oldest()
end
return result
