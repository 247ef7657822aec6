# SPDX-License-Identifier: BSD-3-Clause
"""A small program to dump: eight named threads that work and check themselves.

It talks over its pipes, one line each way. On stdout it says `ready`, then answers each line it
reads: `status` by the counters of its threads, `dump PATH` by a dump of itself, anything else (or
the end of input) by its verdict, and it ends. Only the standard library is needed, but for `dump`.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

THREADS = 8
PAGE = 4096
MEMORY = 32 << 20
_BLOCK = b"coresnap" * 4096


@dataclass
class Worker:
    """One thread's work: `count` steps done, `total` the sum 1 + 2 + … + count, `faults` found."""

    name: str
    step: Callable[[], bool]
    count: int = 0
    total: int = 0
    faults: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; note every step that gave a wrong answer."""
        name_thread(self.name)
        while not stop.is_set():
            try:
                good = self.step()
            except OSError as error:
                self.faults.append(f"{self.name}: {error}")
                return
            if not good:
                self.faults.append(f"{self.name}: wrong answer in step {self.count + 1}")
            self.count += 1
            self.total += self.count

    def check(self) -> list[str]:
        """The faults, also those that show in the totals."""
        if self.total != self.count * (self.count + 1) // 2:
            return [*self.faults, f"{self.name}: {self.count} steps, but the sum is {self.total}"]
        return self.faults


def name_thread(name: str) -> None:
    """Give the calling thread a name that ps, gdb and cores show."""
    Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)


def hash_step(expected: str) -> bool:
    """Hash a block; hashlib lets other threads run meanwhile."""
    return hashlib.sha256(_BLOCK).hexdigest() == expected


def sleep_step() -> bool:
    """Sleep for 2 ms in clock_nanosleep."""
    begin = time.monotonic()
    time.sleep(0.002)
    return time.monotonic() - begin >= 0.002


def poll_step(poller: select.epoll) -> bool:
    """Wait in epoll_wait for an event that never comes."""
    return poller.poll(0.003) == []


def pipe_step(reader: int, writer: int) -> bool:
    """Send a message through a pipe and read it back."""
    os.write(writer, b"0123456789abcdef")
    return os.read(reader, 16) == b"0123456789abcdef"


def memory_step(memory: bytearray, state: list[int]) -> bool:
    """Check the mark of one page and write the next."""
    page, mark = state
    good = memory[page * PAGE] == mark
    page += 1
    if page * PAGE == len(memory):
        page, mark = 0, (mark + 1) % 256
    memory[page * PAGE] = mark
    state[:] = [page, mark]
    return good


def make_workers() -> list[Worker]:
    """Seven workers; the main thread is the eighth."""
    expected = hashlib.sha256(_BLOCK).hexdigest()
    memory = bytearray(os.urandom(PAGE) * (MEMORY // PAGE))
    memory[0] = 1
    state = [0, 1]
    idle_reader, _idle_writer = os.pipe()
    poller = select.epoll()
    poller.register(idle_reader, select.EPOLLIN)
    reader, writer = os.pipe()
    return [
        Worker("hash-one", lambda: hash_step(expected)),
        Worker("hash-two", lambda: hash_step(expected)),
        Worker("sleeper", sleep_step),
        Worker("napper", sleep_step),
        Worker("poller", lambda: poll_step(poller)),
        Worker("piper", lambda: pipe_step(reader, writer)),
        Worker("pager", lambda: memory_step(memory, state)),
    ]


def dump_self(path: str) -> dict[str, object]:
    """Dump this very process with all its threads."""
    import coresnap

    try:
        result = coresnap.dump_self(path)
    except coresnap.CoresnapError as error:
        return {"error": error.what, "remedy": error.remedy}
    return {"method": result.method, "pause_ns": result.pause_ns, "threads": result.threads}


def answer(workers: list[Worker], line: str) -> dict[str, object]:
    """The reply to one line of input."""
    verb, _, argument = line.strip().partition(" ")
    reply: dict[str, object] = {"counts": {worker.name: worker.count for worker in workers}}
    if verb == "dump":
        reply["dump"] = dump_self(argument)
    return reply


def main() -> int:
    """Run until the input ends; exit code 1 when a thread found a fault."""
    name_thread("coresnap-demo")
    workers = make_workers()
    stop = threading.Event()
    threads = [threading.Thread(target=worker.run, args=(stop,)) for worker in workers]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        print(json.dumps(answer(workers, line)), flush=True)
    stop.set()
    for thread in threads:
        thread.join()
    faults = [fault for worker in workers for fault in worker.check()]
    print(json.dumps({"faults": faults}), flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
