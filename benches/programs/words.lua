local names = {}
for i = 0, 999 do names[i] = "word" .. i end
local began = os.clock()
-- A string that grows by `..` is copied each time: parts in a table, joined, is Lua's way.
local parts, length, n = {}, 0, 0
while length < 1000000 do
  local part = names[n * 7919 % 1000] .. " "
  parts[#parts + 1] = part
  length = length + #part
  n = n + 1
end
local text = table.concat(parts)
local counts, different = {}, 0
for word in text:gmatch("[^ ]+") do
  local count = counts[word]
  if not count then different = different + 1 end
  counts[word] = (count or 0) + 1
end
print(n .. " " .. different .. " " .. counts.word7)
print(os.clock() - began)
