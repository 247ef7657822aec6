# SPDX-License-Identifier: BSD-3-Clause
"""A dumper that is killed at any step of making a copy does not harm its target.

copy_driver makes and ends a copy and can kill itself at each step. copy_target checks itself: results
and durations of its system calls, registers, signal mask, SIGCHLD, children.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

TESTS = Path(__file__).resolve().parent
CORE = TESTS.parent
SRC = CORE / "src"
DEADLINE = 20.0  # seconds, for a machine under load
THREADS = 2
SOURCES = [
    *sorted((SRC / "arch").glob("*.c")),
    *(
        SRC / f"{name}.c"
        for name in (
            "arena", "copy", "copy_release", "copy_self", "copy_settle", "error", "freeze",
            "gadget", "maps", "procfs", "remote", "restart", "seccomp", "target", "victim",
        )
    ),
]  # fmt: skip
CFLAGS = ["-std=gnu11", "-O1", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-Wall", "-Werror"]
COMPILERS = {64: ["cc"], 32: ["i686-linux-gnu-gcc", "-static", "-msse2"]}


@dataclass(frozen=True)
class Programs:
    """The programs of one word size."""

    driver: Path
    target: Path


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Programs]:
    """Build driver and target for each word size that there is a compiler for."""
    built = {}
    for bits, compiler in COMPILERS.items():
        if shutil.which(compiler[0]) is None:
            continue
        where = tmp_path_factory.mktemp(f"copy{bits}")
        driver, target = where / "driver", where / "target"
        include = [f"-I{CORE / 'include'}", f"-I{SRC}", "-DCORESNAP_KILL_POINTS"]
        for argv in (
            [*compiler, *CFLAGS, *include, *SOURCES, TESTS / "copy_driver.c", "-o", driver],
            [*compiler, *CFLAGS, TESTS / "copy_target.c", "-o", target, "-pthread", "-lrt"],
        ):
            subprocess.run(argv, check=True, timeout=120)
        built[bits] = Programs(driver, target)
    return built


class Target:
    """A running copy_target."""

    def __init__(self, program: Path, kind: str, threads: int) -> None:
        argv = [program, kind, str(threads)]
        self.threads = threads
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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
        return "; ".join(
            f"{task.name} {(task / 'stat').read_text().split(') ')[-1][0]}"
            f" {(task / 'syscall').read_text().split()[0]}"
            for task in Path(f"/proc/{self.pid}/task").iterdir()
        )

    def leftovers(self) -> str:
        """Threads too many and children, or an empty string."""
        tasks = list(Path(f"/proc/{self.pid}/task").iterdir())
        children = [
            stat.parent.name
            for stat in Path("/proc").glob("[0-9]*/stat")
            if parent_of(stat) == self.pid
        ]
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

    def finish(self) -> None:
        """End the target and check what it says about itself."""
        self.process.send_signal(signal.SIGUSR2)
        _, complaint = self.process.communicate(timeout=DEADLINE)
        assert (self.process.returncode, complaint.decode()) == (0, "")


def parent_of(stat: Path) -> int:
    """The parent's pid in /proc/PID/stat; 0 for a process that is gone."""
    try:
        return int(stat.read_text(errors="replace").rpartition(") ")[2].split()[1])
    except (OSError, IndexError):
        return 0


@pytest.fixture
def start(programs: dict[int, Programs]) -> Iterator[object]:
    """Start targets, and kill those that are left at the end."""
    started: list[Target] = []

    def start_one(bits: int, kind: str, threads: int = THREADS) -> Target:
        if bits not in programs:
            pytest.skip("no compiler for 32-bit programs (gcc-i686-linux-gnu)")
        target = Target(programs[bits].target, kind, threads)
        started.append(target)
        return target

    yield start_one
    for target in started:
        target.process.kill()
        target.process.communicate()


def drive(driver: Path, target: Target, kill_at: int) -> int:
    """Run the driver, killed at a step (0: not at all). Return its exit status."""
    environment = os.environ | {"CORESNAP_KILL_AT": str(kill_at)}
    argv = [driver, str(target.pid)]
    ran = subprocess.run(argv, env=environment, capture_output=True, timeout=DEADLINE)
    assert ran.returncode in (0, -signal.SIGKILL), ran.stderr.decode()
    return ran.returncode


KILLED = [(64, "nanosleep"), (64, "futex"), (64, "read"), (64, "pause"), (64, "busy"),
          (32, "nanosleep"), (32, "busy")]  # fmt: skip
UNKILLED = [(bits, kind) for bits in (64, 32)
            for kind in ("nanosleep", "futex", "poll", "select", "epoll", "read", "pause", "busy")]  # fmt: skip


@pytest.mark.parametrize(("bits", "kind"), KILLED)
def test_killed_at_every_step(
    bits: int, kind: str, programs: dict[int, Programs], start: object
) -> None:
    target = start(bits, kind)
    step = 1
    while drive(programs[64].driver, target, step) != 0:
        target.expect_clean()
        step += 1
    assert step > 50
    target.expect_clean()
    target.finish()
