-- Closed loop: every connection sends the next request when its answer is there, and each answer's
-- body is looked at. BENCH_EXCHANGES names a file: for each request one line with its body, then the
-- texts that must all be in the answer to it and not in another's, parted by tabs. wrk does not say
-- to which request an answer belongs: one that fits any of them is right.

local requests, marks, threads = {}, {}, {}

function setup(thread)
  table.insert(threads, thread)
end

function init()
  right, empty, wrong, failed, turn = 0, 0, 0, 0, 0
  for line in io.lines(os.getenv("BENCH_EXCHANGES")) do
    local parts = {}
    for part in line:gmatch("[^\t]+") do
      table.insert(parts, part)
    end
    table.insert(requests, wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, table.remove(parts, 1)))
    table.insert(marks, parts)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

local function fits(body, texts)
  for _, text in ipairs(texts) do
    if not body:find(text, 1, true) then
      return false
    end
  end
  return true
end

function response(status, _, body)
  if status ~= 200 then
    failed = failed + 1
    return
  end
  for _, texts in ipairs(marks) do
    if fits(body, texts) then
      right = right + 1
      return
    end
  end
  if body:find('"modelResult":{}', 1, true) then
    empty = empty + 1
  else
    wrong = wrong + 1
  end
end

function done(summary, latency)
  local sum = { right = 0, wrong = 0, empty = 0, failed = 0 }
  for _, thread in ipairs(threads) do
    for name, value in pairs(sum) do
      sum[name] = value + thread:get(name)
    end
  end
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.stderr:write(string.format(
    '{"answers":%d,"wrong":%d,"empty":%d,"failed":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"longest_ms":%f}\n',
    sum.right, sum.wrong, sum.empty, sum.failed + broken, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
