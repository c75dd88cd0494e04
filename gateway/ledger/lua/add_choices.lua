-- Adds what a worker has chosen to a held share, once, and tells what all workers have chosen.
--
-- KEYS[1]  hash: `requests`, `expensive` and `debt`
-- KEYS[2]  hash: counts by bucket of the scores of this generation, and `requests` and `expensive` of it
-- KEYS[3]  the same of the generation before
-- KEYS[4]  the number of the last choices of this worker that were added
-- ARGV[1]  the number of these, ARGV[2] seconds for which it is remembered
-- ARGV[3]  the choices as JSON: {requests, expensive, debt, {bucket, count, ...}}; empty for none
-- ARGV[4]  how many requests make a generation, ARGV[5] the most debt
-- ARGV[6]  `recent`: tell the generations, too
--
-- Returns {requests, expensive, debt}, and both generations as flat lists where they are asked for.

if ARGV[3] ~= '' and redis.call('GET', KEYS[4]) ~= ARGV[1] then
  local requests, expensive, debt, scores = unpack(cjson.decode(ARGV[3]))
  redis.call('SET', KEYS[4], ARGV[1], 'EX', ARGV[2])
  redis.call('HINCRBY', KEYS[1], 'requests', requests)
  redis.call('HINCRBY', KEYS[1], 'expensive', expensive)
  local most = tonumber(ARGV[5])
  local owed = tonumber(redis.call('HINCRBYFLOAT', KEYS[1], 'debt', debt))
  if owed > most or owed < -most then
    redis.call('HSET', KEYS[1], 'debt', owed > 0 and most or -most)
  end
  redis.call('HINCRBY', KEYS[2], 'expensive', expensive)
  for i = 1, #scores, 2 do
    redis.call('HINCRBY', KEYS[2], scores[i], scores[i + 1])
  end
  if redis.call('HINCRBY', KEYS[2], 'requests', requests) >= tonumber(ARGV[4]) then
    redis.call('RENAME', KEYS[2], KEYS[3])
  end
end

local known = redis.call('HMGET', KEYS[1], 'requests', 'expensive', 'debt')
local result = {known[1] or '0', known[2] or '0', known[3] or '0'}
if ARGV[6] == 'recent' then
  table.insert(result, redis.call('HGETALL', KEYS[2]))
  table.insert(result, redis.call('HGETALL', KEYS[3]))
end
return result
