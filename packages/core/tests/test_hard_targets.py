# SPDX-License-Identifier: BSD-3-Clause
"""Targets that make a dump hard: what the doctor says before, what then happens, who is harmed.

Nobody is. A row is a target (hard.py) and what each method does with it; the doctor must have said
so, in the same words, and the target goes on: it answers, its canaries are whole, it has the
threads, children and files that it had.

Elsewhere stand: zombies and kernel threads (test_doctor.py); a userfaultfd that nobody serves, and
32-bit code in a 64-bit process (test_hostile.py), of which nobody can know beforehand; calls that
are interrupted (test_interrupted.py); dumpers killed at any step (test_copy_kill.py).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hard
import living
import pytest
from hard import Hard, Place
from living import NOBODY
from toolchain import Width

from coresnap import Core
from coresnap.errors import Code
from lab.patience import DEADLINE

pytestmark = pytest.mark.host

WORKS = ""
HUNG_MS = 50


@dataclass(frozen=True, kw_only=True)
class Row:
    """A target and what may become of dumps of it: the classes of their errors.

    Where there is more than one, the instant decides, which nobody can foresee.
    """

    name: str
    make: Callable[[Place], Hard]
    fork: tuple[str, ...] = (WORKS,)
    stop: tuple[str, ...] = (WORKS,)
    precopy: tuple[str, ...] = ()
    """Where a thread of the target has to make a userfaultfd for it; empty: as stop."""
    says: str = ""
    """Part of what each method that fails says of it, or of what would help."""
    root: bool = False
    still: bool = True
    """Has it the same threads all the time?"""
    widths: bool = False
    """Is there anything in it that depends on the width of the program?"""


def simple(name: str, *mode: str, **more: Any) -> Row:
    return Row(name=name, make=partial(hard_simple, mode=mode or (name,)), **more)


def hard_simple(place: Place, *, mode: tuple[str, ...]) -> Hard:
    return hard.simple(place, *mode)


REFUSED = ("Failed",)
FORBIDDEN = ("NotPermitted",)
LATE = ("DeadlineExceeded",)
PARTLY = ("Incomplete",)
EXECS = (WORKS, "TargetGone", "Failed")
ROWS = [
    simple("plain", widths=True),
    # So large that auto takes fork.
    Row(name="contained", make=partial(hard.contained, mode=("fill", "64")),
        precopy=REFUSED, root=True, widths=True),
    Row(name="contained-or-killed", make=partial(hard.contained, mode=("threads", "3"), kills=True),
        precopy=REFUSED, root=True, widths=True),
    Row(name="contained-unprivileged",
        make=partial(hard.contained, mode=("threads", "3"), user=NOBODY),
        fork=REFUSED, precopy=REFUSED, root=True, says="CAP_SYS_ADMIN"),
    simple("no-fork", fork=REFUSED, root=True, widths=True),
    Row(name="no-fork-unprivileged", make=partial(hard.of_nobody, mode="no-fork"),
        fork=REFUSED, precopy=REFUSED, root=True, says="CAP_SYS_ADMIN"),
    simple("strict", fork=REFUSED, precopy=REFUSED),
    Row(name="strace", make=hard.under_strace, fork=FORBIDDEN, stop=FORBIDDEN,
        says="(strace)"),
    Row(name="gdb", make=hard.under_gdb, fork=FORBIDDEN, stop=FORBIDDEN, says="(gdb)"),
    Row(name="stopped", make=hard.stopped),
    Row(name="vfork", make=partial(hard.in_vfork, mode="vfork"), fork=LATE, stop=LATE),
    Row(name="vfork-thread", make=partial(hard.in_vfork, mode="vfork-thread"),
        fork=PARTLY, stop=PARTLY),
    Row(name="hung-read", make=partial(hard.reads_hung_file, mode="slow"),
        fork=LATE, stop=LATE, root=True),
    Row(name="hung-read-thread", make=partial(hard.reads_hung_file, mode="slow-thread"),
        fork=PARTLY, stop=PARTLY, root=True),
    # Before its C library is mapped, there is nothing to inject by.
    simple("execs", fork=EXECS, precopy=EXECS, stop=(WORKS, "TargetGone"), still=False),
    Row(name="exiting", make=partial(hard.busy, mode="exiting"), still=False, widths=True),
    Row(name="frozen", make=hard.frozen, fork=LATE, stop=LATE, root=True),
    Row(name="frozen-2", make=hard.frozen_2, fork=REFUSED, precopy=REFUSED, root=True,
        says="frozen"),
    Row(name="dead-leader", make=hard.without_leader, widths=True),
    Row(name="dead-leader-undumpable", make=lambda place: hard.without_leader(
        place, "undumpable", user=NOBODY), fork=FORBIDDEN, stop=FORBIDDEN, root=True,
        says="undumpable"),
    Row(name="undumpable", make=hard.undumpable, fork=FORBIDDEN, stop=FORBIDDEN, root=True,
        says="undumpable"),
    Row(name="userfault", make=hard.userfault, precopy=REFUSED, says="userfaultfd of its own"),
    simple("coroutine", widths=True),
    simple("coroutine-deep", fork=REFUSED, precopy=REFUSED, widths=True),
    simple("alternate-stack", widths=True),
    simple("small-stacks", widths=True),
    simple("many-threads", "threads", str(hard.THREADS)),
    Row(name="mapping", make=partial(hard.busy, mode="mapping"), widths=True),
    simple("confusing", widths=True),
    Row(name="nobody", make=partial(hard.of_nobody, mode="plain"), root=True),
    Row(name="another-user", make=hard.of_another_user, fork=FORBIDDEN, stop=FORBIDDEN, root=True,
        says="CAP_SYS_PTRACE"),
    Row(name="yama-0", make=partial(hard.yama_scope, scope=0), root=True),
    *(
        Row(name=f"yama-{scope}", make=partial(hard.yama_scope, scope=scope),
            fork=FORBIDDEN, stop=FORBIDDEN, root=True, says="Run as root")
        for scope in (1, 2)
    ),
    Row(name="yama-2-root", make=partial(hard.yama_scope, scope=2, by_root=True), root=True),
    Row(name="process-limit", make=hard.process_limit, fork=REFUSED, root=True),
    Row(name="pids-max", make=hard.pids_max, fork=REFUSED, root=True),
    Row(name="memory-limit", make=hard.memory_limit, fork=REFUSED, root=True),
    Row(name="memory-limit-huge", make=hard.memory_limit_of_huge_pages, fork=REFUSED, root=True),
    Row(name="no-overcommit", make=partial(hard.no_overcommit, greedy=True), fork=REFUSED),
    Row(name="no-overcommit-room", make=partial(hard.no_overcommit, greedy=False)),
    Row(name="no-huge-page-left", make=hard.no_huge_page_left),
    Row(name="container-from-outside", make=partial(hard.in_container, inside=False)),
    Row(name="container-from-inside", make=partial(hard.in_container, inside=True)),
    Row(name="foreign-proc", make=hard.through_foreign_proc, fork=REFUSED, stop=REFUSED,
        root=True, says="another pid namespace"),
    Row(name="no-proc", make=hard.without_proc, fork=REFUSED, stop=REFUSED, root=True,
        says="mount -t proc"),
]  # fmt: skip


# These come last in this file, because no setting is possible afterwards.
FINAL_ROWS = [
    Row(name=f"yama-3{'-root' * by_root}", fork=FORBIDDEN, stop=FORBIDDEN, root=True,
        make=partial(hard.yama_scope, scope=hard.FINAL_SCOPE, by_root=by_root))
    for by_root in (False, True)
]  # fmt: skip


def params(rows: list[Row]) -> Iterator[Any]:
    for row in rows:
        marks = [living.needs_root] if row.root else []
        yield pytest.param(row, Width.NATIVE, marks=marks, id=f"{row.name}-native")
        if row.widths:
            marks = [*marks, living.needs_compat]
            yield pytest.param(row, Width.COMPAT, marks=marks, id=f"{row.name}-compat")


@contextmanager
def a_place(width: Width = Width.NATIVE) -> Iterator[Place]:
    with ExitStack() as stack:
        # Not tmp_path, which other users may not enter.
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="coresnap-")))
        directory.chmod(0o755)
        yield Place(stack=stack, directory=directory, width=width)


@pytest.mark.parametrize(("row", "width"), list(params(ROWS)))
def test_the_doctor_is_right_and_the_target_goes_on(row: Row, width: Width) -> None:
    with a_place(width) as place:
        target = row.make(place)
        before = living.footprint(target.pid)
        done = hard.judge(target)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        print(json.dumps(told, indent=1))
        expect_outcome(row, told["dumps"])
        expect_agreement(row, told["doctor"], told["dumps"])
        expect_unharmed(row, target, before)


def outcomes(row: Row, method: str) -> tuple[str, ...]:
    """What may become of a dump by that method on this kernel."""
    if method != "precopy":
        found: tuple[str, ...] = getattr(row, method)
        return found
    wanted = row.precopy or row.stop
    if not living.TRACKS_WRITES:
        return row.stop if row.stop == FORBIDDEN else (*wanted[1:], *REFUSED)
    # Soft-dirty bits need nothing of the target.
    return row.stop if living.SOFT_DIRTY and len(wanted) == 1 else wanted


def expect_outcome(row: Row, dumps: dict[str, Any]) -> None:
    """Each method did what the row says, and auto what the best of them could do."""
    for method in ("fork", "precopy", "stop"):
        came = dumps[method]
        assert came["error"] in outcomes(row, method), (method, came)
        if came["error"] not in (WORKS, *PARTLY) and (method != "precopy" or living.TRACKS_WRITES):
            assert row.says in f"{came['what']} {came['remedy']}", (method, came)
    assert dumps["auto"]["error"] in (*row.fork, *row.stop)
    if WORKS in row.stop and row.stop == (WORKS,):
        assert dumps["auto"]["error"] == WORKS


def verdict_of(told: dict[str, Any], method: str) -> dict[str, Any]:
    """What the doctor said of a method."""
    found: dict[str, Any]
    (found,) = (each for each in told["doctor"]["methods"] if each["method"] == method)
    return found


def expect_agreement(row: Row, doctor: dict[str, Any], dumps: dict[str, Any]) -> None:
    """What the doctor said of each method is what the dump by it said."""
    for verdict in doctor["methods"]:
        if verdict["method"] not in dumps:
            continue
        came = dumps[verdict["method"]]
        if verdict["works"] and len(outcomes(row, verdict["method"])) > 1:
            continue
        if came["error"] in (WORKS, "Incomplete"):
            assert verdict["works"], verdict
            said = any("sleep uninterruptibly" in note for note in doctor["notes"])
            assert said == (came["missed"] > 0)
            expect_pause(verdict["pause_ms"], came)
        elif verdict["doubt"]:
            assert "seccomp filter" in verdict["doubt"]
            assert "seccomp filter" in came["what"]
        else:
            assert (verdict["why_not"], verdict["remedy"], verdict["exit_code"]) == (
                came["what"], came["remedy"], came["exit_code"],
            )  # fmt: skip
    if dumps["auto"]["error"] == WORKS:
        assert dumps["auto"]["method"] in doctor["auto"]


def expect_pause(range_ms: list[float], came: dict[str, Any]) -> None:
    """The estimate is of the right kind; how fast this machine is just now is not for a test."""
    least, most = range_ms
    assert 0 < least < most
    waits = came["missed"] > 0
    assert least >= HUNG_MS or not waits


def expect_unharmed(row: Row, target: Hard, before: living.Footprint) -> None:
    """It looks as before, answers, and finds nothing wrong with itself."""
    if row.still:
        hard.until(target.pid, lambda: living.footprint(target.pid) == before)
    if target.wake is not None:
        target.wake()
    assert target.subject.ask("ping") == "pong"
    for check in target.checks:
        check()
    assert target.subject.ask("check") == "ok"


@living.needs_root
@pytest.mark.parametrize("method", ["auto", "fork", "stop"])
def test_threads_that_hang_do_not_hold_the_others_until_the_stop_timeout(
    method: str, tmp_path: Path
) -> None:
    """Nor does one wait after the other: they would take longer than the program may.

    Their reads are direct, and what comes after a fork might be lost: there is none.
    """
    with a_place() as place:
        target = hard.reads_hung_file(place, "slow-threads", hanging=hard.SLOW_THREADS)
        before = living.footprint(target.pid)
        core = tmp_path / "core"
        done = living.run_tool(
            *("-m", method, "-q", "-o", core, "--json"),
            *("--stop-timeout", str(1.1 * DEADLINE), str(target.pid)),
        )
        if method == "fork":
            assert done.returncode == int(Code.FAILED)
            assert "hangs in a direct read" in done.stderr
            assert not core.exists()
        else:
            assert done.returncode == int(Code.INCOMPLETE), done.stderr
            told = json.loads(done.stdout)
            assert (told["threads"], told["missed"]) == (1, hard.SLOW_THREADS)
            with Core(core) as opened:
                assert [thread.tid for thread in opened.threads] == [target.pid]
        hard.until(target.pid, lambda: living.footprint(target.pid) == before)
        assert target.wake is not None
        target.wake()
        hard.comes_to(target.subject, hard.SLOW_THREADS)
        assert target.subject.ask("check") == "ok"


@living.needs_root
def test_when_memory_is_short_the_copy_dies_and_not_the_target() -> None:
    """It has room for the fork, and not for what the target writes while the copy lives."""
    with a_place() as place:
        subject, _ = hard.with_memory_left(place, 8 * hard.MIB)
        before = living.footprint(subject.pid)
        with living.Held(subject.pid, "-m", "fork") as held:
            assert held.copy
            copy = os.pidfd_open(held.copy)
            subject.tell("touch")
            gone = living.wait_gone(copy)
            os.close(copy)
            assert gone
            assert held.finish() == int(Code.FAILED)
            assert "runs on" in held.talk()
        living.until_undisturbed(subject, before)
        assert subject.ask("check") == "ok"


@living.needs_root
def test_a_dumper_in_the_group_of_its_target_stages_no_more_than_the_group_has() -> None:
    """What it takes would be taken from the target, which is as large and may be killed for it."""
    with a_place() as place:
        subject, group = hard.with_memory_left(place, 16 * hard.MIB)
        before = living.footprint(subject.pid)
        script = 'echo $$ > "$1" && shift && exec "$@" > /dev/null'
        dump = (living.tool(), "-m", "stop", "-o", "-", str(subject.pid))
        done = subprocess.run(
            ["sh", "-c", script, "sh", group.place / "cgroup.procs", *dump],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stderr
        living.until_undisturbed(subject, before)
        assert subject.ask("check") == "ok"


MANY = 1 << 40


@living.needs_root
@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"memory.max": MANY, "memory.current": MANY - 4096, "memory.stat": 0}, "4096 bytes"),
        ({"memory.max": MANY, "memory.current": MANY + 4096, "memory.stat": 0}, "0 bytes of mem"),
        ({"memory.max": MANY, "memory.current": MANY, "memory.stat": 64 << 20}, ""),
        ({"memory.max": MANY, "memory.current": MANY - (8 << 20), "memory.stat": 0}, ""),
        ({"memory.max": MANY, "memory.current": MANY - (8 << 20), "memory.stat": 0,
          "memory.oom.group": 1}, "the whole group"),
        ({"memory.max": "max", "memory.current": MANY, "memory.stat": 0}, ""),
        ({"pids.max": 100, "pids.current": 99}, "pids.max"),
        ({"pids.max": 100, "pids.current": 98}, ""),
        ({"pids.max": "max", "pids.current": 98}, ""),
    ],
)  # fmt: skip
def test_what_control_groups_of_version_2_say(files: dict[str, object], why: str) -> None:
    """Its files are put where the kernel's would be, which this one may have of version 1 only."""
    with a_place() as place:
        subject = place.start("fill", "64")
        script = 'mount -t tmpfs fake /sys/fs/cgroup && cp "$1"/* /sys/fs/cgroup && shift && "$@"'
        fake = place.directory / "fake"
        fake.mkdir()
        for name, value in files.items():
            text = f"anon 1\ninactive_file {value}\nactive_file 0\n"
            (fake / name).write_text(text if name == "memory.stat" else f"{value}\n")
        target = Hard(
            subject=subject,
            pid=subject.pid,
            before=(living.need("unshare"), "--mount", "sh", "-c", script, "sh", str(fake)),
        )
        done = hard.judge(target)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        fork = verdict_of(told, "fork")
        assert (fork["works"], why in fork["why_not"]) == (not why, True)
        assert told["dumps"]["fork"].get("what", "") == fork["why_not"]


@living.needs_root
@pytest.mark.parametrize(("committed", "works"), [(0, True), (90, True), (99, False)])
def test_what_strict_overcommit_says(committed: int, works: bool) -> None:
    """Its files are put where the kernel's are, whose setting is for the whole machine."""
    with a_place() as place:
        subject = place.start("fill", "64")
        gibibyte = 1 << 20  # kB
        meminfo = (
            f"MemAvailable: {4 * gibibyte} kB\nCommitLimit: {100 * gibibyte} kB\n"
            f"Committed_AS: {committed * gibibyte + gibibyte * (not works) * 19 // 20} kB\n"
        )
        (place.directory / "meminfo").write_text(meminfo)
        (place.directory / "overcommit").write_text("2\n")
        script = (
            'mount --bind "$1/meminfo" /proc/meminfo && '
            'mount --bind "$1/overcommit" /proc/sys/vm/overcommit_memory && shift && "$@"'
        )
        unshare = (living.need("unshare"), "--mount", "sh", "-c", script, "sh")
        target = Hard(subject=subject, pid=subject.pid, before=(*unshare, str(place.directory)))
        done = hard.judge(target)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        fork = verdict_of(told, "fork")
        assert (fork["works"], "does not promise" in fork["why_not"]) == (works, not works)
        assert told["dumps"]["fork"].get("what", "") == fork["why_not"]


@pytest.mark.parametrize(("row", "width"), list(params(FINAL_ROWS)))
def test_the_doctor_is_right_of_what_nobody_may(row: Row, width: Width) -> None:
    test_the_doctor_is_right_and_the_target_goes_on(row, width)
