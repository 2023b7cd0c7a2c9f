import time
names = [f"word{i}" for i in range(1000)]
began = time.perf_counter()
# A string that grows by `+=` is copied each time: parts in a list, joined, is Python's way.
parts, length, n = [], 0, 0
while length < 1000000:
    part = names[n * 7919 % 1000] + " "
    parts.append(part)
    length += len(part)
    n += 1
text = "".join(parts)
counts = {}
for word in text.split(" "):
    if word != "":
        counts[word] = counts.get(word, 0) + 1
print(f"{n} {len(counts)} {counts['word7']}")
print(time.perf_counter() - began)
