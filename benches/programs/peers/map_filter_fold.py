import time
from functools import reduce
xs = list(range(1000000))
began = time.perf_counter()
print(reduce(lambda total, x: total + x, filter(lambda x: x % 3 == 0, map(lambda x: x * 2, xs)), 0))
print(time.perf_counter() - began)
