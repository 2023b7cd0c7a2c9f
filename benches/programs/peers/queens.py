import time
def safe(queens, row, column):
    for r in range(row):
        c = queens[r]
        if c == column or c - column == r - row or c - column == row - r: return False
    return True
def place(queens, row, n):
    if row == n: return 1
    found = 0
    for column in range(n):
        if safe(queens, row, column):
            queens[row] = column
            found += place(queens, row + 1, n)
    return found
began = time.perf_counter()
print(place([0] * 9, 0, 9))
print(time.perf_counter() - began)
