# SPDX-License-Identifier: BSD-3-Clause
"""What is told of dumps before they are made, and what the method livedump refuses."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import coresnap
from coresnap import Method, _ffi, pause
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
    works = tuple(check.method for check in found.methods if check.error is None)
    assert found.auto == system.auto == works
    assert works[-2:] == (Method.FORK, Method.STOP)


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


def test_the_json_has_plain_values(process: subprocess.Popen[bytes]) -> None:
    fields = coresnap.doctor(process.pid).as_dict()
    assert fields["pid"] == process.pid
    assert {each["method"] for each in fields["methods"]} == {"livedump", "precopy", "fork", "stop"}


def load(**more: int) -> pause.Load:
    """A process of 10 threads and 1 GiB, with nothing unusual."""
    usual = {"threads": 10, "stuck": 0, "page_tables": 2 << 20, "private": 1 << 30, "shared": 0}
    return pause.Load(**(usual | {"budget": 4 << 30} | more))


def test_an_estimate_grows_with_what_a_pause_depends_on() -> None:
    for method, more in (
        (Method.FORK, {"threads": 1000}),
        (Method.FORK, {"page_tables": 8 << 20}),
        (Method.FORK, {"shared": 1 << 30}),
        (Method.STOP, {"private": 2 << 30}),
        (Method.STOP, {"budget": 1 << 20}),
        (Method.STOP, {"stuck": 1}),
    ):
        usual, unusual = (pause.estimate(load(**each), method) for each in ({}, more))
        assert unusual.least_ms > usual.least_ms and unusual.most_ms > usual.most_ms
        assert unusual.basis != usual.basis
    assert (
        pause.estimate(load(), Method.FORK).most_ms < pause.estimate(load(), Method.STOP).least_ms
    )


def test_an_estimate_covers_what_was_measured() -> None:
    """The rows of 1024 MiB of docs/pausing.md, whose loads these are."""
    text = (Path(__file__).parents[3] / "docs/pausing.md").read_text()
    rows = re.findall(
        r"^\| (\d+) \| (\d+) MiB \| ([\d.]+) \([^|]+ \| ([\d.]+) \([^|]+ \|$", text, re.M
    )
    assert rows
    for threads, size, *medians in rows:
        known = load(
            threads=int(threads), private=int(size) << 20, page_tables=(int(size) << 11) + 65536
        )
        for method, median in zip((Method.STOP, Method.FORK), medians, strict=True):
            found = pause.estimate(known, method)
            assert found.least_ms <= float(median) <= found.most_ms, (threads, size, method)


@pytest.mark.parametrize(
    "option",
    [
        {"filter": 0x33},
        {"undumpable": True},
        {"stop_timeout": 2.0},
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
