local began = os.clock()
local map, count = {}, 0
for i = 0, 99999 do map["key" .. i] = i count = count + 1 end
local sum = 0
for i = 0, 99999 do sum = sum + map["key" .. i * 7 % 100000] end
print(count .. " " .. sum)
print(os.clock() - began)
