-- Notes how good the answer was that came of a decision of a routing policy.
--
-- KEYS[1]  the hash of the decisions that are kept
-- KEYS[2]  the hash of their scores
-- ARGV[1]  the decision
-- ARGV[2]  the score, 0 to 1; the last one counts
--
-- Returns 1, or 0 where the decision is not kept, and nothing has changed.

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
