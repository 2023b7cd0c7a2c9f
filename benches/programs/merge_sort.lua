local function merge(xs, ys)
  local out, i, j = {}, 1, 1
  while i <= #xs and j <= #ys do
    if xs[i] <= ys[j] then
      out[#out + 1] = xs[i]
      i = i + 1
    else
      out[#out + 1] = ys[j]
      j = j + 1
    end
  end
  while i <= #xs do out[#out + 1] = xs[i]; i = i + 1 end
  while j <= #ys do out[#out + 1] = ys[j]; j = j + 1 end
  return out
end
local function slice(xs, from, to) return table.move(xs, from, to, 1, {}) end
local function sorted(xs)
  local n = #xs
  if n < 2 then return xs end
  local half = n // 2
  return merge(sorted(slice(xs, 1, half)), sorted(slice(xs, half + 1, n)))
end
local seed, xs = 42, {}
for _ = 1, 200000 do
  seed = (seed * 1103515245 + 12345) % 2147483648
  xs[#xs + 1] = seed
end
local began = os.clock()
local ys = sorted(xs)
print(ys[1] .. " " .. ys[100001] .. " " .. ys[200000])
print(os.clock() - began)
