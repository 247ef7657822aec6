# SPDX-License-Identifier: BSD-3-Clause
"""A client of line_server.py: `client.py SOCKET SECONDS CONNECTIONS`.

Each connection, a thread, sends a line, waits for the answer, compares it, and sends the next. At
the end it prints {"requests", "seconds", "slowest_ms", "errors"}.
"""

from __future__ import annotations

import hashlib
import json
import socket
import sys
import threading
import time


class Connection(threading.Thread):
    """One of them, with what it saw."""

    def __init__(self, path: str, end: float, number: int) -> None:
        super().__init__()
        self.path, self.end, self.number = path, end, number
        self.requests = 0
        self.slowest = 0.0
        self.error: str | None = None

    def run(self) -> None:
        """Ask until the time is over, or something goes wrong."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(30)
                connection.connect(self.path)
                self._ask(connection)
        except (OSError, AssertionError) as error:
            self.error = f"{type(error).__name__}: {error}"

    def _ask(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as answers:
            while (begin := time.monotonic()) < self.end:
                line = f"{self.number} asks for {self.requests}\n".encode()
                connection.sendall(line)
                answer = answers.readline().decode().rstrip("\n")
                if answer != hashlib.sha256(line).hexdigest():
                    raise AssertionError(f"{answer!r} is no answer to {line!r}")
                self.slowest = max(self.slowest, time.monotonic() - begin)
                self.requests += 1


def main() -> None:
    """Ask by all connections, then tell."""
    path, seconds, number = sys.argv[1:]
    begin = time.monotonic()
    connections = [Connection(path, begin + float(seconds), i) for i in range(int(number))]
    for connection in connections:
        connection.start()
    for connection in connections:
        connection.join()
    told = {
        "requests": sum(connection.requests for connection in connections),
        "seconds": time.monotonic() - begin,
        "slowest_ms": 1e3 * max(connection.slowest for connection in connections),
        "errors": [connection.error for connection in connections if connection.error],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
