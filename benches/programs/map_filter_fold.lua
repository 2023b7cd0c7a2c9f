local function map(xs, f) local out = {} for i = 1, #xs do out[i] = f(xs[i]) end return out end
local function filter(xs, f) local out = {} for i = 1, #xs do if f(xs[i]) then out[#out + 1] = xs[i] end end return out end
local function fold(xs, initial, f) local total = initial for i = 1, #xs do total = f(total, xs[i]) end return total end
local xs = {}
for i = 0, 999999 do xs[#xs + 1] = i end
local began = os.clock()
print(fold(filter(map(xs, function(x) return x * 2 end), function(x) return x % 3 == 0 end), 0, function(total, x) return total + x end))
print(os.clock() - began)
