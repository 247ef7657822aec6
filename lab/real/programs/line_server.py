# SPDX-License-Identifier: BSD-3-Clause
"""A server with threads: `line_server.py SOCKET WAITERS WORD`.

It answers each line by its digest, a thread for each connection, while other threads wait in calls
with and without timeouts. Anything that goes wrong in a thread ends the process.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socketserver
import sys
import threading
import traceback

STOP = threading.Event()


def wait_under_a_known_name(turn: int, word: str) -> None:
    """Wait for the end, by a lock, or by a lock with a timeout again and again."""
    kept = f"{word} of {turn}"
    if turn % 2:
        STOP.wait()
    while not STOP.wait(0.01):
        assert kept.startswith(word)


class Lines(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        """Answer lines until the client goes."""
        for line in self.rfile:
            self.wfile.write(hashlib.sha256(line).hexdigest().encode() + b"\n")


class Server(socketserver.ThreadingUnixStreamServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """A handler failed."""
        fail()


def fail(*_: object) -> None:
    """Say what went wrong and end with 1."""
    traceback.print_exc()
    os._exit(1)


def end_when_asked(server: Server) -> None:
    """Wait for the end, then bring it about."""
    STOP.wait()
    server.shutdown()


def serve_until_asked_to_end(path: str) -> None:
    """Serve until SIGTERM comes."""
    with Server(path, Lines) as server:
        threading.Thread(target=end_when_asked, args=(server,)).start()
        print("ready", flush=True)
        server.serve_forever()


def main() -> None:
    """Start the threads, then serve."""
    threading.excepthook = fail
    path, waiters, word = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    threads = [
        threading.Thread(target=wait_under_a_known_name, args=(turn, word))
        for turn in range(int(waiters))
    ]
    for thread in threads:
        thread.start()
    serve_until_asked_to_end(path)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
