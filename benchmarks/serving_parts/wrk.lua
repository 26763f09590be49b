-- Posts the same body, or several in turn, and prints what was found as one line of JSON.
-- The argument is a file of settings, which is Lua itself (see wrk.py).
-- With `expected`, every answer is compared; that costs time, so it is done in the warm-up alone.

local given = nil
local threads = {}
wrong = 0
next_body = 0

local function read(name)
  local file = assert(io.open(name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  given = dofile(arguments[1])
  wrk.method, wrk.path = "POST", given.path
  for name, value in pairs(given.headers) do wrk.headers[name] = value end -- wrk has put Host there
  if #given.bodies == 1 then
    wrk.body = read(given.bodies[1]) -- without a function `request`, wrk sends the same bytes again and again
  else
    local requests = {}
    for at, name in ipairs(given.bodies) do
      requests[at] = wrk.format(nil, nil, nil, read(name))
    end
    request = function()
      next_body = next_body % #requests + 1
      return requests[next_body]
    end
  end
  if given.expected then
    local expected = read(given.expected)
    response = function(status, headers, body)
      if status ~= 200 or body ~= expected then wrong = wrong + 1 end
    end
  end
end

function done(summary, latency, requests)
  local total = 0
  for _, thread in ipairs(threads) do total = total + thread:get("wrong") end
  local errors = summary.errors
  io.write(string.format(
    '\nFOUND {"requests": %d, "microseconds": %d, "bytes": %d, "wrong": %d, "unanswered": %d, "refused": %d, ' ..
    '"p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, summary.bytes, total,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status,
    latency:percentile(50), latency:percentile(99)))
end
