# SPDX-License-Identifier: BSD-3-Clause
"""What is told of dumps before they are made, and what the method livedump refuses."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import coresnap
from coresnap import Method, _ffi
from lab.patience import DEADLINE

pytestmark = pytest.mark.host
without = pytest.mark.skipif(
    Path("/proc/self/livedump").exists(), reason="this kernel has livedump"
)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as started:
        yield started


@without
def test_a_kernel_without_livedump(process: subprocess.Popen[bytes]) -> None:
    system, found = coresnap.doctor(), coresnap.doctor(process.pid)
    of_stop = coresnap.estimate(process.pid).method is Method.STOP
    for diagnosis in (system, found):
        assert not diagnosis.livedump
        error = diagnosis.methods[0].error
        assert isinstance(error, coresnap.Failed) and error.errno == errno.ENOENT
    assert [check.method for check in found.methods] == [
        Method.LIVEDUMP,
        Method.PRECOPY,
        Method.FORK,
        Method.STOP,
    ]
    kernel = (Method.PRECOPY,) if Method.PRECOPY in system.auto else ()
    assert system.auto == (*kernel, Method.FORK, Method.STOP)
    assert found.auto == ((Method.STOP,) if of_stop else (Method.FORK, Method.STOP))  # it is small


def test_what_it_says_is_what_the_dump_says(process: subprocess.Popen[bytes]) -> None:
    for check in coresnap.doctor(process.pid).methods:
        try:
            coresnap.dump(process.pid, None, method=check.method).memory.close()  # type: ignore[union-attr]
            said = None
        except coresnap.CoresnapError as error:
            said = error
        assert str(said) == str(check.error)


def test_one_may_ask_about_oneself_in_a_sandbox() -> None:
    """Nothing is injected into a process that dumps itself: its filter need not be read."""
    script = """if 1:
        import ctypes, os, coresnap
        libc = ctypes.CDLL(None)
        allow = ctypes.create_string_buffer(bytes([6, 0, 0, 0, 0, 0, 0xFF, 0x7F]))
        size = ctypes.sizeof(ctypes.c_void_p)
        program = (1).to_bytes(size, "little") + ctypes.addressof(allow).to_bytes(size, "little")
        assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
        assert libc.prctl(22, 2, program, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        fork = coresnap.doctor(os.getpid()).methods[1]
        assert (fork.error, fork.doubt) == (None, ""), fork
        coresnap.dump_self(None, method="fork").memory.close()
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=DEADLINE)


def test_a_process_that_is_gone_or_none() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    for pid in (process.pid, 2**22 + 1):
        with pytest.raises(coresnap.NoProcess):
            coresnap.doctor(pid)


@pytest.mark.parametrize("method", ["auto", "fork", "precopy", "stop"])
def test_what_has_no_memory_is_no_process_to_the_doctor_and_to_dumps(method: str) -> None:
    with subprocess.Popen(["true"]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        assert "zombie" in refused_alike(zombie.pid, method)
    comm = Path("/proc/2/comm")
    if not comm.exists() or comm.read_text() != "kthreadd\n":
        pytest.skip("this pid namespace has no kernel threads")
    assert "kernel thread" in refused_alike(2, method)


def refused_alike(pid: int, method: str) -> str:
    """What the doctor and a dump say of what is no process to them."""
    with pytest.raises(coresnap.NoProcess) as foreseen:
        coresnap.doctor(pid)
    with pytest.raises(coresnap.NoProcess) as came:
        coresnap.dump(pid, None, method=method)
    assert str(came.value) == str(foreseen.value)
    return str(came.value)


def test_the_json_has_plain_values(process: subprocess.Popen[bytes]) -> None:
    fields = coresnap.doctor(process.pid).as_dict()
    assert fields["pid"] == process.pid
    assert {each["method"] for each in fields["methods"]} == {"livedump", "precopy", "fork", "stop"}


@pytest.mark.parametrize(
    "option",
    [
        {"filter": 0x33},
        {"undumpable": True},
        {"stop_timeout": 2.0},
        {"max_pause": 2.0},
        {"max_size": 10000, "keep": "small-first"},
        {"core_limit": 100_000},
        {"notes": [("example.org", 1, b"")]},
        {"on_stopped": lambda: True},
    ],
    ids="-".join,
)
def test_what_the_kernel_cannot_honour_is_a_mistake(
    process: subprocess.Popen[bytes], option: dict[str, Any]
) -> None:
    with pytest.raises(coresnap.UsageError, match="livedump"):
        coresnap.dump(process.pid, None, method="livedump", **option)


def test_not_of_oneself() -> None:
    for call in (
        lambda: coresnap.dump_self(None, method="livedump"),
        lambda: coresnap.dump(os.getpid(), None, method="livedump"),
        lambda: coresnap.open_stream(method="livedump"),
    ):
        with pytest.raises(coresnap.UsageError, match="its own core"):
            call()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EINVAL, coresnap.NoProcess),
        (errno.ESRCH, coresnap.NoProcess),
        (errno.EACCES, coresnap.NotPermitted),
        (errno.EPERM, coresnap.NotPermitted),
        (errno.ETIMEDOUT, coresnap.DeadlineExceeded),
        *((number, coresnap.Failed) for number in (errno.EBUSY, errno.EAGAIN, errno.ENOSPC)),
        *((number, coresnap.Failed) for number in (errno.EINPROGRESS, errno.ENOMEM, errno.EIO)),
        *((number, coresnap.Failed) for number in (errno.ENOEXEC, errno.ECANCELED, errno.EDOM)),
    ],
)
def test_errors_of_the_kernels_file(number: int, kind: type[coresnap.CoresnapError]) -> None:
    error = _ffi.livedump_error(4711, number)
    assert type(error) is kind and (error.pid, error.errno) == (4711, number)
    assert errno.errorcode[number] in error.what and "4711" in error.what
