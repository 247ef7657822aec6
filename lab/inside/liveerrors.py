# SPDX-License-Identifier: BSD-3-Clause
"""How writes to /proc/PID/livedump fail: each error that it promises is provoked.

As livepromises.py.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import struct
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
_SYS_USERFAULTFD = {"x86_64": 323, "i686": 374, "armv7l": 388, "aarch64": 282}


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


# A thread stops when it leaves the kernel, and here it stays for a gibibyte of random bytes, or
# until a signal ends the call. They all go to one mebibyte.
BUSY = """
import os, signal
enough = []
signal.signal(signal.SIGUSR1, lambda *_: enough.append(True))
source = os.open("/dev/urandom", os.O_RDONLY)
memory = bytearray(1 << 20)
print(flush=True)
while not enough:
    os.readv(source, [memory] * 1024)
input()
"""


def _time_in_kernel(pid: int) -> int:
    """In ticks. See proc_pid_stat(5): stime, counted from the end of the name."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[12])


def a_process_that_cannot_be_stopped_in_time_is_etimedout() -> None:
    with directory() as where, subject(where, program=BUSY) as process:
        begun = _time_in_kernel(process.pid) + 5
        wait_until(lambda: _time_in_kernel(process.pid) > begun, "its long call")
        with setting(TIMEOUT, "1"):
            expect("ETIMEDOUT", attempt(process.pid, UNLIMITED))
        assert not cores(where)
        process.send_signal(signal.SIGUSR1)
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


# A program of binfmt_flat: a header of include/linux/flat.h, in which the text begins, and ARM's
# instructions, which write a line and wait.
_FLAT_CODE = (
    0xE3A07004,  # mov r7, #4 (write)
    0xE3A00001,  # mov r0, #1
    0xE28F1010,  # add r1, pc, #16
    0xE3A02001,  # mov r2, #1
    0xEF000000,  # svc 0
    0xE3A0701D,  # mov r7, #29 (pause)
    0xEF000000,  # svc 0
    0xEAFFFFFC,  # b to the one before last but one
    ord("\n"),
)
_FLAT_VERSION, _FLAT_HEADER, _FLAT_STACK = 4, 64, 1 << 16


def _flat() -> bytes:
    code = struct.pack(f"<{len(_FLAT_CODE)}I", *_FLAT_CODE)
    end = _FLAT_HEADER + len(code)
    # Version, entry, ends of text, data and bss, stack.
    header = struct.pack(">4s6I", b"bFLT", _FLAT_VERSION, _FLAT_HEADER, end, end, end, _FLAT_STACK)
    return header.ljust(_FLAT_HEADER, b"\0") + code


def a_program_whose_format_has_no_cores_is_enoexec() -> None:
    """On ARM alone, see lab/kernels/fragments/arm.config."""
    with directory() as where:
        program = where / "flat"
        program.write_bytes(_flat())
        program.chmod(0o755)
        with subject(where, argv=[str(program)], core=(-1, -1)) as process:
            expect("ENOEXEC", attempt(process.pid, UNLIMITED))
            assert not cores(where)
            assert process.poll() is None


CASES: tuple[Callable[[], None], ...] = (
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
