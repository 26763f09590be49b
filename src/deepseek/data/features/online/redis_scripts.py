"""What the Redis store runs inside the server, so that comparing and writing are one step."""

# KEYS: state, then keys to remove, then keys of records. ARGV: expected sequence or -1, milliseconds to live or 0, how
# many keys to remove, then the records. Bytes are compared one by one: Lua's comparison follows the server's locale.
MERGE = """
local function greater(a, b)
  local shared = math.min(#a, #b)
  for i = 1, shared do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return #a > #b
end
local expected, live, removals = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if expected >= 0 then
  local found = tonumber(redis.call('HGET', KEYS[1], 'sequence') or '0')
  if found ~= expected then return -1 - found end
end
local changed = 0
for i = 1, removals do changed = changed + redis.call('DEL', KEYS[1 + i]) end
for i = 2 + removals, #KEYS do
  local record = ARGV[i + 2 - removals]
  local old = redis.call('GET', KEYS[i])
  if not old or greater(record, old) then
    if live > 0 then redis.call('SET', KEYS[i], record, 'PX', live) else redis.call('SET', KEYS[i], record) end
    changed = changed + 1
  end
end
return changed
"""

# KEYS: state, the set of spaces. ARGV: expected sequence or -1, sequence, progress, the space's name.
ADVANCE = """
redis.call('SADD', KEYS[2], ARGV[4])
if tonumber(ARGV[1]) < 0 then return 0 end
local found = tonumber(redis.call('HGET', KEYS[1], 'sequence') or '0')
if found ~= tonumber(ARGV[1]) then return -1 - found end
redis.call('HSET', KEYS[1], 'sequence', ARGV[2], 'progress', ARGV[3])
return 0
"""
