# SPDX-License-Identifier: BSD-3-Clause
"""/proc/PID/livedump under stress: kills at whatever phase, many at once, targets that never rest,
and a kernel that runs out of memory.

Assertions are seen on the host as the error of the call.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.inside.livefile import (
    EMPTY,
    PATTERN,
    UNLIMITED,
    Attempt,
    attempt,
    cores,
    directory,
    echo,
    expect,
    setting,
    subject,
)
from lab.inside.process import ScenarioFailed, wait_until

CHURN = Path("/run/churn")
"""Where the host puts churn.c's program."""
NAMESPACES = Path("/proc/sys/user/max_pid_namespaces")
SLABS = Path("/sys/kernel/slab")
SLABINFO = Path("/proc/slabinfo")
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
DEBUG = Path("/sys/kernel/debug")

VICTIMS = {
    "writer": {"", "ok"},
    "manager": {"ok"},
    "copy": {"ok", "ECANCELED"},
    "target": {"ok", "ESRCH"},
}
"""Who is killed, and what may become of the write then; the manager is deaf to it."""
BUSY = ("clone", "signal", "exec")
"""Modes of churn that never rest."""

# Every other kill comes after some looks at /proc, at most so many: that spreads kills over a dump.
_LOOKS = 400
# A dump's tasks get numbers soon behind its writer's.
_BEHIND = 80
# Namespaces are freed a grace period of RCU after their last process.
_NAMESPACES = 16


@contextmanager
def _target(where: Path, mode: str) -> Iterator[subprocess.Popen[bytes]]:
    with subject(where, argv=(str(CHURN), mode)) as process:
        yield process


def _parts(pid: int, writer: int) -> Iterator[tuple[str, int]]:
    """Tasks of a dump of ``pid`` that live now, and whether each is the manager or a copy."""
    names = (f"livedump/{pid}"[:15], "churn")
    for number in range(writer + 1, writer + _BEHIND):
        try:
            name = Path(f"/proc/{number}/comm").read_text().rstrip("\n")
        except OSError:  # there is none, or it went
            continue
        if name in names:
            # Kernel threads have no executable.
            yield "copy" if _exe(number) else "manager", number


def _exe(number: int) -> str:
    """The executable's name, or none."""
    try:
        return os.readlink(f"/proc/{number}/exe")
    except OSError:
        return ""


def _victim(who: str, pid: int, writer: Attempt) -> int:
    """Its number, or 0 if it is not there."""
    if who in ("writer", "target"):
        return writer.pid if who == "writer" else pid
    return next((number for part, number in _parts(pid, writer.pid) if part == who), 0)


def _kill(who: str, pid: int, writer: Attempt, looks: int) -> None:
    """When it is there, but after so many looks; or never, if the dump is over before."""
    for _ in range(looks):
        os.access(f"/proc/{pid}", os.F_OK)
    while not writer.over():
        if victim := _victim(who, pid, writer):
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
            return


def _dumps_again(pid: int) -> bool:
    """A dump that is being given up is in the way of the next one for a moment."""
    said = attempt(pid, EMPTY)
    assert said in ("ok", "EINPROGRESS"), said
    return said == "ok"


def kill(*, who: str, rounds: int, seed: int) -> dict[str, int]:
    """Kill one who takes part in a dump, again and again: how often which result came."""
    source = random.Random(seed)
    results: Counter[str] = Counter()
    with directory() as where, setting(PATTERN, "core"):
        for number in range(rounds):
            with _target(where, "idle") as process:
                writer = Attempt(process.pid, UNLIMITED)
                _kill(who, process.pid, writer, source.randrange(_LOOKS) if number % 2 else 0)
                said = writer.result()
                assert said in VICTIMS[who], said
                results[said] += 1
                if who != "target":
                    assert echo(process)
                    wait_until(lambda pid=process.pid: _dumps_again(pid), "the next dump")  # type: ignore[misc]
                    assert echo(process)
            wait_until(
                lambda pid=process.pid, at=writer.pid: not any(_parts(pid, at)),  # type: ignore[misc]
                "the end of all copies",
            )
            for core in cores(where):
                core.unlink()
    return dict(results)


def together(*, targets: int, writers: int, rounds: int) -> None:
    """Several processes are dumped at once, each by several writers."""
    with directory() as where, setting(PATTERN, "core.%p"), ExitStack() as stack:
        processes = [stack.enter_context(_target(where, "idle")) for _ in range(targets)]
        for _ in range(rounds):
            begun = [Attempt(each.pid, UNLIMITED) for each in processes for _ in range(writers)]
            said = [each.result() for each in begun]
            assert set(said) <= {"ok", "EINPROGRESS"}, said
            for place, process in enumerate(processes):
                assert "ok" in said[place * writers :][:writers], said
                assert (where / f"core.{process.pid}").exists()
            for core in cores(where):
                core.unlink()
        assert all(map(echo, processes))


def restless(*, mode: str, dumps: int) -> int:
    """Dump a process that never rests; how often it did meanwhile what it does."""
    with directory() as where, _target(where, mode) as process:
        for _ in range(dumps):
            expect("ok", attempt(process.pid, EMPTY))
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"finish\n")
        said, _, count = process.stdout.readline().decode().rstrip("\n").rpartition(" ")
        expect("ok", said)
        return int(count)


def nothing_is_kept(*, dumps: int) -> None:
    """More dumps than there may be pid namespaces; and of no object of the kernel are there more
    afterwards, as there were if each other dump kept one."""
    with directory() as where, _target(where, "idle") as process:
        expect("ok", attempt(process.pid, UNLIMITED))
        before = _objects()
        with setting(NAMESPACES, str(_NAMESPACES)):
            for _ in range(dumps):
                expect("ok", attempt(process.pid, UNLIMITED))
        assert echo(process)
        try:
            wait_until(lambda: not _kept(before, dumps // 2), "the kernel frees what dumps took")
        except ScenarioFailed as error:
            raise AssertionError(f"{_kept(before, dumps // 2)}") from error


def _objects() -> Counter[str]:
    """How many objects of each kind the kernel uses, without what processors have set aside."""
    DROP_CACHES.write_text("2")  # names and inodes
    for cache in SLABS.iterdir():
        if not cache.is_symlink():
            (cache / "shrink").write_text("1")
    rows = (line.split() for line in SLABINFO.read_text().splitlines()[2:])
    return Counter({name: int(active) for name, active, *_ in rows})


def _kept(before: Counter[str], many: int) -> dict[str, int]:
    return {name: more for name, more in (_objects() - before).items() if more >= many}


# -- a kernel that checks itself -------------------------------------------------------------------


def _mount_debugfs() -> None:
    if not os.path.ismount(DEBUG):
        subprocess.run(["mount", "-t", "debugfs", "none", DEBUG], check=True)


def without_memory(*, knob: str, rounds: int) -> dict[str, int]:
    """Let one allocation of those who make the copy fail, another one in each round.

    ``knob`` is failslab or fail_page_alloc. Kernel threads and the copies are born with the mark of
    kthreadd, their ancestor.
    """
    _mount_debugfs()
    fail = DEBUG / knob
    mark = Path("/proc/2/make-it-fail")
    results: Counter[str] = Counter()
    (fail / "ignore-gfp-wait").write_text("N")
    (fail / "task-filter").write_text("Y")
    (fail / "verbose").write_text("0")
    if knob == "fail_page_alloc":
        (fail / "min-order").write_text("0")
    with directory() as where, setting(PATTERN, "core"), _target(where, "idle") as process:
        for number in range(1, rounds + 1):
            (fail / "interval").write_text(str(number))
            (fail / "times").write_text("1")
            mark.write_text("1")
            (fail / "probability").write_text("100")
            said = attempt(process.pid, UNLIMITED)
            (fail / "probability").write_text("0")
            mark.write_text("0")
            assert said in ("ok", "ENOMEM", "EAGAIN", "ENOSPC", "EIO"), said
            results[said] += 1
            assert echo(process)
            for core in cores(where):
                core.unlink()
        expect("ok", attempt(process.pid, UNLIMITED))
    return dict(results)


def leaks() -> list[str]:
    """What kmemleak has found of ours since the guest's start, after two scans."""
    _mount_debugfs()
    kmemleak = DEBUG / "kmemleak"
    for _ in "12":
        kmemleak.write_text("scan")
    reports = re.split(r"^(?=unreferenced object)", kmemleak.read_text(), flags=re.MULTILINE)
    return [report for report in reports if "livedump" in report]
