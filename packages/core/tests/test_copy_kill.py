# SPDX-License-Identifier: BSD-3-Clause
"""Copies of living processes leave no trace, also when the dumper is killed at any step.

copy_driver makes and ends a copy and can kill itself at each step. copy_target checks itself:
results and durations of its system calls, registers, signal mask, SIGCHLD, children.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.longform import STEPS_OF_ALL

pytestmark = pytest.mark.host

TESTS = Path(__file__).resolve().parent
CORE = TESTS.parent
SRC = CORE / "src"
DEADLINE = 20.0  # seconds, for a machine under load
THREADS = 2
# fmt: off
MODULES = [
    "arena", "copy", "copy_release", "copy_self", "copy_settle", "error", "freeze", "gadget",
    "maps", "procfs", "remote", "remote_entry", "remote_frame", "restart",
    "restart_rewind", "seccomp", "target", "victim",
]
# fmt: on
SOURCES = [*sorted((SRC / "arch").glob("*.c")), *(SRC / f"{name}.c" for name in MODULES)]
CFLAGS = ["-std=gnu11", "-O1", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-Wall"]
COMPILERS = {64: ["cc"], 32: ["i686-linux-gnu-gcc", "-static", "-msse2"]}
KINDS = ["nanosleep", "futex", "poll", "select", "epoll", "read", "pause", "busy"]


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
            subprocess.run([str(word) for word in argv], check=True, timeout=120)
        built[bits] = Programs(driver, target)
    return built


class Target:
    """A running copy_target."""

    def __init__(
        self, program: Path, kind: str, threads: int, before: Callable[[], None] | None
    ) -> None:
        argv = [str(program), kind, str(threads)]
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

    def finish(self, *, excused: str | None = None) -> None:
        """End the target and check what it says about itself; it may complain of ``excused``."""
        self.process.send_signal(signal.SIGUSR2)
        _, complaint = self.process.communicate(timeout=DEADLINE)
        complaints = [
            line
            for line in complaint.decode().splitlines()
            if excused is None or not re.fullmatch(excused, line)
        ]
        assert complaints == []
        assert self.process.returncode == 0 or (excused and complaint)


def parent_of(stat: Path) -> int:
    """The parent's pid in /proc/PID/stat; 0 for a process that is gone."""
    try:
        return int(stat.read_text(errors="replace").rpartition(") ")[2].split()[1])
    except (OSError, IndexError):
        return 0


Start = Callable[..., Target]


@pytest.fixture
def start(programs: dict[int, Programs]) -> Iterator[Start]:
    """Start targets, and kill those that are left at the end."""
    started: list[Target] = []

    def start_one(
        kind: str,
        *,
        bits: int = 64,
        threads: int = THREADS,
        before: Callable[[], None] | None = None,
    ) -> Target:
        require(programs, bits)
        target = Target(programs[bits].target, kind, threads, before)
        started.append(target)
        return target

    yield start_one
    for target in started:
        target.process.kill()
        target.process.communicate()


def require(programs: dict[int, Programs], bits: int) -> None:
    """Skip where programs of this word size cannot be built."""
    if bits not in programs:
        pytest.skip("no compiler for 32-bit programs (gcc-i686-linux-gnu)")


def drive(driver: Path, target: Target, kill_at: int = 0) -> subprocess.CompletedProcess[bytes]:
    """Run the driver, killed at a step (0: not at all)."""
    environment = os.environ | {"CORESNAP_KILL_AT": str(kill_at)}
    argv = [str(driver), str(target.pid)]
    return subprocess.run(argv, env=environment, capture_output=True, timeout=DEADLINE)


@contextmanager
def held_copy(driver: Path, target: Target) -> Iterator[tuple[int, int]]:
    """The pids of a settled copy and of its helper thread."""
    with subprocess.Popen(
        [str(driver), str(target.pid), "hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        copy, helper = (int(word) for word in process.stdout.readline().split())
        yield copy, helper
        process.stdin.write(b".")
        process.stdin.close()
        assert process.wait(DEADLINE) == 0
        process.stdout.read()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [64, 32])
def test_the_target_notices_nothing(
    bits: int, kind: str, programs: dict[int, Programs], start: Start
) -> None:
    target = start(kind, bits=bits)
    pages = target.pages()
    for _ in range(3):
        ran = drive(programs[64].driver, target)
        assert ran.returncode == 0, ran.stderr.decode()
        target.expect_clean()
    assert target.pages() == pages
    target.finish()


# Word size of the target, what it does, word size of the dumper.
KILLED = [
    (64, "nanosleep", 64),
    (64, "futex", 64),
    (64, "read", 64),
    (64, "pause", 64),
    (64, "busy", 64),
    (32, "poll", 64),
    (32, "busy", 64),
    (32, "nanosleep", 32),
]
if STEPS_OF_ALL:
    KILLED = [
        (bits, kind, dumper) for bits, dumper in ((64, 64), (32, 64), (32, 32)) for kind in KINDS
    ]


@pytest.mark.parametrize(("bits", "kind", "dumper"), KILLED)
def test_killed_at_every_step(
    bits: int, kind: str, dumper: int, programs: dict[int, Programs], start: Start
) -> None:
    require(programs, dumper)
    target = start(kind, bits=bits)
    for step in range(1, 1000):
        ran = drive(programs[dumper].driver, target, step)
        assert ran.returncode in (0, -signal.SIGKILL), (step, ran.stderr.decode())
        target.expect_clean()
        if ran.returncode == 0:
            break
    assert 50 < step < 999
    # The kernel ends this one by EINTR when a thread stops, and only the dumper makes it restart:
    # killed before that, it leaves the EINTR behind (docs/pausing.md).
    target.finish(excused=r"epoll_wait\b.*\(errno 4\)" if kind == "epoll" else None)


@pytest.mark.parametrize("bits", [64, 32])
def test_killed_again_within_the_same_call(
    bits: int, programs: dict[int, Programs], start: Start
) -> None:
    # From the second stop on, the thread is in restart_syscall(2).
    target = start("nanosleep", bits=bits, threads=1)
    for step in range(1, 120):
        ran = drive(programs[64].driver, target, step)
        assert ran.returncode in (0, -signal.SIGKILL), (step, ran.stderr.decode())
    target.expect_clean()
    target.finish()


def test_the_copy_owns_nothing(programs: dict[int, Programs], start: Start) -> None:
    target = start("nanosleep")
    with held_copy(programs[64].driver, target) as (copy, helper):
        proc = Path(f"/proc/{copy}")
        assert (proc / "comm").read_text() == "coresnap-copy\n"
        assert (proc / "oom_score_adj").read_text() == "1000\n"
        assert list((proc / "fd").iterdir()) == []
        assert os.readlink(proc / "cwd") != str(Path.cwd())
        assert "State:\tt" in (proc / "status").read_text()
        assert Path(f"/proc/{target.pid}/task/{helper}").exists()
        assert parent_of(proc / "stat") == target.pid
    assert not proc.exists()
    target.expect_clean()
    target.finish()


@pytest.mark.parametrize("bits", [64, 32])
def test_a_stopped_target_stays_stopped(
    bits: int, programs: dict[int, Programs], start: Start
) -> None:
    target = start("nanosleep", bits=bits)
    target.process.send_signal(signal.SIGSTOP)
    os.waitpid(target.pid, os.WUNTRACED)
    ran = drive(programs[64].driver, target)
    assert ran.returncode == 0, ran.stderr.decode()
    assert target.leftovers() == ""
    assert "State:\tT" in Path(f"/proc/{target.pid}/status").read_text()
    target.process.send_signal(signal.SIGCONT)
    target.expect_clean()
    target.finish()


def test_a_target_that_dies_meanwhile(programs: dict[int, Programs], start: Start) -> None:
    target = start("read")
    with held_copy(programs[64].driver, target):
        target.process.kill()
        assert target.process.wait(DEADLINE) == -signal.SIGKILL


def seccomp_filter(denied: list[int]) -> Callable[[], None]:
    """What a child calls to be killed for any of these system calls of x86-64."""
    code = [(0x20, 0, 0, 0)]  # load the number
    for nr in denied:
        code += [(0x15, 0, 1, nr), (0x06, 0, 0, 0x80000000)]  # kill the process
    code.append((0x06, 0, 0, 0x7FFF0000))  # allow
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *op) for op in code))
    program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(text))

    def install() -> None:
        libc = ctypes.CDLL(None)
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        libc.prctl(22, 2, program, 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        assert text

    return install


def test_a_filter_that_allows_it(programs: dict[int, Programs], start: Start) -> None:
    if os.geteuid() != 0:
        pytest.skip("reading a seccomp filter takes root")
    # The calls of the copy itself need not be allowed: here chroot and prctl.
    target = start("nanosleep", before=seccomp_filter([161, 157]))
    ran = drive(programs[64].driver, target)
    assert ran.returncode == 0, ran.stderr.decode()
    target.expect_clean()
    target.finish()


def test_a_filter_that_kills_for_it_is_refused(programs: dict[int, Programs], start: Start) -> None:
    target = start("nanosleep", threads=1, before=seccomp_filter([56]))  # clone
    ran = drive(programs[64].driver, target)
    assert ran.returncode == 1
    assert b"seccomp" in ran.stderr
    target.expect_clean()
    target.finish()


def test_no_room_for_a_mapping(programs: dict[int, Programs], start: Start) -> None:
    target = start("nanosleep")
    size = int(Path(f"/proc/{target.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(target.pid, resource.RLIMIT_AS, (size, size))
    ran = drive(programs[64].driver, target)
    assert ran.returncode == 1
    assert b"mmap: ENOMEM" in ran.stderr
    target.expect_clean()
    target.finish()
