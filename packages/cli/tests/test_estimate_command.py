# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap estimate`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import coresnap
from coresnap_cli.commands.estimate import disk_needs, disks, pauses, regions
from coresnap_cli.exit_codes import ExitCode
from coresnap_cli.main import run

pytestmark = pytest.mark.host


@pytest.fixture
def pid() -> Iterator[str]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield str(process.pid)


def test_in_json(capsys: pytest.CaptureFixture[str], pid: str) -> None:
    assert run(["estimate", pid, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["command"], found["pid"], found["threads"]) == ("estimate", int(pid), 1)
    assert set(found["regions"]) == {region.value for region in coresnap.Region}
    assert set(found["pauses"]) == {"precopy", "fork", "stop"}
    assert found["pauses"]["stop"]["expected_ns"] > 0
    (core,) = found["disk"]
    assert (core["what"], core["needed"], core["directory"]) == ("core", found["kept"], ".")
    assert run(["estimate", pid, "--json", "--filter", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] < found["kept"]


def test_for_people(capsys: pytest.CaptureFixture[str], pid: str) -> None:
    assert run(["estimate", pid]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    memory, methods, disk = said.out.split("\n\n")
    rows = [line.split() for line in memory.splitlines()]
    assert rows[0] == ["REGION", "MAPPINGS", "MAPPED", "RESIDENT", "IN", "THE", "CORE"]
    # Whether it has a heap yet only the moment knows.
    assert {"stack", "file", "special"} <= {row[0] for row in rows}
    assert rows[-1][0] == "total"
    assert int(rows[-1][1]) == sum(int(row[1]) for row in rows[1:-1])
    first = [line.split()[0] for line in methods.splitlines()]
    assert first[0] == "METHOD" and set(first[1:]) == {"precopy", "fork", "stop"}
    assert methods.count(" * ") == 1
    head, core = [line.split() for line in disk.splitlines()]
    assert head == ["DISK", "NEEDED", "FREE", "DIRECTORY"]
    assert (core[0], core[-1]) == ("core", ".")
    assert core[1:3] == rows[-1][-2:]


def test_the_disk_is_that_of_the_output(
    capsys: pytest.CaptureFixture[str], pid: str, tmp_path: Path
) -> None:
    def disk(output: object) -> list[dict[str, object]]:
        assert run(["estimate", pid, "--json", "-o", str(output)]) == 0
        found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["disk"]
        return found

    for output in (tmp_path, tmp_path / "core"):
        (core,) = disk(output)
        assert core["directory"] == str(tmp_path)
        room = os.statvfs(tmp_path)
        assert core["free"] is None or 0 <= int(str(core["free"])) <= room.f_blocks * room.f_frsize
    assert disk("-") == []
    (core,) = disk(tmp_path / "missing" / "core")
    assert core["free"] is None
    assert run(["estimate", pid, "-o", str(tmp_path / "missing" / "core")]) == 0
    assert "unknown  " in capsys.readouterr().out


def test_the_tables() -> None:
    size = coresnap.RegionSize(mappings=2, mapped=8192, resident=4096, kept=1 << 20)
    none = coresnap.RegionSize(mappings=0, mapped=0, resident=0, kept=0)
    pause = coresnap.Pause(
        expected_ns=2_500_000, least_ns=1_000_000, most_ns=300_000_000, copied=1, spilled=0,
        basis="this and that",
    )  # fmt: skip
    found = coresnap.Estimate(
        pid=1, method=coresnap.Method.FORK, threads=1, stuck=0, kept=1 << 20, unforkable=0, huge=0,
        forked=0, budget=0, copy_ns=0, beside_path=1 << 20, beside_fd=3 << 20,
        regions={coresnap.Region.HEAP: size, coresnap.Region.HUGETLB: none},
        pauses={coresnap.Method.FORK: pause, coresnap.Method.STOP: pause},
    )  # fmt: skip
    assert regions(found).lines() == [
        "REGION  MAPPINGS   MAPPED  RESIDENT  IN THE CORE",
        "heap           2  8.0 KiB   4.0 KiB      1.0 MiB",
        "total          2  8.0 KiB   4.0 KiB      1.0 MiB",
    ]
    assert pauses(found).lines() == [
        "METHOD    PAUSE    LEAST    MOST  FOR",
        "fork *  2.50 ms  1.00 ms  300 ms  this and that",
        "stop    2.50 ms  1.00 ms  300 ms  this and that",
    ]

    nowhere = Path("/nonexistent")
    assert disks(disk_needs(found, nowhere / "core")).lines() == [
        "DISK      NEEDED     FREE  DIRECTORY",
        "core     1.0 MiB  unknown  /nonexistent",
        "precopy  1.0 MiB  unknown  /nonexistent",
    ]
    (need,) = disk_needs(found, Path("-"))
    assert (need.what, need.needed, need.directory) == ("precopy", 3 << 20, Path("/var/tmp"))


def test_errors_have_their_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert run(["estimate", str(process.pid)]) == ExitCode.NO_PROCESS
    assert "no process" in capsys.readouterr().err
    assert run(["estimate", "cat"]) == ExitCode.USAGE
    assert run(["estimate"]) == ExitCode.USAGE
