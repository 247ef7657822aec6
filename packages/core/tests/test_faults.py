# SPDX-License-Identifier: BSD-3-Clause
"""The target runs on whatever call of the dumper fails, and wherever it is killed.

coresnap-dump-faults is coresnap-dump with a fault at one of its system calls (programs/faults.c):
the calls of the process that was asked for the dump, and of the one that makes it, which it starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

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
METHODS = living.METHODS
FAULTS = (*KILLS, *ERRORS)
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


def dump(target: Target, method: str, to: Path, fault: str) -> subprocess.CompletedProcess[str]:
    """By the program with the fault; "count" for how many calls there are."""
    program = living.build() / "tests" / "coresnap-dump-faults"
    if not program.exists():
        pytest.skip("there is no coresnap-dump-faults: only gcc's builds have it")
    argv: list[str | Path] = [program, "-q", "-m", method, "-o", to, str(target.pid)]
    environment = os.environ | {"CORESNAP_FAULT": fault}
    with adopted_children() if fault.startswith(KILLS) else contextlib.nullcontext():
        return subprocess.run(
            argv, env=environment, capture_output=True, text=True, timeout=DEADLINE
        )


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


def check(ran: subprocess.CompletedProcess[str], what: str, to: Path, target: Target) -> None:
    """What the dumper said and left is right for such an end."""
    if to.exists():
        # A thread of which the kernel says that it is gone is gone; and who is killed may have put
        # the core in its place before.
        gone = what == "ESRCH" and ran.returncode == Code.OK
        assert what in KILLS or ran.returncode in (Code.OK, Code.INCOMPLETE)
        expect_core(to, target, whole=ran.returncode != Code.INCOMPLETE and not gone)
    else:
        assert ran.returncode not in (Code.OK, Code.INCOMPLETE)
    left = os.listdir(to.parent)
    if ran.returncode == -signal.SIGKILL:
        assert what in KILLS
        for name in left:
            assert name.endswith(".part")
            (to.parent / name).unlink()
    else:
        assert ran.returncode in set(Code) - {Code.USAGE}, ran.stderr
        assert left == []
    said = ran.stderr.startswith("coresnap-dump: ")
    assert said == (ran.returncode > 0), ran.stderr


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS if STEPS_OF_ALL else ["nanosleep", "epoll", "busy"])
@pytest.mark.parametrize("width", WIDTHS if STEPS_OF_ALL else [Width.NATIVE])
def test_target_runs_on_after_a_fault(
    width: Width, kind: str, method: str, what: str, start: Start, tmp_path: Path
) -> None:
    target = start(kind, width=width)
    to = tmp_path / "core"
    pages, before = target.pages(), descriptors(target)
    calls = int(dump(target, method, to, "count").stdout)
    to.unlink()
    assert calls > 100
    fault = str(getattr(errno, what)) if what in ERRORS else what
    cell = KINDS.index(kind) + len(KINDS) * (width is Width.COMPAT)
    first = 1 + (cell * (STRIDE // CELLS) + FAULTS.index(what) * SHIFT) % STRIDE
    assert first < calls
    failed = set()
    for at in range(first, calls, STRIDE):
        ran = dump(target, method, to, f"{fault} {at}")
        failed.add(ran.stdout.strip())
        check(ran, what, to, target)
        target.expect_clean()
        # All that may be left of dumps by fork, see docs/pausing.md: the next one takes it.
        assert target.pages() <= pages + (method == "fork")
        assert descriptors(target) <= before + (method == "precopy")
    assert dump(target, method, to, "").returncode == Code.OK
    expect_core(to, target)
    target.expect_clean()
    assert (target.pages(), descriptors(target)) == (pages, before)
    # Killed between the stop and what makes the call restart, or not able to do that, see
    # docs/pausing.md.
    excused = kind == "epoll" and (what in KILLS or "ptrace" in failed)
    target.finish(excused=r"epoll_wait\b.*\(errno 4\)" if excused else None)
