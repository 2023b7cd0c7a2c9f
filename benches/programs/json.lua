-- Lua has no library for it: a parser by patterns, as its own are written.
local escapes = {['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t"}
local find, sub, byte = string.find, string.sub, string.byte
local value
local function text_at(s, at)
  local parts, from = nil, at
  while true do
    local stop = find(s, '["\\]', from)
    if byte(s, stop) == 34 then
      local last = sub(s, at, stop - 1)
      if parts then return table.concat(parts) .. last, stop + 1 end
      return last, stop + 1
    end
    parts = parts or {}
    parts[#parts + 1] = sub(s, at, stop - 1)
    local c = sub(s, stop + 1, stop + 1)
    if c == "u" then
      parts[#parts + 1] = utf8.char(tonumber(sub(s, stop + 2, stop + 5), 16))
      at = stop + 6
    else
      parts[#parts + 1] = escapes[c]
      at = stop + 2
    end
    from = at
  end
end
local function skip(s, at) return find(s, "[^ \n\r\t]", at) end
function value(s, at)
  at = skip(s, at)
  local c = byte(s, at)
  if c == 123 then
    local out = {}
    at = skip(s, at + 1)
    if byte(s, at) == 125 then return out, at + 1 end
    while true do
      local name
      name, at = text_at(s, skip(s, at) + 1)
      at = skip(s, at)
      out[name], at = value(s, at + 1)
      at = skip(s, at)
      if byte(s, at) == 125 then return out, at + 1 end
      at = at + 1
    end
  elseif c == 91 then
    local out, n = {}, 0
    at = skip(s, at + 1)
    if byte(s, at) == 93 then return out, at + 1 end
    while true do
      n = n + 1
      out[n], at = value(s, at)
      at = skip(s, at)
      if byte(s, at) == 93 then return out, at + 1 end
      at = at + 1
    end
  elseif c == 34 then
    return text_at(s, at + 1)
  elseif c == 116 then return true, at + 4
  elseif c == 102 then return false, at + 5
  elseif c == 110 then return nil, at + 4
  end
  local from, to = find(s, "^-?%d+%.?%d*[eE]?[-+]?%d*", at)
  return tonumber(sub(s, from, to)), to + 1
end
local parts = {}
for i = 0, 49999 do
  parts[#parts + 1] = string.format('{"id":%d,"name":"name %d","tags":["a","b","c%d"],"nested":{"x":%.1f,"ok":%s,"none":null}}', i, i, i % 10, i * 0.5, i % 2 == 0)
end
local text = "[" .. table.concat(parts, ",") .. "]"
local began = os.clock()
local rows = value(text, 1)
local total = 0
for _, r in ipairs(rows) do total = total + r.id + #r.tags end
print(#rows .. " " .. total)
print(os.clock() - began)
