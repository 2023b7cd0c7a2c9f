local function make(depth)
  if depth == 0 then return {left = nil, right = nil} end
  return {left = make(depth - 1), right = make(depth - 1)}
end
local function count(tree)
  if tree.left == nil then return 1 end
  return 1 + count(tree.left) + count(tree.right)
end
local function repeated(depth, times)
  local total = 0
  for _ = 1, times do total = total + count(make(depth)) end
  return total
end
local depth = 14
local began = os.clock()
print(count(make(depth + 1)))
local long_lived = make(depth)
local d = 4
while d <= depth do
  local times = 1 << (depth - d + 4)
  print(times .. " trees of depth " .. d .. ": " .. repeated(d, times))
  d = d + 2
end
print(count(long_lived))
print(os.clock() - began)
