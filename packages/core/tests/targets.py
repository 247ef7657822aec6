# SPDX-License-Identifier: BSD-3-Clause
"""Running copy_targets, which check themselves while dumpers do them harm."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import living
from toolchain import Width

from lab.patience import DEADLINE

THREADS = 2
FAR_END = 16384  # bytes
KINDS = ["nanosleep", "futex", "poll", "select", "epoll", "read", "pause", "busy"]


class Target:
    """A running copy_target."""

    def __init__(
        self,
        program: Path,
        kind: str,
        threads: int,
        before: Callable[[], None] | None,
        more: list[str],
    ) -> None:
        argv = [str(program), kind, str(threads), *more]
        self.threads = threads
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=before
        )
        self.pid = self.process.pid
        self.rounds(1)

    def rounds(self, n: int) -> None:
        """Wait until the main thread has completed n more rounds."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        os.set_blocking(fd, False)
        while select.select([fd], [], [], 0)[0]:
            if not os.read(fd, 4096):
                break
        end = time.monotonic() + DEADLINE
        while n > 0:
            ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"target {self.pid} made no progress: {self.describe()}"
            got = os.read(fd, 1)
            assert got, f"target {self.pid} died: {self.process.wait()}"
            n -= len(got)

    def describe(self) -> str:
        """What the kernel says about the threads, for a message."""
        told = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                state = (task / "stat").read_text().rpartition(") ")[2][0]
                told.append(f"{task.name} {state} {(task / 'syscall').read_text().split()[0]}")
            except (OSError, IndexError):
                told.append(f"{task.name} gone")
        return "; ".join(told)

    def leftovers(self) -> str:
        """Threads too many and children, or an empty string."""
        tasks = living.threads(self.pid)
        children = living.children(self.pid)
        if len(tasks) == self.threads and not children:
            return ""
        return f"{len(tasks)} threads, children {children}; {self.describe()}"

    def expect_clean(self) -> None:
        """Wait until the target has its threads and no child, while it makes progress."""
        end = time.monotonic() + DEADLINE
        self.rounds(2)
        while (left := self.leftovers()) and time.monotonic() < end:
            self.rounds(1)
        assert left == ""

    def pages(self) -> int:
        """How many mappings of one page of anonymous read-write memory there are."""
        count = 0
        for line in Path(f"/proc/{self.pid}/maps").read_text().splitlines():
            fields = line.split()
            start, end = (int(x, 16) for x in fields[0].split("-"))
            count += end - start == 4096 and fields[1:] == ["rw-p", "00000000", "00:00", "0"]
        return count

    def far_end(self) -> bytes:
        """What is at the far end of the main stack."""
        for line in Path(f"/proc/{self.pid}/maps").read_text().splitlines():
            if line.endswith("[stack]"):
                with open(f"/proc/{self.pid}/mem", "rb") as memory:
                    memory.seek(int(line.split("-")[0], 16))
                    return memory.read(FAR_END)
        raise AssertionError(f"process {self.pid} has no main stack")

    def complaints(self) -> list[str]:
        """End the target; what it says about itself."""
        self.process.send_signal(signal.SIGUSR2)
        _, complaint = self.process.communicate(timeout=DEADLINE)
        return complaint.decode().splitlines()

    def finish(self, *, excused: str | None = None) -> None:
        """End the target and check what it says about itself; it may complain of ``excused``."""
        lines = self.complaints()
        others = [line for line in lines if not (excused and re.fullmatch(excused, line))]
        assert others == [], others
        assert self.process.returncode == 0 or (excused and lines)


def driver(width: Width = Width.NATIVE) -> Path:
    """The program that copies."""
    return living.program("copy_driver", width)


def drive(
    pid: int, kill_at: int = 0, *, width: Width = Width.NATIVE
) -> subprocess.CompletedProcess[bytes]:
    """Run the driver of a width, killed at a step (0: not at all)."""
    environment = os.environ | {"CORESNAP_KILL_AT": str(kill_at)}
    argv = [str(driver(width)), str(pid)]
    return subprocess.run(argv, env=environment, capture_output=True, timeout=DEADLINE)


Start = Callable[..., Target]


@contextmanager
def starter() -> Iterator[Start]:
    """What starts targets, and kills those that are left at the end."""
    started: list[Target] = []

    def start_one(
        kind: str,
        *,
        width: Width = Width.NATIVE,
        threads: int = THREADS,
        before: Callable[[], None] | None = None,
        how: str = "",
    ) -> Target:
        more = [how] if how else []
        target = Target(living.program("copy_target", width), kind, threads, before, more)
        started.append(target)
        return target

    try:
        yield start_one
    finally:
        for target in started:
            target.process.kill()
            target.process.communicate()
