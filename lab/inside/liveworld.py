# SPDX-License-Identifier: BSD-3-Clause
"""What /proc/PID/livedump promises about the world around a process: other users, containers,
limits, and what is left afterwards. As livepromises.py.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.inside.livefile import (
    EMPTY,
    PATTERN,
    UNLIMITED,
    attempt,
    cores,
    directory,
    echo,
    expect,
    held,
    numbers,
    setting,
    shell,
    subject,
    write,
)
from lab.inside.process import wait_until
from lab.matrix import NOBODY

NAMESPACES = Path("/proc/sys/user/max_pid_namespaces")
CGROUPS = Path("/run/livedump-cgroups")
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
LONER = 4242
"""A user without processes."""
MEBIBYTE = 1 << 20
_PR_SET_THP_DISABLE = 41  # include/uapi/linux/prctl.h


# -- other users -----------------------------------------------------------------------------------


def whoever_may_not_debug_it_may_not_open_it() -> None:
    with directory() as where, subject(where) as process, subject(where, user=NOBODY) as theirs:
        expect("open EACCES", attempt(process.pid, EMPTY, user=NOBODY))
        expect("ok", attempt(theirs.pid, EMPTY, user=NOBODY))
        expect("open EACCES", attempt(theirs.pid, EMPTY, user=NOBODY + 1))


def whoever_was_denied_on_the_original_is_denied_on_its_copy() -> None:
    with directory() as where, subject(where) as roots, subject(where, user=NOBODY) as theirs:
        for process in (roots, theirs):
            with held(where, process.pid) as dump:
                for user in (NOBODY, NOBODY + 1):
                    assert _opened(dump.pid, user) <= _opened(process.pid, user), user
                assert dump.go() == "ok"
            assert ("mem" in _opened(process.pid, NOBODY)) == (process is theirs)
            (where / "gate").unlink()
            (where / "pid").unlink()


def _opened(pid: int, user: int) -> set[str]:
    """Which of its files in /proc, among those that are not everybody's, the user may read."""
    files = "mem maps environ auxv pagemap syscall stack fd/0 cwd/. root/."
    test = f"for f in {files}; do (exec <$f) 2>/dev/null && echo $f; done; true"
    return set(shell(f"cd /proc/{pid}; {test}", user=user).stdout.split())


# The first process of a container, with a child, which it dumps when it is asked to.
CONTAINER = """
import subprocess, sys
child = subprocess.Popen(["sleep", "3600"])
print(child.pid, flush=True)
for line in sys.stdin:
    with open(f"/proc/{child.pid}/livedump", "w") as file:
        file.write("core_limit=unlimited")
    print(line, end="", flush=True)
"""
INTO = (
    *("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"),
    *("--mount-proc", sys.executable, "-c", CONTAINER),
)


def a_container_is_dumped_from_outside_and_from_inside() -> None:
    """With the numbers that its processes have in there."""
    with directory() as where, subject(where, argv=INTO) as outer:
        (first,) = _children(outer.pid)
        (child,) = _children(first)
        known = numbers(Path(f"/proc/{child}/status").read_text())
        assert len(known) == 2
        with held(where, child, UNLIMITED) as dump:
            assert numbers(dump.seen("status"))[-1] == known[-1]
            assert dump.go() == "ok"
        with setting(PATTERN, "core.%p"):
            assert echo(outer)
            (core,) = cores(where)
            assert core.name == f"core.{known[-1]}"
        assert numbers(Path(f"/proc/{child}/status").read_text()) == known


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# -- limits ----------------------------------------------------------------------------------------


@contextmanager
def cgroup(**settings: str) -> Iterator[Path]:
    """A cgroup with these settings; a dot is written as two underscores."""
    if not CGROUPS.exists():
        CGROUPS.mkdir()
        subprocess.run(["mount", "-t", "cgroup2", "none", CGROUPS], check=True)
    (CGROUPS / "cgroup.subtree_control").write_text("+pids +memory")
    path = CGROUPS / "subject"
    path.mkdir()
    try:
        for name, value in settings.items():
            (path / name.replace("__", ".")).write_text(value)
        yield path
    finally:
        for pid in (path / "cgroup.procs").read_text().split():
            (CGROUPS / "cgroup.procs").write_text(pid)
        wait_until(lambda: "populated 0" in (path / "cgroup.events").read_text(), "its end")
        path.rmdir()


def a_frozen_process_is_eagain() -> None:
    with directory() as where, subject(where) as process, cgroup() as group:
        (group / "cgroup.procs").write_text(str(process.pid))
        (group / "cgroup.freeze").write_text("1")
        wait_until(lambda: "frozen 1" in (group / "cgroup.events").read_text(), "freezing")
        expect("EAGAIN", attempt(process.pid, UNLIMITED))
        (group / "cgroup.freeze").write_text("0")
        assert echo(process)
        expect("ok", attempt(process.pid, UNLIMITED))


def the_limits_of_the_cgroup_are_meant_for_the_copy() -> None:
    with directory() as where, subject(where) as process, cgroup(pids__max="1") as group:
        (group / "cgroup.procs").write_text(str(process.pid))
        expect("EAGAIN", attempt(process.pid, UNLIMITED))
        assert not cores(where)
        (group / "pids.max").write_text("2")
        expect("ok", attempt(process.pid, UNLIMITED))
        assert len(cores(where)) == 1
        wait_until(lambda: (group / "pids.current").read_text() == "1\n", "the copy's end")


def the_users_number_of_processes_is_limited_as_for_fork() -> None:
    """The process and its writer are the user's only ones; the copy would be the third."""
    with directory() as where, subject(where, user=LONER, core=(-1, -1)) as process:
        for limit, wanted in ((0, "EAGAIN"), (2, "EAGAIN"), (3, "ok")):
            resource.prlimit(process.pid, resource.RLIMIT_NPROC, (limit, limit))
            expect(wanted, attempt(process.pid, EMPTY, user=LONER))
            assert bool(cores(where)) == (wanted == "ok")
        # Root's fork has no such limit.
        resource.prlimit(process.pid, resource.RLIMIT_NPROC, (0, 0))
        expect("ok", attempt(process.pid, "core_limit=0"))


def too_many_pid_namespaces_are_enospc() -> None:
    with directory() as where, subject(where) as process:
        with setting(NAMESPACES, "0"):
            expect("ENOSPC", attempt(process.pid, UNLIMITED))
        expect("ok", attempt(process.pid, UNLIMITED))


# What it writes to while a copy is there it has twice. The cgroup that it is in at the first line
# has all of it, also what is given back: pages of 4 KiB, for huge ones are given back when all of
# each is.
WRITES = f"""
import ctypes, sys
assert ctypes.CDLL(None).prctl({_PR_SET_THP_DISABLE}, 1, 0, 0, 0) == 0
print(flush=True)
block = None
for line in sys.stdin:
    block = block or bytearray(24 << 20)
    for at in range(0, len(block), 4096):
        block[at] ^= 1
    print(line, end="", flush=True)
"""


def the_copy_is_killed_first_when_the_cgroup_has_no_more_memory() -> None:
    with (
        directory() as where,
        cgroup() as group,
        subject(where, program=WRITES, core=(0, -1)) as process,
    ):
        (group / "cgroup.procs").write_text(str(process.pid))
        assert echo(process)
        used = int((group / "memory.current").read_text())
        (group / "memory.max").write_text(str(used + 8 * MEBIBYTE))
        with held(where, process.pid) as dump:
            assert echo(process)
            assert "oom_kill 1\n" in (group / "memory.events").read_text()
            expect("ECANCELED", dump.go())
        assert echo(process)


HAS = """
import mmap, sys
memory = mmap.mmap(-1, int(sys.stdin.readline()), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
print(flush=True)
for line in sys.stdin: print(line, end="", flush=True)
"""


def without_memory_for_a_copy_it_is_enomem() -> None:
    """The kernel promises no more than it has; a third of what is left is for who writes."""
    with directory() as where, subject(where, program=f"print(flush=True)\n{HAS}") as process:
        lines = map(str.split, Path("/proc/meminfo").read_text().splitlines())
        kibibytes = {name: int(number) for name, number, *_ in lines}
        left = kibibytes["CommitLimit:"] - kibibytes["Committed_AS:"]
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{left * 2 // 3 * 1024}\n".encode())
        assert process.stdout.readline()
        with setting(OVERCOMMIT, "2"):
            expect("ENOMEM", attempt(process.pid, UNLIMITED))
        assert not cores(where)
        expect("ok", attempt(process.pid, UNLIMITED))
        assert echo(process)


# -- afterwards ------------------------------------------------------------------------------------


def a_thousand_texts_do_no_harm() -> None:
    """Most are refused; what is not dumps, or does nothing, as it is understood."""
    source = random.Random(20)
    words = (
        *("core_limit", "sched_prio", "io_prio", "oom_adj", "unlimited", "=", " ", ",", "\n", "-"),
        *("0", "7", "99999999999999999999", "\0", "\xff", "core_limit=0", "sched_prio=5"),
    )
    with directory() as where, subject(where) as process:
        fd = os.open(f"/proc/{process.pid}/livedump", os.O_WRONLY)
        said = set()
        for _ in range(1000):
            text = "".join(source.choices(words, k=source.randrange(1, 8)))
            said.add(write(fd, text.encode("latin-1")))
        os.close(fd)
        assert {"EINVAL", "ok"} <= said <= {"EINVAL", "ok", "EPERM"}, said
        assert echo(process)
        expect("ok", attempt(process.pid, EMPTY))


def nothing_of_it_is_left() -> None:
    """A hundred dumps, then there are no more processes than before."""
    with directory() as where, subject(where) as process:
        before = _of_dumps()
        for _ in range(100):
            expect("ok", attempt(process.pid, EMPTY))
        wait_until(lambda: _of_dumps() <= before, "the end of the copies")
        assert echo(process)


def _of_dumps() -> set[str]:
    """Processes that have a copy's name, or a manager's."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            name = Path(f"/proc/{pid}/comm").read_text()
        except OSError:  # it is gone
            continue
        if name.startswith(("cat\n", "livedump/")):
            found.add(pid)
    return found


CASES: tuple[Callable[[], None], ...] = (
    whoever_may_not_debug_it_may_not_open_it,
    whoever_was_denied_on_the_original_is_denied_on_its_copy,
    a_container_is_dumped_from_outside_and_from_inside,
    a_frozen_process_is_eagain,
    the_limits_of_the_cgroup_are_meant_for_the_copy,
    the_users_number_of_processes_is_limited_as_for_fork,
    too_many_pid_namespaces_are_enospc,
    the_copy_is_killed_first_when_the_cgroup_has_no_more_memory,
    without_memory_for_a_copy_it_is_enomem,
    a_thousand_texts_do_no_harm,
    nothing_of_it_is_left,
)
