import time
names = [f"group {i}" for i in range(100)]
began = time.perf_counter()
rows = [{"id": i, "group": names[i % 100], "amount": i % 1000} for i in range(200000)]
groups = {}
for row in rows:
    groups.setdefault(row["group"], []).append(row)
total = 0
for members in groups.values():
    for row in members:
        total += row["amount"]
print(total)
print(time.perf_counter() - began)
