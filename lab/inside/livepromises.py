# SPDX-License-Identifier: BSD-3-Clause
"""What /proc/PID/livedump promises, each promise a function: docs/livedump.md in executable form.

Assertions are seen on the host as the error of the call.
"""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Callable
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
)
from lab.inside.process import wait_until
from lab.matrix import NOBODY

PAGE = os.sysconf("SC_PAGE_SIZE")

# include/uapi/linux/sched.h
_CLONE_NEWUTS = 0x04000000
_SYS_EXIT = {"x86_64": 60, "i686": 1, "armv7l": 1, "aarch64": 93}


def every_process_has_the_file() -> None:
    """With mode 0200, of kernel threads too; threads have none."""
    for pid in (entry for entry in os.listdir("/proc") if entry.isdigit()):
        mode = Path(f"/proc/{pid}/livedump").stat().st_mode
        assert stat.S_ISREG(mode) and stat.S_IMODE(mode) == 0o200
    assert not Path(f"/proc/self/task/{os.getpid()}/livedump").exists()


SPINS = """
import mmap, os, threading
file = open("shared", "w+b")
file.truncate(4096)
shared = mmap.mmap(file.fileno(), 4096)
def spin(at):
    while True: shared[at] = (shared[at] + 1) % 256
for at in range(3): threading.Thread(target=spin, args=(at,), daemon=True).start()
print(flush=True)
input()
"""


def all_threads_are_copied_and_none_ever_runs() -> None:
    """The threads write to memory that their copies share: when they stop it stays as it is."""
    with directory() as where, subject(where, program=SPINS) as process:
        memory = where / "shared"
        tids = os.listdir(f"/proc/{process.pid}/task")
        assert len(tids) == 4
        first = memory.read_bytes()
        wait_until(lambda: memory.read_bytes() != first, "a thread that writes")
        with held(where, process.pid) as dump:
            assert len(dump.seen("threads").splitlines()) == len(tids)
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            before = memory.read_bytes()
            # Time enough for a thread that runs.
            assert echoes(where)
            assert memory.read_bytes() == before
            process.send_signal(signal.SIGCONT)
            assert dump.go() == "ok"


def echoes(where: Path) -> bool:
    """Does a new process answer?"""
    with subject(where) as another:
        return echo(another)


def it_is_in_a_pid_namespace_of_its_own_so_that_the_thread_ids_stay_the_same() -> None:
    with directory() as where, subject(where) as process, held(where, process.pid) as dump:
        assert numbers(dump.seen("status")) == [str(dump.pid), str(process.pid)]
        assert dump.go() == "ok"


def the_copy_dumps_core_the_standard_way() -> None:
    """core_pattern with its words, as the original's; the owner's file, of mode 600."""
    with directory() as where, subject(where, user=NOBODY, core=(-1, -1)) as process:
        with setting(PATTERN, "core.%p.%e"):
            expect("ok", attempt(process.pid, EMPTY))
        assert cores(where), os.listdir(where)
        (core,) = cores(where)
        assert core.name == f"core.{process.pid}.cat"
        status = core.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (NOBODY, 0o600)
        assert core.read_bytes()[:4] == b"\x7fELF"


def a_pipe_gets_the_core_whatever_the_limit_is() -> None:
    with directory() as where, subject(where, core=(0, 0)) as process:
        with held(where, process.pid) as dump:
            assert dump.go() == "ok"
        assert (where / "piped").read_bytes()[:4] == b"\x7fELF"


def the_filter_of_the_process_applies() -> None:
    with directory() as where, subject(where) as process:
        sizes = []
        for mask in ("0x33", "0"):
            Path(f"/proc/{process.pid}/coredump_filter").write_text(mask)
            with setting(PATTERN, f"core.{mask}"):
                expect("ok", attempt(process.pid, UNLIMITED))
            sizes.append((where / f"core.{mask}").stat().st_blocks)
        assert sizes[1] < sizes[0]


LEADERLESS = """
import ctypes, socket, sys, threading
libc = ctypes.CDLL(None)
assert libc.unshare({newuts}) == 0
socket.sethostname("elsewhere")
def answer():
    print(flush=True)
    for line in sys.stdin: print(line, end="", flush=True)
threading.Thread(target=answer).start()
libc.syscall({exit}, 0)
"""


def a_process_whose_leader_has_ended_is_dumped_by_its_next_thread() -> None:
    """With the namespaces of the process: the core's name has the host's, of its UTS namespace."""
    program = LEADERLESS.format(newuts=_CLONE_NEWUTS, exit=_SYS_EXIT[os.uname().machine])
    with directory() as where, subject(where, program=program) as process:
        leader = Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: leader.read_text().rpartition(") ")[2][0] == "Z", "the leader's end")
        with setting(PATTERN, "core.%h.%p"):
            expect("ok", attempt(process.pid, UNLIMITED))
        (core,) = cores(where)
        assert core.name == f"core.elsewhere.{process.pid}"
        assert echo(process)


def the_original_runs_on_meanwhile() -> None:
    with directory() as where, subject(where) as process:
        with held(where, process.pid) as dump:
            assert echo(process)
            assert not dump.writer.over()
            assert dump.go() == "ok"
        assert echo(process)


def since_the_limit_is_usually_zero_the_empty_write_normally_does_nothing() -> None:
    with directory() as where, subject(where, core=(0, -1)) as process:
        done = shell(f'echo "" >/proc/{process.pid}/livedump')
        assert (done.returncode, done.stderr) == (0, "")
        expect("ok", attempt(process.pid, EMPTY))
        assert not cores(where) and echo(process)


def with_a_limit_of_its_own_the_empty_write_dumps() -> None:
    with directory() as where, subject(where, core=(-1, -1)) as process:
        done = shell(f'echo "" >/proc/{process.pid}/livedump')
        assert (done.returncode, done.stderr) == (0, "")
        assert len(cores(where)) == 1


def core_limit_unlimited_dumps() -> None:
    with directory() as where, subject(where, core=(0, 0)) as process:
        done = shell(f'echo "core_limit=unlimited" >/proc/{process.pid}/livedump')
        assert (done.returncode, done.stderr) == (0, "")
        assert len(cores(where)) == 1 and echo(process)


def core_limit_is_in_bytes() -> None:
    """A core is cut there; one that could not have a page is none; the limit itself stays."""
    with directory() as where, subject(where, core=(0, -1)) as process:
        for limit, there in ((PAGE - 1, False), (40_000, True)):
            with setting(PATTERN, f"core.{limit}"):
                expect("ok", attempt(process.pid, f"core_limit={limit}"))
            core = where / f"core.{limit}"
            assert core.exists() == there
            assert not there or 0 < core.stat().st_blocks * 512 <= limit + 2 * PAGE
        assert resource.prlimit(process.pid, resource.RLIMIT_CORE) == (0, -1)
        with held(where, process.pid, "core_limit=123456") as dump:
            (line,) = (
                line for line in dump.seen("limits").splitlines() if "core file size" in line
            )
            assert line.split()[4] == "123456"
            assert dump.go() == "ok"


def sched_prio_is_the_nice_value_of_the_copy() -> None:
    _seen("nice", {EMPTY: "19", "sched_prio=5": "5", "sched_prio=-3": "-3"})


def io_prio_is_the_level_of_the_copys_io() -> None:
    _seen("ionice", {EMPTY: "best-effort: prio 7", "io_prio=2": "best-effort: prio 2"})


def oom_adj_is_like_that_of_proc() -> None:
    _seen(
        "oom_score_adj", {EMPTY: "1000", "oom_adj=7": str(7 * 1000 // 17), "oom_adj=-17": "-1000"}
    )


def _seen(name: str, wanted: dict[str, str]) -> None:
    for words, value in wanted.items():
        with directory() as where, subject(where) as process:
            before = os.getpriority(os.PRIO_PROCESS, process.pid)
            with held(where, process.pid, words) as dump:
                assert dump.seen(name) == value, (words, dump.seen(name))
                assert dump.go() == "ok"
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == before


def several_options_are_one_dump() -> None:
    words = "sched_prio=4,oom_adj=3 core_limit=99999 io_prio=1"
    with directory() as where, subject(where) as process, held(where, process.pid, words) as dump:
        assert (dump.seen("nice"), dump.seen("oom_score_adj")) == ("4", str(3 * 1000 // 17))
        assert dump.seen("ionice") == "best-effort: prio 1"
        assert dump.go() == "ok"


CASES: tuple[Callable[[], None], ...] = (
    every_process_has_the_file,
    all_threads_are_copied_and_none_ever_runs,
    it_is_in_a_pid_namespace_of_its_own_so_that_the_thread_ids_stay_the_same,
    the_copy_dumps_core_the_standard_way,
    a_pipe_gets_the_core_whatever_the_limit_is,
    the_filter_of_the_process_applies,
    a_process_whose_leader_has_ended_is_dumped_by_its_next_thread,
    the_original_runs_on_meanwhile,
    since_the_limit_is_usually_zero_the_empty_write_normally_does_nothing,
    with_a_limit_of_its_own_the_empty_write_dumps,
    core_limit_unlimited_dumps,
    core_limit_is_in_bytes,
    sched_prio_is_the_nice_value_of_the_copy,
    io_prio_is_the_level_of_the_copys_io,
    oom_adj_is_like_that_of_proc,
    several_options_are_one_dump,
)


def example(lines: list[str]) -> None:
    """Lines of the documentation: what they write to the file of process 1234."""
    for line in lines:
        with directory() as where, subject(where, core=(0, -1)) as process:
            done = shell(line.replace("1234", str(process.pid)))
            assert (done.returncode, done.stderr) == (0, ""), (line, done)
            assert bool(cores(where)) == (UNLIMITED in line), line
            assert echo(process)
