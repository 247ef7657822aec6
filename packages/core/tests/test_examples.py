# SPDX-License-Identifier: BSD-3-Clause
"""The examples of packages/core/examples compile, run, and do what they say."""

from __future__ import annotations

import contextlib
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import living
import pytest

from coresnap.corefile import Core
from lab.patience import DEADLINE

pytestmark = pytest.mark.host


@contextlib.contextmanager
def running(
    program: Path, where: Path, *arguments: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program in a directory, and the first line that it printed."""
    with subprocess.Popen(
        [program, *arguments],
        cwd=where,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, line_of(process.stdout)
        finally:
            process.kill()


def line_of(stream: IO[str] | None) -> str:
    """The next line; fails if there is none in time."""
    assert stream is not None
    ready, _, _ = select.select([stream], [], [], DEADLINE)
    assert ready, "the program printed nothing"
    return stream.readline().strip()


def test_service_writes_a_core_at_each_signal(tmp_path: Path) -> None:
    with running(living.program("service"), tmp_path) as (process, pid):
        for number in (1, 2):
            process.send_signal(signal.SIGUSR1)
            assert line_of(process.stderr).startswith(f"service.{pid}.{number}: ")
            with Core(tmp_path / f"service.{pid}.{number}") as core:
                assert core.process.pid == int(pid)
        assert process.stdin is not None
        process.stdin.write("still here\n")
        process.stdin.flush()
        assert line_of(process.stdout) == "still here"


@pytest.mark.parametrize("name", ["core", "core.zst", "core.gz"])
def test_tftp_client_gets_a_core(tmp_path: Path, name: str) -> None:
    client = living.need("tftp")
    with running(living.program("tftpd"), tmp_path, "0") as (process, port):
        for to in ("first", "second"):
            subprocess.run(
                [client, "127.0.0.1", port, "-m", "binary", "-c", "get", name, tmp_path / to],
                check=True,
                capture_output=True,
                timeout=DEADLINE,
            )
            with Core(tmp_path / to) as core:
                assert core.process.pid == process.pid
                assert core.process.fname == b"tftpd"


def test_tftp_server_says_what_there_is(tmp_path: Path) -> None:
    client = living.need("tftp")
    with running(living.program("tftpd"), tmp_path, "0") as (_, port):
        done = subprocess.run(
            [client, "127.0.0.1", port, "-m", "binary", "-c", "get", "nothing", tmp_path / "x"],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
    assert "there are core, core.zst and core.gz" in done.stdout + done.stderr


def test_tftp_server_listens_on_loopback_only(tmp_path: Path) -> None:
    with running(living.program("tftpd"), tmp_path, "0") as (_, port):
        told = Path("/proc/net/udp").read_text()
    assert f"0100007F:{int(port):04X}" in told
