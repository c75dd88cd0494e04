-- wrk's request and its report. BENCH_BODY: the file with the body; BENCH_HEADERS: a header a line;
-- BENCH_KEYS: a file of virtual keys, a line each, that take turns.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
for name, value in string.gmatch(os.getenv("BENCH_HEADERS") or "", "([^:\n]+):%s*([^\n]*)") do
  wrk.headers[name] = value
end
local body = assert(io.open(os.getenv("BENCH_BODY"), "rb"))
wrk.body = body:read("*a")
body:close()

if os.getenv("BENCH_KEYS") then
  local prepared, turn = {}, 0
  init = function()
    for key in io.lines(os.getenv("BENCH_KEYS")) do
      wrk.headers["Authorization"] = "Bearer " .. key
      prepared[#prepared + 1] = wrk.format()
    end
  end
  request = function()
    turn = turn % #prepared + 1
    return prepared[turn]
  end
end

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
