local function safe(queens, row, column)
  for r = 0, row - 1 do
    local c = queens[r]
    if c == column or c - column == r - row or c - column == row - r then return false end
  end
  return true
end
local function place(queens, row, n)
  if row == n then return 1 end
  local found = 0
  for column = 0, n - 1 do
    if safe(queens, row, column) then
      queens[row] = column
      found = found + place(queens, row + 1, n)
    end
  end
  return found
end
local began = os.clock()
print(place({}, 0, 9))
print(os.clock() - began)
