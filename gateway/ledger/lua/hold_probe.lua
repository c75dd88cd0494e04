-- Puts off the time at which a worker's leave to try a model lapses, or gives it back.
--
-- KEYS[1]  the worker that tries the model
-- ARGV[1]  this worker; another one's leave stays as it is
-- ARGV[2]  milliseconds from now until it lapses; 0 gives it back
--
-- Returns 1 where it is this worker's, else 0.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
