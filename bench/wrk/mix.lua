-- wrk's script of `npm run load`: sends the requests that mix.mjs has prepared, picks them by their shares, checks each
-- answer, and counts for each row. A thread has one connection, so an answer belongs to the request before it: wrk does
-- not say to which request an answer belongs. Arguments: the folder of the prepared requests, how many threads there are,
-- how many requests a second are wanted (0: as many as are answered), and whether each row is sent once first.
local ffi = require("ffi")
ffi.cdef("typedef struct { long seconds; long nanoseconds; } load_time; int clock_gettime(int clock, load_time *at);")

local CLOCK_MONOTONIC = 1
-- An answer that takes longer, in microseconds, is none. wrk gets the same as its --timeout.
local TIMEOUT = 10e6
-- Each bucket of latencies is so much wider than the one before: judge.mjs knows it.
local WIDTH = math.log(1.01)
local BUCKETS = 1700
-- What is counted of a row, before its buckets.
local GOOD, BAD, LOST, MAX, COUNTS = 0, 1, 2, 3, 4
local STRIDE = COUNTS + BUCKETS
-- So many failures are shown, of each thread and in all, and so much of their bodies.
local SHOWN, BODY = 5, 2000

local moment = ffi.new("load_time")

local function now()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, moment)
  return tonumber(moment.seconds) * 1e6 + tonumber(moment.nanoseconds) / 1e3
end

-- A text of any bytes in JSON; only the codes of a body are looked for later.
local function json(text)
  local escaped = text:gsub('[%c"\\\127-\255]', function(char) return ("\\u%04x"):format(char:byte()) end)
  return '"' .. escaped .. '"'
end

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
  thread:set("number", #threads)
end

local thread_count, rows, slots, once = 0, nil, {}, {}
local interval, due, is_waited = 0, nil, false
local is_probed, swept = false, nil
local current, begun = nil, 0

-- A thread's lines of a file: they are sent once each, so no two threads have the same. The file is closed, since wrk can
-- use no descriptor above ten and three for each connection.
local function own_lines(path)
  local lines, at = {}, 0
  for line in io.lines(path) do
    at = at + 1
    if at % thread_count == number % thread_count then lines[#lines + 1] = line end
  end
  return lines
end

function init(args)
  local folder, rate = args[1], tonumber(args[3])
  thread_count = tonumber(args[2])
  local random = assert(io.open("/dev/urandom", "rb"))
  local a, b, c, d = random:read(4):byte(1, 4)
  random:close()
  math.randomseed(((a * 256 + b) * 256 + c) * 256 + d)
  rows = dofile(folder .. "/requests.lua")
  -- What is handed to done(): numbers, texts and flat tables can be, so the counts go by their address.
  counts = ffi.new("uint32_t[?]", #rows * STRIDE)
  address, row_count = tonumber(ffi.cast("intptr_t", counts)), #rows
  failures, marks = {}, { open = 0 }
  for index, row in ipairs(rows) do
    for _ = 1, row.share do slots[#slots + 1] = index end
    if row.once then once[index] = own_lines(folder .. "/" .. row.once) end
  end
  swept = args[4] == "sweep" and number or #rows + 1
  if rate > 0 then
    interval = thread_count * 1e6 / rate
    -- wrk asks for the delay only where this is defined.
    delay = function()
      -- The threads begin one after the other.
      due = due and due + interval or now() + interval * (number - 1) / thread_count
      is_waited = true
      return math.max(0, math.ceil((due - now()) / 1000))
    end
  end
end

local function random_hex()
  local part = function() return ("%06x"):format(math.random(0, 0xffffff)) end
  return part() .. part() .. part() .. part()
end

local function picked()
  local index
  if swept <= #rows then
    index = swept
    swept = swept + thread_count
  else
    index = slots[math.random(#slots)]
  end
  local text
  if once[index] then
    text = table.remove(once[index])
    -- The first row stands in for one that is used up.
    if text then text = text:gsub("\1", "\r\n") else index = 1 end
  end
  text = text or rows[index].requests[math.random(#rows[index].requests)]
  return index, (text:gsub("@@@@@@@@@@@@@@@@@@@@@@@@", random_hex()))
end

local function count(index, what)
  local place = (index - 1) * STRIDE + what
  counts[place] = counts[place] + 1
end

function request()
  -- Before it starts, wrk asks the first thread for a request that it does not send.
  if number == 1 and not is_probed then
    is_probed = true
    return rows[1].requests[1]
  end
  if current then
    count(current, LOST)
    marks.last = now()
  end
  local index, text = picked()
  begun = now()
  if interval > 0 then
    -- A request counts from when it was due, so that a service that stalls is not asked less.
    due = due and (is_waited and due or due + interval) or begun
    is_waited = false
    begun = math.min(begun, due)
  end
  marks.first = marks.first or begun
  marks.open = 1
  current = index
  return text
end

function response(status, headers, body)
  if not current then return end
  local index, ended = current, now()
  local took = ended - begun
  local row = rows[index]
  local is_good = status == row.status and took <= TIMEOUT and (not row.holds or body:find(row.holds, 1, true) ~= nil)
  count(index, is_good and GOOD or BAD)
  if not is_good and #failures < SHOWN then
    failures[#failures + 1] = ('{"row":%d,"status":%d,"body":%s}'):format(index, status, json(body:sub(1, BODY)))
  end
  local bucket = math.floor(math.log(math.max(1, took)) / WIDTH)
  count(index, COUNTS + math.min(bucket, BUCKETS - 1))
  local longest = (index - 1) * STRIDE + MAX
  counts[longest] = math.max(counts[longest], took)
  marks.last = ended
  marks.open = 0
  current = nil
end

function done(summary, latency, requests)
  local lines, sums, first, last, open = {}, {}, math.huge, 0, 0
  for _, thread in ipairs(threads) do
    local own, memory = thread:get("marks"), ffi.cast("uint32_t *", thread:get("address"))
    first, last, open = math.min(first, own.first or math.huge), math.max(last, own.last or 0), open + own.open
    for _, failure in ipairs(thread:get("failures")) do
      if #lines < SHOWN then lines[#lines + 1] = failure end
    end
    for index = 1, thread:get("row_count") do
      sums[index] = sums[index] or { [MAX] = 0 }
      local sum, start = sums[index], (index - 1) * STRIDE
      sum[MAX] = math.max(sum[MAX], memory[start + MAX])
      for place = 0, STRIDE - 1 do
        if place ~= MAX and memory[start + place] > 0 then sum[place] = (sum[place] or 0) + memory[start + place] end
      end
    end
  end
  local all = {}
  for index, sum in ipairs(sums) do
    local hist = {}
    for bucket = 0, BUCKETS - 1 do
      local seen = sum[COUNTS + bucket]
      if seen then hist[#hist + 1] = ('"%d":%d'):format(bucket, seen) end
    end
    all[index] = ('{"good":%d,"bad":%d,"lost":%d,"max":%d,"hist":{%s}}'):format(
      sum[GOOD] or 0, sum[BAD] or 0, sum[LOST] or 0, sum[MAX], table.concat(hist, ","))
  end
  local errors = summary.errors
  local form = '\nRESULT {"rows":[%s],"failures":[%s],"seconds":%.6f,"open":%d,"connect":%d,"wrk":{"requests":%d,"timeout":%d}}'
  print(form:format(table.concat(all, ","), table.concat(lines, ","), math.max(0, last - first) / 1e6, open, errors.connect, summary.requests, errors.timeout))
end
