"""What the Redis store runs inside the server: decide a batch of requests and add usage, in one step.

One call decides all requests that wait in a replica, so that thousands of requests a second need few round trips;
and as Redis runs one script at a time, all replicas together take exactly what a limit allows. Time is Redis' own:
replicas need no clocks that agree. A command inside the script costs more than its arithmetic, so what a batch needs
is read at once, and most keys then need one command more.

Keys (``P`` is the prefix, in braces, so that all are in one slot of a Redis Cluster):

- ``P:n:ID`` the last minute of a key in slots of 100 ms: "sum, oldest slot, newest slot, count of the newest";
  ``P:w:ID`` list of the slots before the newest, "slot count", oldest first, used only when a slot begins or leaves.
  The same window as :class:`deepseek.serving.access.window.SlidingWindow`.
- ``P:d:DAY`` hash: ``r ID`` rows and ``t ID`` tokens taken of the day's limits.
- ``P:u:DAY`` hash: "ID MODEL" → "requests rows input-tokens output-tokens refused"; the usage.
- ``P:s:REPLICA`` the number of the last usage that a replica added. When the answer to a call is lost, nobody knows
  whether it ran; the same usage is then sent again under the same number, and counts once.

A clock that is set back (Redis' machine's): slots that lie in the future are moved to now, so the requests in them
count for one minute more; days keep their totals.
"""

DAY_KEEPS_SECONDS = 8 * 86_400
REPLICA_KEEPS_SECONDS = 8 * 86_400

MOST_REQUESTS = 1024
"""Requests in one call."""
MOST_USAGE = 1024
"""Rows of usage in one call; Lua passes at most some 8,000 arguments to a command."""

# KEYS[1]: the prefix. ARGV[1], MessagePack: [replica, number of the usage, usage, seconds to keep usage, groups];
# usage: [day, ID, model, requests, rows, input tokens, output tokens, refused]; groups, one a key: [ID, requests a
# minute, rows a day, tokens a day (each -1: unlimited), [rows of each request]]. Answer, MessagePack: [milliseconds
# to the next day, groups]; groups: [outcome of each request, milliseconds until the minute has room, requests, rows,
# tokens used]. Outcomes: 0 admitted, 1 minute, 2 rows, 3 tokens.
SCRIPT = (
    f"local DAY_KEEPS, REPLICA_KEEPS = {DAY_KEEPS_SECONDS}, {REPLICA_KEEPS_SECONDS}"
    + """
local WINDOW, SLOT = 60000, 100
local P = KEYS[1]
local replica, number, usage, keep, groups = unpack(cmsgpack.unpack(ARGV[1]))
local format, match, floor = string.format, string.match, math.floor

local function add(place, fields, increments, keeps)
  local old = redis.call('HMGET', place, unpack(fields))
  local values = {}
  for i, field in ipairs(fields) do
    local sums = {}
    for part in string.gmatch(old[i] or '', '%d+') do sums[#sums + 1] = tonumber(part) end
    for j, more in ipairs(increments[i]) do sums[j] = format('%.0f', (sums[j] or 0) + more) end
    values[2 * i - 1], values[2 * i] = field, table.concat(sums, ' ')
  end
  redis.call('HSET', place, unpack(values))
  redis.call('EXPIRE', place, keeps)
end

local sent = P .. ':s:' .. replica
if #usage > 0 and tonumber(redis.call('GET', sent) or '0') < number then
  local days = {}
  for _, row in ipairs(usage) do
    local day = days[row[1]] or {fields = {}, counts = {}, keys = {}, tokens = {}, places = {}}
    days[row[1]] = day
    day.fields[#day.fields + 1] = row[2] .. ' ' .. row[3]
    day.counts[#day.counts + 1] = {row[4], row[5], row[6], row[7], row[8]}
    local tokens = row[6] + row[7]
    if tokens > 0 then
      local place = day.places[row[2]]
      if place then
        day.tokens[place][1] = day.tokens[place][1] + tokens
      else
        place = #day.keys + 1
        day.places[row[2]], day.keys[place], day.tokens[place] = place, 't ' .. row[2], {tokens}
      end
    end
  end
  for day, found in pairs(days) do
    add(P .. ':u:' .. day, found.fields, found.counts, keep)
    if #found.keys > 0 then add(P .. ':d:' .. day, found.keys, found.tokens, DAY_KEEPS) end
  end
  redis.call('SET', sent, number, 'EX', REPLICA_KEEPS)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local slot, today = floor(now / SLOT), floor(now / 86400000)
local day = P .. ':d:' .. today

local states, totals = {}, {}
for i, group in ipairs(groups) do
  states[i], totals[2 * i - 1], totals[2 * i] = P .. ':n:' .. group[1], 'r ' .. group[1], 't ' .. group[1]
end
if #groups > 0 then
  states, totals = redis.call('MGET', unpack(states)), redis.call('HMGET', day, unpack(totals))
end

local function leaves(from) return (from + 1) * SLOT + WINDOW end

local answer, taken = {}, {}
for i, group in ipairs(groups) do
  local id, most_requests, most_rows, most_tokens, asked = unpack(group)
  local rows, tokens = tonumber(totals[2 * i - 1] or '0'), tonumber(totals[2 * i] or '0')
  local list, changed = P .. ':w:' .. id, false
  local sum, oldest, newest, count = match(states[i] or '0 0 0 0', '(%d+) (%d+) (%d+) (%d+)')
  sum, oldest, newest, count = tonumber(sum), tonumber(oldest), tonumber(newest), tonumber(count)

  if most_requests >= 0 then
    if sum > 0 and newest > slot then
      redis.call('DEL', list)
      oldest, newest, count, changed = slot, slot, sum, true
    end
    while sum > 0 and leaves(oldest) <= now do
      changed = true
      local gone = oldest < newest and redis.call('LPOP', list)
      if gone then
        sum = sum - tonumber(match(gone, '%d+$'))
        oldest = tonumber(match(redis.call('LINDEX', list, 0) or format('%.0f', newest), '^%d+'))
      else
        sum = 0
      end
    end
  end

  local outcomes, admitted, wanted = {}, 0, 0
  for j, more in ipairs(asked) do
    if most_rows >= 0 and rows + wanted + more > most_rows then outcomes[j] = 2
    elseif most_tokens >= 0 and tokens >= most_tokens then outcomes[j] = 3
    elseif most_requests >= 0 and sum + admitted >= most_requests then outcomes[j] = 1
    else
      outcomes[j] = 0
      admitted, wanted = admitted + 1, wanted + more
    end
  end
  if wanted > 0 then
    rows = rows + wanted
    taken[#taken + 1], taken[#taken + 2] = 'r ' .. id, format('%.0f', rows)
  end

  if most_requests >= 0 then
    if admitted > 0 then
      if sum == 0 then
        redis.call('DEL', list)
        oldest, newest, count = slot, slot, 0
      elseif newest < slot then
        redis.call('RPUSH', list, format('%.0f %.0f', newest, count))
        redis.call('PEXPIRE', list, WINDOW + 2 * SLOT)
        newest, count = slot, 0
      end
      sum, count = sum + admitted, count + admitted
    end
    if admitted > 0 or changed then
      local state = format('%.0f %.0f %.0f %.0f', sum, oldest, newest, count)
      redis.call('SET', P .. ':n:' .. id, state, 'PX', WINDOW + 2 * SLOT)
    end
  end
  answer[i] = {outcomes, sum > 0 and leaves(oldest) - now or 0, sum, rows, tokens}
end
if #taken > 0 then
  redis.call('HSET', day, unpack(taken))
  redis.call('EXPIRE', day, DAY_KEEPS)
end
return cmsgpack.pack({(today + 1) * 86400000 - now, answer})
"""
)

# KEYS: keys, changed, seq. ARGV: id, the record as it was ("" for a new one), the record as it is to be. Answer: 1,
# or 0 if the record is not as it was.
SAVE = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[3]), ARGV[1])
return 1
"""
