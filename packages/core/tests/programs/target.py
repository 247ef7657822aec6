# SPDX-License-Identifier: BSD-3-Clause
"""A process to dump: four threads, 64 KiB that no core may hold, and proof that it runs on.

Prints "ready" when everything is set up; then answers each line on standard input with itself and
ends with the input.
"""

import mmap
import sys
import threading

SECRET = 65536


def main() -> None:
    secret = mmap.mmap(-1, SECRET, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    secret.madvise(mmap.MADV_DONTDUMP)
    # In small pieces, so that the whole is nowhere else in memory.
    for start in range(0, SECRET, 256):
        secret[start : start + 256] = b"\xa5" * 256
    end = threading.Event()
    for _ in range(3):
        threading.Thread(target=end.wait).start()
    print("ready", flush=True)
    for line in sys.stdin:
        print(line, end="", flush=True)
    end.set()


if __name__ == "__main__":
    main()
