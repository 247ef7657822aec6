# SPDX-License-Identifier: BSD-3-Clause
"""The harness where it could do harm or hide a failure: global settings, deadlines, skips."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.host import build, dumper, hold, truth
from lab.inside import system, take
from lab.inside.process import Impossible, Process, ScenarioFailed, wait_until
from lab.matrix import ROWS, SCENARIOS, Row, Sysctl

ONE = next(row for row in ROWS if row.name == "one-thread/x86-64")


@pytest.fixture
def sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysctl:
    """A number in a file instead of /proc/sys, and the lock beside it."""
    (tmp_path / "number").write_text("10")
    monkeypatch.setattr(system, "_SYSCTLS", tmp_path)
    monkeypatch.setattr(system, "_LOCKS", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Sysctl(path="number", at_least=20)


def test_a_sysctl_is_raised_and_restored(sysctl: Sysctl, tmp_path: Path) -> None:
    with system.raised(sysctl):
        assert (tmp_path / "number").read_text() == "20"
        with system.raised(sysctl):
            assert (tmp_path / "number").read_text() == "20"
        # Another user is left.
        assert (tmp_path / "number").read_text() == "20"
    assert (tmp_path / "number").read_text() == "10"


def test_a_sysctl_is_restored_after_a_user_that_was_killed(sysctl: Sysctl, tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    record = {"original": 5, "users": [dead.pid]}
    (tmp_path / "coresnap-lab-number").write_text(json.dumps(record))
    with system.raised(sysctl):
        assert (tmp_path / "number").read_text() == "20"
    assert (tmp_path / "number").read_text() == "5"


def test_a_sysctl_that_is_enough_is_left_alone(sysctl: Sysctl, tmp_path: Path) -> None:
    (tmp_path / "number").write_text("30")
    with system.raised(sysctl):
        assert (tmp_path / "number").read_text() == "30"
    assert (tmp_path / "number").read_text() == "30"


def test_only_root_raises_a_sysctl(sysctl: Sysctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(system.NotSettable, match="sysctl number=20"), system.raised(sysctl):
        pass


@pytest.mark.parametrize("pattern", ["|/usr/lib/systemd/systemd-coredump %P", "/var/cores/%p", ""])
def test_a_core_pattern_that_leads_elsewhere_stops_the_lab(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "core_pattern").write_text(pattern + "\n")
    monkeypatch.setattr(system, "_CORE_PATTERN", tmp_path / "core_pattern")
    reason = system.why_no_core()
    assert reason is not None
    assert "core_pattern" in reason
    assert "\n" not in reason


def test_a_kernel_without_core_dumps_stops_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "_CORE_PATTERN", tmp_path / "core_pattern")
    reason = system.why_no_core()
    assert reason is not None and "CONFIG_COREDUMP" in reason


@pytest.mark.parametrize("pattern", ["core", "core.%p", "%e-%s.core"])
def test_a_core_pattern_in_the_working_directory_is_fine(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "core_pattern").write_text(pattern + "\n")
    monkeypatch.setattr(system, "_CORE_PATTERN", tmp_path / "core_pattern")
    assert system.why_no_core() is None


def test_a_hard_limit_stops_the_lab() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
        "from lab.inside import system; print(system.why_no_core())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=build.LAB.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "hard limit" in done.stdout
    assert done.stdout.count("\n") == 1


def test_waiting_ends() -> None:
    with pytest.raises(ScenarioFailed, match="still waiting: the end of days"):
        wait_until(lambda: False, "the end of days", deadline=0.01)


def _program(tmp_path: Path, body: str) -> Path:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return program


def test_a_scenario_that_dies_tells_why(tmp_path: Path) -> None:
    program = _program(tmp_path, "echo the reason >&2; exit 2")
    with Process(program, (), tmp_path) as process, pytest.raises(ScenarioFailed) as caught:
        process.wait_ready()
    assert "the reason" in str(caught.value)


def test_a_scenario_that_cannot_be_here_is_skipped(tmp_path: Path) -> None:
    program = _program(tmp_path, """echo '{"impossible":"no such thing"}'""")
    with Process(program, (), tmp_path) as process, pytest.raises(Impossible, match="no such"):
        process.wait_ready()


def test_a_process_is_killed_at_the_end(tmp_path: Path) -> None:
    program = _program(tmp_path, """echo '{"pid":0}'; exec sleep 1000""")
    with Process(program, (), tmp_path) as process:
        process.wait_ready()
        pid = process.pid
        assert Path(process.proc).exists()
    assert not Path(f"/proc/{pid}").exists()


def test_truths_can_fail(tools: hold.Tools) -> None:
    """A core is held against truths of another process: nearly all of them are wrong."""
    with take.directory(ONE) as one, take.directory(ONE) as other:
        first, second = hold.run(ONE, tools, one), hold.run(ONE, tools, other)
        assert not truth.lies(first.ours("stop"), first.facts)
        assert truth.lies(first.ours("stop"), second.facts)
        first.close()
        second.close()


def test_a_changed_scenario_is_seen(tools: hold.Tools) -> None:
    """An observation notices what a dump must not leave."""
    with (
        take.directory(ONE) as where,
        take.started(ONE, hold.programs(ONE, tools), where) as process,
    ):
        before = process.observe()
        assert not before.differences(process.observe())
        process.stop()
        assert any("states" in line for line in before.differences(process.observe()))
        process.resume()
        assert not before.differences(process.observe())


def test_every_scenario_program_has_rows() -> None:
    sources = {path.stem for path in build.SCENARIOS.glob("*.c")}
    assert sources == {scenario.source for scenario in SCENARIOS}


def test_row_names_are_names_of_files() -> None:
    assert all(isinstance(row, Row) and row.name.isprintable() for row in ROWS)


def test_a_missing_dumper_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CORESNAP_DUMP", str(tmp_path / "nothing"))
    assert "not an executable" in (dumper.why_missing() or "")
    monkeypatch.delenv("CORESNAP_DUMP")
    monkeypatch.setenv("CORESNAP_BUILD", str(tmp_path))
    assert "no coresnap-dump below" in (dumper.why_missing() or "")
    monkeypatch.delenv("CORESNAP_BUILD")
    assert "set CORESNAP_DUMP" in (dumper.why_missing() or "")
