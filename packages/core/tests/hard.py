# SPDX-License-Identifier: BSD-3-Clause
"""Targets that are hard to dump, one function each, which starts it and says how to judge it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import cgroup
import living
import machine
import pytest
from hung_file import HungFile
from living import NOBODY, Subject
from toolchain import Width

from lab.longform import FULL
from lab.patience import DEADLINE, PATIENCE

MIB = 1 << 20
LONELY = 64321
"""A user who has no other processes."""
THREADS = (5000 if FULL else 500) // (5 if PATIENCE > 1 else 1)
"""Fewer where they are emulated."""
SLOW_THREADS = 20
"""Of the program's mode "slow-threads"."""
SHORT = 0.2 * PATIENCE  # seconds, in which a thread stops that can
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
COMMIT_LIMIT = Path("/proc/sys/vm/overcommit_kbytes")
COMMITTABLE = 160
"""MiB that may be committed besides what is, where that is ours to say."""
HUGE_PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
TRANSPARENT = Path("/sys/kernel/mm/transparent_hugepage/enabled")
YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
FINAL_SCOPE = 3
"""From which Yama cannot be brought back."""
_PROGRAMS = Path(__file__).parent / "programs"


@dataclass(kw_only=True)
class Hard:
    """A target, who judges it, and how it is let go afterwards."""

    subject: Subject
    pid: int
    before: tuple[str, ...] = ()
    """The command before the program that asks and dumps."""
    user: str = "-"
    seen_as: int | None = None
    """Its pid for that program."""
    timeout: float = DEADLINE
    wake: Callable[[], object] | None = None
    """Makes it answer again."""
    checks: list[Callable[[], None]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where targets are started: what is to be ended with the test, a directory, a width."""

    stack: ExitStack
    directory: Path
    width: Width

    def start(
        self, *mode: str | Path, before: tuple[str, ...] = (), user: int | None = None
    ) -> Subject:
        """Start programs/hard.c, in a file of its own that everybody may run."""
        program = self.directory / "hard"
        shutil.copy(living.program("hard", self.width), program)
        return self.stack.enter_context(Subject(*before, program, *mode, user=user))


def simple(place: Place, *mode: str) -> Hard:
    """Just the program in that mode."""
    subject = place.start(*mode)
    return Hard(subject=subject, pid=subject.pid)


def rounds_go_on(hard: Hard) -> Callable[[], None]:
    """A check that the busy thread of it makes progress."""

    def check() -> None:
        count = hard.subject.number("rounds")
        while hard.subject.number("rounds") == count:
            pass

    return check


def busy(place: Place, mode: str) -> Hard:
    """One with a thread that never stops doing something."""
    hard = simple(place, mode)
    hard.checks.append(rounds_go_on(hard))
    return hard


def _state(tid: int) -> str:
    """The letter of ps."""
    return living.status(tid, "State")[0]


# -- traced, stopped, held up ----------------------------------------------------------------------


def until(pid: int, condition: Callable[[], bool]) -> None:
    """Wait until it is so, or the process has ended."""
    pidfd = os.pidfd_open(pid)
    end = time.monotonic() + DEADLINE
    try:
        while not condition():
            assert not living.wait_gone(pidfd, seconds=0.01), f"process {pid} has ended"
            assert time.monotonic() < end, f"waited for {DEADLINE:.0f} s"
    finally:
        os.close(pidfd)


def _asleep_for_good(pid: int) -> int:
    """How many of its threads sleep uninterruptibly."""
    return sum(_state(tid) == "D" for tid in living.threads(pid))


def _traced_by(place: Place, state: str, *argv: str) -> Hard:
    """Traced by a program whose command line ends with the pid, and in that state by it."""
    living.need(argv[0])
    hard = simple(place, "plain")
    tracer = subprocess.Popen(
        [*argv, str(hard.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def end() -> None:
        tracer.terminate()
        tracer.communicate(timeout=DEADLINE)

    place.stack.callback(end)
    until(
        hard.pid,
        lambda: living.status(hard.pid, "TracerPid") != "0" and _state(hard.pid) == state,
    )
    hard.wake = end
    return hard


def under_strace(place: Place) -> Hard:
    """Runs on, and each call of it is shown."""
    return _traced_by(place, "S", "strace", "-f", "-o", "/dev/null", "-p")


def under_gdb(place: Place) -> Hard:
    """Stands still at gdb's prompt."""
    return _traced_by(place, "t", "gdb", "-nx", "-q", "-iex", "set debuginfod enabled off", "-p")


def stopped(place: Place) -> Hard:
    """Stopped by job control, and so it is to stay."""
    hard = simple(place, "threads", "3")
    os.kill(hard.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, hard.pid, os.WSTOPPED | os.WNOWAIT)

    def wake() -> None:
        assert living.status(hard.pid, "State").startswith("T")
        os.kill(hard.pid, signal.SIGCONT)

    hard.wake = wake
    return hard


def in_vfork(place: Place, mode: str) -> Hard:
    """All of it, or one thread of it, waits for a child of vfork."""
    hard = simple(place, mode)
    hard.timeout = SHORT
    hard.wake = lambda: hard.subject.tell("go on")
    return hard


def reads_hung_file(place: Place, mode: str, *, hanging: int = 1) -> Hard:
    """All of it, or so many threads of it, wait for a file system that does not answer."""
    many = hanging > 1
    file = place.stack.enter_context(HungFile(place.directory / "slow", direct=many))
    subject = place.start(mode, file.path)
    # Not even SIGKILL ends such a read.
    place.stack.callback(file.let_go)
    until(subject.pid, lambda: file.hanging() >= hanging)
    if not many:
        until(subject.pid, lambda: _asleep_for_good(subject.pid) == 1)
    hard = Hard(subject=subject, pid=subject.pid, timeout=SHORT, wake=file.let_go)
    if mode == "slow-thread":
        hard.checks.append(lambda: comes_to(subject, 1))
    return hard


def comes_to(subject: Subject, rounds: int) -> None:
    """Wait until it has come so far."""
    while subject.number("rounds") < rounds:
        pass


def without_leader(place: Place, *mode: str, user: int | None = None) -> Hard:
    """Its first thread has ended."""
    subject = place.start("dead-leader", *mode, user=user)
    hard = Hard(subject=subject, pid=subject.pid)
    until(hard.pid, lambda: _state(hard.pid) == "Z")
    return hard


def frozen(place: Place) -> Hard:
    """Frozen by its control group, as containers are that somebody pauses (version 1)."""
    group = place.stack.enter_context(cgroup.of("freezer"))
    hard = simple(place, "threads", "3")
    state = group.place / "freezer.state"

    def wake() -> None:
        assert state.read_text() == "FROZEN\n"
        state.write_text("THAWED")

    group.take(hard.pid)
    # Not even SIGKILL ends it before.
    place.stack.callback(lambda: state.write_text("THAWED"))
    state.write_text("FROZEN")
    until(hard.pid, lambda: state.read_text() == "FROZEN\n")
    hard.timeout = SHORT
    hard.wake = wake
    return hard


def frozen_2(place: Place) -> Hard:
    """The same by version 2: its threads sleep like those of a process that is stopped."""
    group = place.stack.enter_context(cgroup.of(""))
    hard = simple(place, "threads", "3")

    def is_frozen() -> bool:
        return "frozen 1" in (group.place / "cgroup.events").read_text()

    def wake() -> None:
        until(hard.pid, is_frozen)
        group.limit(0, "cgroup.freeze")

    group.take(hard.pid)
    group.limit(1, "cgroup.freeze")
    until(hard.pid, is_frozen)
    hard.timeout = SHORT
    hard.wake = wake
    return hard


def userfault(place: Place) -> Hard:
    """It has some of its memory watched by a userfaultfd."""
    hard = simple(place, "userfault")
    if not hard.subject.number("rounds"):
        pytest.skip("this kernel has no userfaultfd for it")
    return hard


# -- in containers ---------------------------------------------------------------------------------


def contained(
    place: Place, *, mode: tuple[str, ...], kills: bool = False, user: int | None = None
) -> Hard:
    """With the filter of Docker's default profile from the beginning.

    What it forbids fails, or ``kills``, as filters of services often do.
    """
    file = place.directory / "filter"
    shutil.copy(living.container_filter(kills=kills), file)
    subject = place.start("filtered", file, *mode, user=user)
    assert living.status(subject.pid, "Seccomp") == "2"
    return Hard(subject=subject, pid=subject.pid, user="-" if user is None else str(user))


# -- rights ----------------------------------------------------------------------------------------


def of_nobody(place: Place, mode: str) -> Hard:
    """An ordinary user's, who dumps it."""
    subject = place.start(mode, user=NOBODY)
    return Hard(subject=subject, pid=subject.pid, user=str(NOBODY))


def undumpable(place: Place) -> Hard:
    """An ordinary user's that guards its secrets, from root too."""
    subject = place.start("undumpable", user=NOBODY)
    return Hard(subject=subject, pid=subject.pid)


def of_another_user(place: Place) -> Hard:
    """One of a user's that another one would like to dump."""
    subject = place.start("plain", user=LONELY)
    return Hard(subject=subject, pid=subject.pid, user=str(NOBODY))


def yama_scope(place: Place, scope: int, *, by_root: bool = False) -> Hard:
    """An ordinary user's, with Yama; dumped by its user or by root.

    Scope 3 stays until the machine is started again.
    """
    if scope == FINAL_SCOPE:
        machine.choose(YAMA, scope)
    else:
        place.stack.enter_context(machine.setting(YAMA, scope))
    hard = of_nobody(place, "plain")
    return replace(hard, user="-") if by_root else hard


# -- limits ----------------------------------------------------------------------------------------


def process_limit(place: Place) -> Hard:
    """Its user may have no more processes."""
    subject = place.start("plain", before=(living.need("prlimit"), "--nproc=1"), user=LONELY)
    return Hard(subject=subject, pid=subject.pid)


def pids_max(place: Place) -> Hard:
    """Its control group may have no more processes."""
    group = place.stack.enter_context(cgroup.of("pids"))
    hard = simple(place, "threads", "3")
    group.take(hard.pid)
    group.limit(group.number("pids.current"), "pids.max")
    return hard


def with_memory_left(
    place: Place, size: int, *, huge: bool = False
) -> tuple[Subject, cgroup.Cgroup]:
    """A target with 64 MiB, and its control group, which has this much left."""
    group = place.stack.enter_context(cgroup.of("memory"))
    subject = place.start("later-huge" if huge else "later", "64")
    group.take(subject.pid)
    subject.tell("go on")
    assert subject.ask("check") == "ok"  # it has done so
    if huge and living.kilobytes(subject.pid, "AnonHugePages") == 0:
        pytest.skip("this kernel makes no transparent huge pages here")
    names = ("memory.max", "memory.limit_in_bytes")
    group.limit(group.number("memory.current", "memory.usage_in_bytes") + size, *names)
    return subject, group


def memory_limit(place: Place, left: int = 65536, *, huge: bool = False) -> Hard:
    """Its control group may have no more memory."""
    subject, _ = with_memory_left(place, left, huge=huge)
    hard = Hard(subject=subject, pid=subject.pid)
    hard.checks.append(lambda: subject.tell("touch"))
    return hard


def memory_limit_of_huge_pages(place: Place) -> Hard:
    """Its control group has room for a copy, and not for all of its huge pages again."""
    if machine.OWN:
        place.stack.enter_context(machine.setting(TRANSPARENT, "madvise"))
    return memory_limit(place, 3 * MIB, huge=True)


def _meminfo(name: str) -> int:
    """A size in KiB."""
    text = Path("/proc/meminfo").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))


def _committable() -> int:
    """How many MiB may be committed yet."""
    return (_meminfo("CommitLimit") - _meminfo("Committed_AS")) // 1024


def no_overcommit(place: Place, *, greedy: bool) -> Hard:
    """On a machine that promises no memory that it does not have.

    A ``greedy`` one was promised more than half of it, so that a fork of it cannot be.
    """
    if machine.OWN:
        limit = _meminfo("Committed_AS") + COMMITTABLE * 1024
        place.stack.enter_context(machine.setting(COMMIT_LIMIT, limit))
    place.stack.enter_context(machine.setting(OVERCOMMIT, 2))
    return simple(place, "reserve", str(_committable() * 2 // 3 if greedy else 1))


def no_huge_page_left(place: Place) -> Hard:
    """It has the last huge page of the pool."""
    free = HUGE_PAGES / "free_hugepages"
    if machine.OWN and free.exists():
        count = machine.number(HUGE_PAGES / "nr_hugepages") - machine.number(free) + 1
        place.stack.enter_context(machine.setting(HUGE_PAGES / "nr_hugepages", count))
    machine.choose(free, 1)
    hard = simple(place, "huge-page")
    hard.checks.append(lambda: hard.subject.tell("touch"))
    return hard


# -- namespaces ------------------------------------------------------------------------------------


def in_container(place: Place, *, inside: bool) -> Hard:
    """The first process of its own user, pid and mount namespaces."""
    words = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    living.need("unshare")
    probe = subprocess.run([*words, "true"], capture_output=True, text=True, timeout=DEADLINE)
    if probe.returncode:
        pytest.skip(f"no namespaces of its own here: {probe.stderr.strip()}")
    subject = place.start("threads", "3", before=(*words, "--kill-child"))
    (pid,) = living.children(subject.pid)
    if not inside:
        return Hard(subject=subject, pid=pid)
    enter = (
        "nsenter",
        "--target",
        str(pid),
        "--user",
        "--preserve-credentials",
        "--pid",
        "--mount",
    )
    living.need("nsenter")
    return Hard(subject=subject, pid=pid, seen_as=1, before=enter)


def through_foreign_proc(place: Place) -> Hard:
    """Asked for by who is in a pid namespace that the mounted /proc is not of."""
    hard = simple(place, "plain")
    hard.before = (living.need("unshare"), "--pid", "--fork")
    return hard


def without_proc(place: Place) -> Hard:
    """Asked for by who has no /proc."""
    hard = simple(place, "plain")
    script = 'umount --lazy /proc && exec "$@"'
    hard.before = (living.need("unshare"), "--mount", "sh", "-c", script, "sh")
    return hard


def judge(hard: Hard) -> subprocess.CompletedProcess[str]:
    """Run the program that asks the doctor, and dumps by each method."""
    pid = hard.pid if hard.seen_as is None else hard.seen_as
    program = str(_PROGRAMS / "judge.py")
    return subprocess.run(
        [*hard.before, sys.executable, program, str(pid), hard.user, str(hard.timeout)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE,
        cwd="/",
    )
