import time
def merge(xs, ys):
    out, i, j = [], 0, 0
    while i < len(xs) and j < len(ys):
        if xs[i] <= ys[j]:
            out.append(xs[i]); i += 1
        else:
            out.append(ys[j]); j += 1
    while i < len(xs): out.append(xs[i]); i += 1
    while j < len(ys): out.append(ys[j]); j += 1
    return out
def sorted_(xs):
    n = len(xs)
    if n < 2: return xs
    half = n // 2
    return merge(sorted_(xs[:half]), sorted_(xs[half:]))
seed, xs = 42, []
for _ in range(200000):
    seed = (seed * 1103515245 + 12345) % 2147483648
    xs.append(seed)
began = time.perf_counter()
ys = sorted_(xs)
print(ys[0], ys[100000], ys[199999])
print(time.perf_counter() - began)
