"""Reads an event stream from standard input; prints how many events came and by how many milliseconds the latest was late."""
import os
import time

count, late, rest = 0, 0.0, b""
while piece := os.read(0, 65536):
    now = time.time()
    *lines, rest = (rest + piece).split(b"\n")
    for line in lines:
        if line.startswith(b"data: "):
            count += 1
            late = max(late, now - float(line[6:]))
print(count, int(late * 1000))
