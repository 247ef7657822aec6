# SPDX-License-Identifier: BSD-3-Clause
"""The target runs on whatever call of the dumper fails, and wherever it is killed.

coresnap-dump-faults is coresnap-dump with a fault at one of its system calls (programs/faults.c):
the calls of the process that was asked for the dump, and of the one that makes it, which it starts.
self-dump-faults is a program that dumps itself, with the same faults.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import living
import pytest
import targets
from living import WIDTHS
from targets import KINDS, Start, Target
from toolchain import COMPAT, Width

from coresnap import Core
from coresnap.errors import Code
from lab.longform import STEPS_OF_ALL
from lab.patience import DEADLINE, PATIENCE

pytestmark = pytest.mark.host

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
KILLS = ("before", "after", "caller")
ERRORS = ("ENOMEM", "EIO", "EPERM", "ESRCH")
SIGNALS = ("SIGINT", "SIGTERM", "SIGPIPE")
# Of who asked for the dump; there is nobody then who would clean up.
DEADLY = (*KILLS, "SIGPIPE")
METHODS = living.METHODS
FAULTS = (*KILLS, *ERRORS, *SIGNALS)
CELLS = len(KINDS) * (1 if COMPAT is None else 2)
# Faults come at one call in STRIDE, another for each cell, which is a kind of target of a width,
# and SHIFT further for the next kind of fault. Where programs are emulated they come at fewer, and
# the long form shares the calls out among the cells: at each comes one of the kills, and an error
# or two.
STRIDE, SHIFT = (41, 5) if PATIENCE == 1 else (123, 5)
if STEPS_OF_ALL:
    STRIDE, SHIFT = (1, 0) if PATIENCE == 1 else (len(KILLS) * CELLS, 1)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start targets."""
    with targets.starter() as start_one:
        yield start_one


def own_children() -> set[int]:
    """The children of this process, of all of its threads."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


@contextlib.contextmanager
def adopted_children() -> Iterator[None]:
    """Wait until what a child leaves has ended.

    When the caller is killed the kernel kills the dumper, which may be in a call that it completes
    first, such as that which puts the core in its place.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    before = own_children()
    try:
        yield
        for pid in own_children() - before:
            pidfd = os.pidfd_open(pid)
            gone = living.wait_gone(pidfd)
            os.close(pidfd)
            assert gone, f"process {pid}, which a child left, does not end"
            os.waitpid(pid, 0)
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def faulty(name: str) -> Path:
    """A program with faults at the library's calls."""
    program = living.build() / "tests" / name
    if not program.exists():
        pytest.skip(f"there is no {name}: only gcc's builds have it")
    return program


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a program with a fault ended, and what it told of the fault."""

    returncode: int
    stderr: str
    told: str


def run(argv: list[str | Path], fault: str, told: Path, stdout: IO[bytes] | None = None) -> Ran:
    """Run a program with a fault; "count" for how many calls there are."""
    told.unlink(missing_ok=True)
    environment = os.environ | {"CORESNAP_FAULT": fault, "CORESNAP_FAULT_TOLD": str(told)}
    with adopted_children() if fault.startswith(DEADLY) else contextlib.nullcontext():
        done = subprocess.run(
            argv, env=environment, stdout=stdout, stderr=subprocess.PIPE, timeout=DEADLINE
        )
    text = told.read_text().strip() if told.exists() else ""
    assert "twice" not in text, f"{fault}: a descriptor that was none was closed"
    return Ran(returncode=done.returncode, stderr=done.stderr.decode(), told=text)


@dataclass(frozen=True, kw_only=True)
class Dumps:
    """Dumps of a target with faults, each to the same file, which is alone in its directory."""

    target: Target
    method: str
    to: Path
    options: tuple[str, ...] = ()
    by_pipe: bool = False

    def make(self, fault: str) -> Ran:
        """One of them."""
        tool, pid = faulty("coresnap-dump-faults"), str(self.target.pid)
        argv: list[str | Path] = [tool, "-q", "-m", self.method, *self.options, "-o"]
        told = self.to.parent.with_name("told")
        if not self.by_pipe:
            return run([*argv, self.to, pid], fault, told)
        with self.to.open("wb") as stdout:
            ran = run([*argv, "-", pid], fault, told, stdout)
        if ran.returncode not in (Code.OK, Code.INCOMPLETE):
            self.to.unlink()
        return ran


def descriptors(target: Target) -> int:
    """How many the target has."""
    return len(os.listdir(f"/proc/{target.pid}/fd"))


def expect_core(to: Path, target: Target, *, whole: bool = True) -> None:
    """A core of the target under its name; of all of its threads if it is ``whole``."""
    with Core(to) as core:
        threads = len(core.threads)
        assert core.missing_bytes == 0
    assert threads == target.threads if whole else 0 < threads <= target.threads
    to.unlink()


def check(ran: Ran, what: str, to: Path, target: Target) -> None:
    """What the dumper said and left is right for such an end."""
    if to.exists():
        # A thread of which the kernel says that it is gone is gone; and who is killed may have put
        # the core in its place before.
        gone = what == "ESRCH" and ran.returncode == Code.OK
        assert what in DEADLY or ran.returncode in (Code.OK, Code.INCOMPLETE)
        expect_core(to, target, whole=ran.returncode != Code.INCOMPLETE and not gone)
    else:
        assert ran.returncode not in (Code.OK, Code.INCOMPLETE)
    left = os.listdir(to.parent)
    if ran.returncode in (-signal.SIGKILL, -signal.SIGPIPE):
        assert what in DEADLY
        for name in left:
            assert name.endswith(".part")
            (to.parent / name).unlink()
    elif what in ("SIGINT", "SIGTERM"):
        # It came too late to undo anything, or undid all.
        assert ran.returncode in (Code.OK, 128 + getattr(signal, what)), ran.stderr
        assert left == []
    else:
        assert ran.returncode in set(Code) - {Code.USAGE, Code.CANCELLED}, ran.stderr
        assert left == []
    said = ran.stderr.startswith("coresnap-dump: ")
    assert said == (ran.returncode > 0), ran.stderr


def expect_no_harm(dumps: Dumps, what: str, *, cell: int = 0) -> set[str]:
    """The target runs on with the fault at one call after the other; what was told of them."""
    target, to = dumps.target, dumps.to
    pages, before = target.pages(), descriptors(target)
    calls = int(dumps.make("count").told)
    to.unlink()
    assert calls > 100
    fault = str(getattr(errno, what)) if what in ERRORS else what
    first = 1 + (cell * (STRIDE // CELLS) + FAULTS.index(what) * SHIFT) % STRIDE
    assert first < calls
    told = set()
    for at in range(first, calls, STRIDE):
        ran = dumps.make(f"{fault} {at}")
        told.add(ran.told)
        check(ran, what, to, target)
        target.expect_clean()
        # All that may be left of dumps by fork, see docs/pausing.md: the next one takes it.
        assert target.pages() <= pages + (dumps.method == "fork")
        assert descriptors(target) <= before + (dumps.method == "precopy")
    assert dumps.make("").returncode == Code.OK
    expect_core(to, target)
    target.expect_clean()
    assert (target.pages(), descriptors(target)) == (pages, before)
    return told


@pytest.fixture
def to(tmp_path: Path) -> Path:
    """Where cores go, and nothing else."""
    (tmp_path / "cores").mkdir()
    return tmp_path / "cores" / "core"


@pytest.mark.parametrize("what", [*KILLS, *ERRORS])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS if STEPS_OF_ALL else ["nanosleep", "epoll", "busy"])
@pytest.mark.parametrize("width", WIDTHS if STEPS_OF_ALL else [Width.NATIVE])
def test_target_runs_on_after_a_fault(
    width: Width, kind: str, method: str, what: str, start: Start, to: Path
) -> None:
    target = start(kind, width=width)
    cell = KINDS.index(kind) + len(KINDS) * (width is Width.COMPAT)
    told = expect_no_harm(Dumps(target=target, method=method, to=to), what, cell=cell)
    # Killed between the stop and what makes the call restart, or not able to do that, see
    # docs/pausing.md.
    excused = kind == "epoll" and (what in KILLS or "ptrace" in told)
    target.finish(excused=r"epoll_wait\b.*\(errno 4\)" if excused else None)


@pytest.mark.parametrize("what", [*KILLS, *SIGNALS])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["nanosleep", "read", "busy"] if STEPS_OF_ALL else ["read"])
def test_a_program_of_one_thread_runs_on(
    kind: str, method: str, what: str, start: Start, to: Path
) -> None:
    target = start(kind, threads=1)
    expect_no_harm(Dumps(target=target, method=method, to=to), what, cell=KINDS.index(kind))
    target.finish()


@pytest.mark.parametrize("what", ["before", "after", "caller", "ENOMEM", "EIO", "SIGTERM"])
@pytest.mark.parametrize(
    ("way", "method"),
    [
        *((way, method) for way in ("compressed", "gentle", "pipe") for method in METHODS),
        *(("large", method) for method in METHODS if method == "precopy"),
    ],
)
def test_no_way_of_writing_makes_a_fault_worse(
    way: str, method: str, what: str, start: Start, to: Path
) -> None:
    """Precopy writes what is large to its place in the core's file."""
    target = start("pause", how="large" if way == "large" else "")
    options = {
        "compressed": ("--compress", "gzip"),
        "gentle": ("--nice", "5", "--io-prio", "6"),
        "pipe": (),
        "large": (),
    }
    dumps = Dumps(target=target, method=method, to=to, options=options[way], by_pipe=way == "pipe")
    expect_no_harm(dumps, what, cell=list(options).index(way))
    target.finish()


def said_of_itself(report: Path) -> tuple[Code, list[str]]:
    """The code of a program's dump of itself, and what it found changed by that."""
    lines = report.read_text().splitlines()
    report.unlink()
    (code,) = (line.removeprefix("code ") for line in lines if line.startswith("code "))
    return Code(int(code)), [line for line in lines if line.startswith("trouble")]


@pytest.mark.parametrize("what", ["before", "after", *ERRORS])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("output", ["file", "memory"])
def test_a_program_that_dumps_itself_runs_on(output: str, method: str, what: str, to: Path) -> None:
    """Killed is the process that the library dumps it by, or that one's calls fail."""
    report, told = to.parent.with_name("report"), to.parent.with_name("told")
    argv: list[str | Path] = [faulty("self-dump-faults"), "main", method, output, to, report]
    calls = int(run(argv, "count 0 dumper", told).told)
    assert calls > 100
    assert said_of_itself(report) == (Code.OK, [])
    fault = str(getattr(errno, what)) if what in ERRORS else what
    for at in range(1 + FAULTS.index(what) * SHIFT, calls, STRIDE):
        to.unlink(missing_ok=True)
        ran = run(argv, f"{fault} {at} dumper", told)
        assert ran.returncode == 0, (at, ran.stderr)
        code, trouble = said_of_itself(report)
        if what in KILLS or ran.told in ("mmap", "munmap"):
            # Both share the memory, and what the dumper had in use is lost, see docs/pausing.md.
            trouble = [line for line in trouble if not line.startswith("trouble mappings")]
        assert trouble == [], (at, ran.told, code)
        if code is Code.OK:
            with Core(to) as core:
                assert core.missing_bytes == 0
