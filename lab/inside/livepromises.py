# SPDX-License-Identifier: BSD-3-Clause
"""What /proc/PID/livedump promises, each promise a function: docs/livedump.md in executable form.

Assertions are seen on the host as the error of the call.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path

from lab.inside.livefile import (
    EMPTY,
    PATTERN,
    UNLIMITED,
    Attempt,
    attempt,
    become,
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

TIMEOUT = Path("/sys/module/livedump/parameters/stop_timeout_ms")
PAGE = os.sysconf("SC_PAGE_SIZE")

_libc = ctypes.CDLL(None, use_errno=True)
# include/uapi/linux/prctl.h
_PR_SET_DUMPABLE, _PR_SET_IO_FLUSHER = 4, 57
# include/uapi/linux/userfaultfd.h
_UFFDIO_API = 0xC018AA3F
_UFFDIO_REGISTER = 0xC020AA00
_UFFD_API, _UFFD_FEATURE_EVENT_FORK, _UFFDIO_REGISTER_MODE_MISSING = 0xAA, 2, 1
# include/uapi/linux/sched.h
_CLONE_NEWUTS = 0x04000000
_SYS_EXIT = {"x86_64": 60, "i686": 1, "armv7l": 1, "aarch64": 93}
_SYS_USERFAULTFD = {"x86_64": 323, "i686": 374, "armv7l": 388, "aarch64": 282}


# -- the first paragraph ---------------------------------------------------------------------------


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


# -- errors ----------------------------------------------------------------------------------------


def what_is_not_understood_is_einval_and_dumps_nothing() -> None:
    words = ("x", "core_limit", "core_limit=", "sched_prio=20", "core_limit=unlimited x")
    with directory() as where, subject(where, core=(-1, -1)) as process:
        for text in (*words, b" " * PAGE):
            expect("EINVAL", attempt(process.pid, text))
        expect("ok", attempt(process.pid, b" " * (PAGE - 1)))
        assert len(cores(where)) == 1
        # A write of nothing is none.
        fd = os.open(f"/proc/{process.pid}/livedump", os.O_WRONLY)
        assert os.write(fd, b"") == 0
        assert _libc.write(fd, None, 5) == -1 and ctypes.get_errno() == errno.EFAULT
        os.close(fd)
        assert len(cores(where)) == 1


def kernel_threads_and_copies_are_einval() -> None:
    expect("EINVAL", attempt(2, UNLIMITED))
    with directory() as where, subject(where) as process, held(where, process.pid) as dump:
        expect("EINVAL", attempt(dump.pid, UNLIMITED))
        assert dump.go() == "ok"


def a_second_dump_at_the_same_time_is_einprogress() -> None:
    with directory() as where, subject(where) as process:
        with held(where, process.pid) as dump:
            expect("EINPROGRESS", attempt(process.pid, EMPTY))
            assert dump.go() == "ok"
        expect("ok", attempt(process.pid, EMPTY))


def writes_by_one_descriptor_do_not_wait_for_each_other() -> None:
    with directory() as where, subject(where) as process:
        fd = os.open(f"/proc/{process.pid}/livedump", os.O_WRONLY)
        with held(where, process.pid, fd=fd) as dump:
            expect("EINPROGRESS", Attempt(process.pid, EMPTY, fd=fd).result())
            assert dump.go() == "ok"
        os.close(fd)


def a_dead_process_is_esrch() -> None:
    with directory() as where, subject(where) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        expect("ESRCH", attempt(process.pid, UNLIMITED))
        fd = os.open(f"/proc/{process.pid}/livedump", os.O_WRONLY)
        process.wait()
        try:
            os.write(fd, b"\n")
        except OSError as error:
            assert error.errno == errno.ESRCH
        else:
            raise AssertionError("a process that is gone was dumped")
        finally:
            os.close(fd)


def what_is_beyond_the_writers_privileges_is_eperm() -> None:
    with directory() as where, subject(where, user=NOBODY, core=(0, PAGE * 9)) as process:
        for text in ("sched_prio=-1", "oom_adj=-1", "core_limit=unlimited"):
            expect("EPERM", attempt(process.pid, text, user=NOBODY))
        assert not cores(where)
        for text in ("sched_prio=1 oom_adj=1", f"core_limit={PAGE * 9}"):
            expect("ok", attempt(process.pid, text, user=NOBODY))
        assert len(cores(where)) == 1
        expect("ok", attempt(process.pid, "sched_prio=-1 oom_adj=-1 core_limit=unlimited"))


def a_privileged_program_lends_nothing_to_a_descriptor() -> None:
    """Opened by nobody, written to by root: allowed is what both may do."""
    with directory() as where, subject(where, user=NOBODY, core=(0, 0)) as process:
        tee = _set_user_id(where, "tee")
        line = f"echo core_limit=unlimited | {tee} >/proc/{process.pid}/livedump"
        done = shell(line, user=NOBODY)
        assert done.returncode != 0 and "not permitted" in done.stderr, done
        assert not cores(where)
        assert shell(f"echo core_limit=0 | {tee} >/proc/{process.pid}/livedump").returncode == 0


def _set_user_id(where: Path, name: str) -> Path:
    copy = where / name
    shutil.copyfile(shutil.which(name) or name, copy)
    copy.chmod(0o4755)
    return copy


EXECS = """
import os, sys
print(flush=True)
sys.stdin.readline()
os.execv({program!r}, ["cat"])
"""


def a_descriptor_opened_before_a_set_user_id_exec_dumps_nothing() -> None:
    with directory() as where:
        cat = _set_user_id(where, "cat")
        program = EXECS.format(program=str(cat))
        with subject(where, user=NOBODY, core=(-1, -1), program=program) as process:
            assert process.stdin is not None
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    become(NOBODY)
                    fd = os.open(f"/proc/{process.pid}/livedump", os.O_WRONLY)
                    process.stdin.write(b"\n")
                    wait_until(lambda: Path(f"/proc/{process.pid}").stat().st_uid == 0, "exec")
                    os.write(writer, write(fd, b"\n").encode())
                finally:
                    os._exit(0)
            os.close(writer)
            os.waitpid(child, 0)
            expect("EACCES", os.read(reader, 100).decode())
            os.close(reader)
            assert not cores(where)


PRCTL = """
import ctypes
assert ctypes.CDLL(None).prctl({what}, {value}, 0, 0, 0) == 0
print(flush=True)
input()
"""


def a_process_that_is_not_dumpable_is_eperm() -> None:
    program = PRCTL.format(what=_PR_SET_DUMPABLE, value=0)
    with directory() as where, subject(where, program=program) as process:
        expect("EPERM", attempt(process.pid, UNLIMITED))
        assert not cores(where)


def a_process_that_serves_the_kernel_is_ebusy() -> None:
    program = PRCTL.format(what=_PR_SET_IO_FLUSHER, value=1)
    with directory() as where, subject(where, program=program) as process:
        expect("EBUSY", attempt(process.pid, UNLIMITED))
        assert not cores(where)


WATCHED = f"""
import ctypes, fcntl, mmap, os, struct
fd = ctypes.CDLL(None, use_errno=True).syscall({{number}}, os.O_CLOEXEC)
assert fd >= 0, ctypes.get_errno()
fcntl.ioctl(fd, {_UFFDIO_API}, struct.pack("QQQ", {_UFFD_API}, {_UFFD_FEATURE_EVENT_FORK}, 0))
area = mmap.mmap(-1, 1 << 16)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
range_ = struct.pack("QQQQ", start, 1 << 16, {_UFFDIO_REGISTER_MODE_MISSING}, 0)
fcntl.ioctl(fd, {_UFFDIO_REGISTER}, range_)
print(flush=True)
input()
"""


def a_process_whose_forks_are_told_to_a_userfaultfd_is_ebusy() -> None:
    program = WATCHED.format(number=_SYS_USERFAULTFD[os.uname().machine])
    with directory() as where, subject(where, program=program) as process:
        expect("EBUSY", attempt(process.pid, UNLIMITED))
        assert not cores(where)


# Random bytes take the kernel long, and while it makes them the thread does not sleep.
BUSY = """
import ctypes
buffer = ctypes.create_string_buffer(1 << 25)
print(flush=True)
while True:
    ctypes.CDLL(None).getrandom(buffer, len(buffer), 0)
"""


def a_process_that_cannot_be_stopped_in_time_is_etimedout() -> None:
    with directory() as where, subject(where, program=BUSY) as process:
        with setting(TIMEOUT, "1"):
            expect("ETIMEDOUT", attempt(process.pid, UNLIMITED))
        assert not cores(where)
        expect("ok", attempt(process.pid, UNLIMITED))


def a_killed_copy_is_ecanceled() -> None:
    with directory() as where, subject(where) as process:
        with held(where, process.pid) as dump:
            os.kill(dump.pid, signal.SIGKILL)
            said = dump.go()
            assert said == "ECANCELED", said
        assert echo(process) and attempt(process.pid, EMPTY) == "ok"


def a_killed_writer_ends_the_dump() -> None:
    with directory() as where, subject(where) as process:
        with held(where, process.pid) as dump:
            copy = Path(f"/proc/{dump.pid}")
            os.kill(dump.writer.pid, signal.SIGKILL)
            assert dump.go() == ""
            wait_until(lambda: not copy.exists(), "the copy's end")
        assert echo(process) and attempt(process.pid, UNLIMITED) == "ok"


def a_core_that_cannot_be_written_is_eio() -> None:
    with directory() as where, subject(where) as process:
        for pattern in ("/run/no-such-directory/core", "|/run/no-such-helper"):
            with setting(PATTERN, pattern):
                expect("EIO", attempt(process.pid, UNLIMITED))
        assert echo(process)


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
    what_is_not_understood_is_einval_and_dumps_nothing,
    kernel_threads_and_copies_are_einval,
    a_second_dump_at_the_same_time_is_einprogress,
    writes_by_one_descriptor_do_not_wait_for_each_other,
    a_dead_process_is_esrch,
    what_is_beyond_the_writers_privileges_is_eperm,
    a_privileged_program_lends_nothing_to_a_descriptor,
    a_descriptor_opened_before_a_set_user_id_exec_dumps_nothing,
    a_process_that_is_not_dumpable_is_eperm,
    a_process_that_serves_the_kernel_is_ebusy,
    a_process_whose_forks_are_told_to_a_userfaultfd_is_ebusy,
    a_process_that_cannot_be_stopped_in_time_is_etimedout,
    a_killed_copy_is_ecanceled,
    a_killed_writer_ends_the_dump,
    a_core_that_cannot_be_written_is_eio,
)


def example(lines: list[str]) -> None:
    """Lines of the documentation: what they write to the file of process 1234."""
    for line in lines:
        with directory() as where, subject(where, core=(0, -1)) as process:
            done = shell(line.replace("1234", str(process.pid)))
            assert (done.returncode, done.stderr) == (0, ""), (line, done)
            assert bool(cores(where)) == (UNLIMITED in line), line
            assert echo(process)
