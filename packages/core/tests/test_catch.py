# SPDX-License-Identifier: BSD-3-Clause
"""coresnap-catch without a kernel that starts it: what is not asked for goes to HANDLER.

What it catches is tested in guests (lab/tests/test_livedump_catch.py).
"""

from __future__ import annotations

import os
import socket
import subprocess

import pytest
from living import catch

from lab.patience import DEADLINE

pytestmark = pytest.mark.host

CORE = b"\x7fELF and so on\n" * 5000
TOKENS = (2**30, 2**31 - 1, 2**62, 2**63 - 1)
LIMITS = (0, 1, 2**30 - 1, 2**31, 2**62 - 1, 2**63, 2**64 - 1)


def run(*words: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [catch(), *map(str, words)], input=CORE, capture_output=True, timeout=DEADLINE
    )


@pytest.mark.parametrize("limit", [*LIMITS, *TOKENS, "", "-1", "core", "1" * 100])
def test_an_ordinary_core_goes_to_handler_as_it_is(limit: object) -> None:
    done = run(os.getpid(), limit, "/bin/sh", "-c", 'echo "$@"; cat', "sh", "%", "a b")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"% a b\n" + CORE


@pytest.mark.parametrize("pid", ["", "0", "-1", "x", "../1", "4194305", "9" * 30])
def test_a_process_that_is_none_has_handler(pid: str) -> None:
    done = run(pid, TOKENS[0], "/bin/cat")
    assert (done.returncode, done.stdout) == (0, CORE)


def test_the_status_is_handlers() -> None:
    assert run(os.getpid(), 0, "/bin/sh", "-c", "exit 7").returncode == 7


def test_nobody_is_asked_about_a_process_that_is_no_copy() -> None:
    """Its parent is not kthreadd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0coresnap-catch/{TOKENS[2]}")
        listener.listen()
        listener.setblocking(False)
        assert run(os.getpid(), TOKENS[2], "/bin/cat").stdout == CORE
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "a process id and a core limit"),
        ((1,), 2, "a process id and a core limit"),
        ((1, 0), 1, "no HANDLER"),
        ((1, 0, "cat"), 1, "cat"),
        ((1, 0, "/no/such/program"), 1, "/no/such/program"),
    ],
)
def test_what_is_lost_is_said(words: tuple[object, ...], code: int, said: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (code, b"")
    assert said in done.stderr.decode() and done.stderr.count(b"\n") == 1


def test_help_and_version() -> None:
    assert b"core_pattern" in run("--help").stdout
    assert run("--version").stdout == b"coresnap-catch 0.1.0\n"
