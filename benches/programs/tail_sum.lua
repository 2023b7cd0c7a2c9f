local function sum_to(n, total) if n == 0 then return total else return sum_to(n - 1, total + n) end end
local began = os.clock()
print(sum_to(10000000, 0))
print(os.clock() - began)
