# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap doctor`, and `dump --method livedump` where the kernel has no livedump."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coresnap_cli.commands.doctor import lines
from coresnap_cli.main import run

pytestmark = pytest.mark.host
without = pytest.mark.skipif(
    Path("/proc/self/livedump").exists(), reason="this kernel has livedump"
)


@pytest.fixture
def pid() -> Iterator[str]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield str(process.pid)


def test_the_system(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and "\nauto " in said.out
    assert {line.partition(" ")[0] for line in said.out.splitlines()} >= {"kernel", "crashes"}


def test_a_process_in_json(capsys: pytest.CaptureFixture[str], pid: str) -> None:
    assert run(["doctor", pid, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["command"], found["pid"]) == ("doctor", int(pid))
    assert [method["method"] for method in found["methods"]] == [
        "livedump",
        "precopy",
        "fork",
        "stop",
    ]


def test_each_method_that_works_has_an_estimate_of_the_pause(
    capsys: pytest.CaptureFixture[str], pid: str
) -> None:
    assert run(["doctor", pid]) == 0
    said = capsys.readouterr().out
    for method, part in (("fork", "to fork"), ("stop", "to copy")):
        times = r"about [0-9.]+ ms \([0-9.]+ ms to [0-9.]+ ms\)"
        pattern = rf"^{method} +works; a pause of {times}: 1 thread, .*{part}\b"
        assert re.search(pattern, said, re.MULTILINE), said


def test_a_doubt_and_a_long_pause_are_said() -> None:
    method = {
        "method": "fork", "works": True, "why_not": "", "remedy": "", "doubt": "its filter",
        "pause_ms": [1.5, 2345.6], "pause_expected_ms": 42.3, "pause_basis": "this and that",
    }  # fmt: skip
    fields = {
        "livedump": False, "core_pattern": None, "catch": False, "handler": None,
        "methods": [method], "auto": [], "notes": [],
    }  # fmt: skip
    assert lines(fields)[2:] == [
        "fork      may work; a pause of about 42 ms (1.5 ms to 2.3 s): this and that",
        "          its filter",
    ]


def test_errors_have_their_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "cat"]) == 2
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert run(["doctor", str(process.pid)]) == 3
    assert "no process" in capsys.readouterr().err


def test_what_is_said_of_the_settings() -> None:
    fields = {
        "livedump": True, "core_pattern": "|/x/coresnap-catch %P %c", "catch": True,
        "handler": None, "methods": [], "auto": [], "notes": [],
    }  # fmt: skip
    assert "coresnap-catch has no HANDLER" in lines(fields)[1]
    assert lines({**fields, "handler": "/bin/x %e"})[1].endswith("the program /bin/x %e")
    assert lines({**fields, "core_pattern": None, "catch": False})[1].endswith("writes none")
    assert lines({**fields, "core_pattern": "c.%p", "catch": False})[1].endswith("file c.%p")


@without
@pytest.mark.parametrize("words", [[], ["-o", "core"]])
def test_a_kernel_without_livedump(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pid: str,
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["dump", "--method", "livedump", pid, *words]) == 1
    assert "livedump" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_an_option_that_the_kernel_cannot_honour(
    capsys: pytest.CaptureFixture[str], pid: str
) -> None:
    assert run(["dump", "--method", "livedump", "--filter", "0x33", pid]) == 2
    assert "filter" in capsys.readouterr().err
