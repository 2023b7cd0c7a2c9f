import time
def make(depth): return {"left": None, "right": None} if depth == 0 else {"left": make(depth - 1), "right": make(depth - 1)}
def count(tree): return 1 if tree["left"] is None else 1 + count(tree["left"]) + count(tree["right"])
def repeated(depth, times): return sum(count(make(depth)) for _ in range(times))
depth = 14
began = time.perf_counter()
print(count(make(depth + 1)))
long_lived = make(depth)
for d in range(4, depth + 1, 2):
    times = 1 << (depth - d + 4)
    print(times, "trees of depth", d, repeated(d, times))
print(count(long_lived))
print(time.perf_counter() - began)
