import time
began = time.perf_counter()
m = {}
for i in range(100000): m[f"key{i}"] = i
total = 0
for i in range(100000): total += m[f"key{i * 7 % 100000}"]
print(len(m), total)
print(time.perf_counter() - began)
