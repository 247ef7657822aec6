# SPDX-License-Identifier: BSD-3-Clause
"""Copies of living processes leave no trace, also when the dumper is killed at any step.

copy_driver makes and ends a copy and can kill itself at each step. copy_target checks itself:
results and durations of its system calls, registers, signal mask, SIGCHLD, children.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import living
import pytest
import targets
from living import WIDTHS, needs_compat, needs_root
from targets import KINDS, Start, Target, drive
from toolchain import NATIVE, Width

from lab.architectures import ARM64
from lab.longform import STEPS_OF_ALL
from lab.patience import DEADLINE

pytestmark = pytest.mark.host


@pytest.fixture
def start() -> Iterator[Start]:
    """Start targets."""
    with targets.starter() as start_one:
        yield start_one


@contextmanager
def held_copy(target: Target) -> Iterator[tuple[int, int]]:
    """The pids of a settled copy and of its helper thread."""
    with subprocess.Popen(
        [str(targets.driver()), str(target.pid), "hold"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
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
@pytest.mark.parametrize("width", WIDTHS)
def test_the_target_notices_nothing(width: Width, kind: str, start: Start) -> None:
    target = start(kind, width=width)
    pages = target.pages()
    for _ in range(3):
        ran = drive(target.pid)
        assert ran.returncode == 0, ran.stderr.decode()
        target.expect_clean()
    assert target.pages() == pages
    complaints = target.complaints()
    if (kind, NATIVE) == ("epoll", ARM64):
        # Its kernel does not show a call's first argument: a thread that falls asleep in that call
        # at the very instant of the stop keeps its EINTR (docs/pausing.md).
        assert complaints in ([], ["epoll_wait: -1 (errno 4)"])
    else:
        assert complaints == []


# Width of the target, what it does, width of the dumper.
KILLED = [
    *(
        (Width.NATIVE, kind, Width.NATIVE)
        for kind in ("nanosleep", "futex", "read", "pause", "busy")
    ),
    (Width.COMPAT, "poll", Width.NATIVE),
    (Width.COMPAT, "busy", Width.NATIVE),
    (Width.COMPAT, "nanosleep", Width.COMPAT),
]
if STEPS_OF_ALL:
    KILLED = [
        (width, kind, dumper)
        for width, dumper in (
            (Width.NATIVE, Width.NATIVE),
            (Width.COMPAT, Width.NATIVE),
            (Width.COMPAT, Width.COMPAT),
        )
        for kind in KINDS
    ]
# Some of the steps, for machines that take long for each.
SOME = [
    (Width.NATIVE, "nanosleep", range(1, 1000, 16)),
    (Width.NATIVE, "busy", range(9, 1000, 32)),
    (Width.COMPAT, "poll", range(5, 1000, 32)),
]


def killed(width: Width, kind: str, *more: object) -> object:
    """Parameters that are skipped where a program of theirs cannot be."""
    return pytest.param(width, kind, *more, marks=[needs_compat] * (Width.COMPAT in (width, *more)))


def kill_at(steps: range, target: Target, kind: str, *, width: Width, ending: bool = True) -> int:
    """Kill a dumper of that width at steps of its way, until it comes to its end. Returns that.

    What one leaves of memory the next takes, and takes away.
    """
    before = living.mappings(target.pid)
    for step in steps:
        ran = drive(target.pid, step, width=width)
        assert ran.returncode in (0, -signal.SIGKILL), (step, ran.stderr.decode())
        target.expect_clean()
        left = living.mappings(target.pid)
        if ran.returncode == 0:
            assert left == before, step
            break
        assert (before - left, len(left - before) < 2) == (set(), True), (step, left - before)
    # The kernel ends this one by EINTR when a thread stops, and only the dumper makes it restart:
    # killed before that, it leaves the EINTR behind (docs/pausing.md).
    if ending:
        target.finish(excused=r"epoll_wait\b.*\(errno 4\)" if kind == "epoll" else None)
    return step


@pytest.mark.parametrize(("width", "kind", "dumper"), [killed(*row) for row in KILLED])
def test_killed_at_every_step(width: Width, kind: str, dumper: Width, start: Start) -> None:
    target = start(kind, width=width)
    assert 50 < kill_at(range(1, 1000), target, kind, width=dumper) < 999


@pytest.mark.parametrize(("width", "kind", "steps"), [killed(*row) for row in SOME])
def test_killed_at_some_steps(width: Width, kind: str, steps: range, start: Start) -> None:
    target = start(kind, width=width)
    assert 50 < kill_at(steps, target, kind, width=Width.NATIVE) < steps[-1]


@needs_root
@pytest.mark.parametrize(
    ("width", "kind", "steps"),
    [
        killed(Width.NATIVE, "nanosleep", range(1, 1000, 16)),
        killed(Width.COMPAT, "poll", range(9, 1000, 32)),
    ],
)
def test_killed_at_some_steps_in_a_container(
    width: Width, kind: str, steps: range, start: Start
) -> None:
    """Its filter kills for what is not allowed: what undoes itself then makes no other calls."""
    container = living.filtered(living.container_filter(kills=True).read_bytes())
    target = start(kind, width=width, before=container)
    assert 50 < kill_at(steps, target, kind, width=Width.NATIVE) < steps[-1]


@pytest.mark.parametrize(
    ("width", "kind"),
    [
        killed(Width.NATIVE, "nanosleep"),
        killed(Width.NATIVE, "busy"),
        killed(Width.COMPAT, "poll"),
    ],
)
def test_killed_where_no_thread_is_on_a_stack_of_its_own(
    width: Width, kind: str, start: Start
) -> None:
    """The frame is at the far end of the main stack; what one leaves there the next takes away."""
    target = start(kind, width=width, how="coroutines")
    assert target.far_end() == bytes(targets.FAR_END)
    kill_at(range(1, 1000), target, kind, width=Width.NATIVE, ending=False)
    assert target.far_end() == bytes(targets.FAR_END)
    target.finish()


@pytest.mark.parametrize("width", WIDTHS)
def test_killed_again_within_the_same_call(width: Width, start: Start) -> None:
    # From the second stop on, the thread is in restart_syscall(2).
    target = start("nanosleep", width=width, threads=1)
    for step in range(1, 120):
        ran = drive(target.pid, step)
        assert ran.returncode in (0, -signal.SIGKILL), (step, ran.stderr.decode())
    target.expect_clean()
    target.finish()


def test_the_copy_owns_nothing(start: Start) -> None:
    target = start("nanosleep")
    with held_copy(target) as (copy, helper):
        proc = Path(f"/proc/{copy}")
        assert (proc / "comm").read_text() == "coresnap-copy\n"
        assert (proc / "oom_score_adj").read_text() == "1000\n"
        assert list((proc / "fd").iterdir()) == []
        assert os.readlink(proc / "cwd") != str(Path.cwd())
        assert "State:\tt" in (proc / "status").read_text()
        assert Path(f"/proc/{target.pid}/task/{helper}").exists()
        assert living.parent(copy) == target.pid
    assert not proc.exists()
    target.expect_clean()
    target.finish()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_stopped_target_stays_stopped(width: Width, start: Start) -> None:
    target = start("nanosleep", width=width)
    target.process.send_signal(signal.SIGSTOP)
    os.waitpid(target.pid, os.WUNTRACED)
    ran = drive(target.pid)
    assert ran.returncode == 0, ran.stderr.decode()
    assert target.leftovers() == ""
    assert "State:\tT" in Path(f"/proc/{target.pid}/status").read_text()
    target.process.send_signal(signal.SIGCONT)
    target.expect_clean()
    target.finish()


def test_a_target_that_dies_meanwhile(start: Start) -> None:
    target = start("read")
    with held_copy(target):
        target.process.kill()
        assert target.process.wait(DEADLINE) == -signal.SIGKILL


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The numbers of some system calls."""

    chroot: int
    prctl: int
    clone: int


NUMBERS = {
    "x86-64": Numbers(chroot=161, prctl=157, clone=56),
    "x86-32": Numbers(chroot=61, prctl=172, clone=120),
    "arm": Numbers(chroot=61, prctl=172, clone=120),
    "arm64": Numbers(chroot=51, prctl=167, clone=220),
}[NATIVE.name]


def seccomp_filter(denied: list[int]) -> Callable[[], None]:
    """What a child calls to be killed for any of these system calls."""
    code = [(0x20, 0, 0, 0)]  # load the number
    for nr in denied:
        code += [(0x15, 0, 1, nr), (0x06, 0, 0, 0x80000000)]  # kill the process
    code.append((0x06, 0, 0, 0x7FFF0000))  # allow
    return living.filtered(b"".join(struct.pack("HBBI", *op) for op in code))


def test_a_filter_that_allows_it(start: Start) -> None:
    if os.geteuid() != 0:
        pytest.skip("reading a seccomp filter takes root")
    # The calls of the copy itself need not be allowed: here chroot and prctl.
    target = start("nanosleep", before=seccomp_filter([NUMBERS.chroot, NUMBERS.prctl]))
    ran = drive(target.pid)
    assert ran.returncode == 0, ran.stderr.decode()
    target.expect_clean()
    target.finish()


def test_a_filter_that_kills_for_it_is_refused(start: Start) -> None:
    target = start("nanosleep", threads=1, before=seccomp_filter([NUMBERS.clone]))
    ran = drive(target.pid)
    assert ran.returncode == 1
    assert b"seccomp" in ran.stderr
    target.expect_clean()
    target.finish()


def test_no_room_for_a_mapping(start: Start) -> None:
    target = start("nanosleep")
    size = int(Path(f"/proc/{target.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(target.pid, resource.RLIMIT_AS, (size, size))
    ran = drive(target.pid)
    assert ran.returncode == 1
    assert b"mmap: ENOMEM" in ran.stderr
    target.expect_clean()
    target.finish()
