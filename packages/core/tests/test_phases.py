# SPDX-License-Identifier: BSD-3-Clause
"""Where the time of a dump went, on the kernel that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import living
import pytest

import coresnap
from coresnap import Method, Phase
from lab.patience import DEADLINE

pytestmark = pytest.mark.host
METHODS = [Method(each) for each in living.METHODS]
Program = subprocess.Popen[str]


def stopped(result: coresnap.DumpResult) -> int:
    return sum(ns for phase, ns in result.phase_ns.items() if phase.stopped)


@pytest.mark.parametrize("method", METHODS)
def test_the_phases_of_the_pause_are_the_pause(target: Program, method: Method) -> None:
    began = time.monotonic_ns()
    result = coresnap.dump(target.pid, None, method=method)
    took = time.monotonic_ns() - began
    assert result.memory is not None
    result.memory.close()
    assert set(result.phase_ns) == set(Phase)
    assert all(ns >= 0 for ns in result.phase_ns.values())
    assert stopped(result) == result.pause_ns
    assert sum(result.phase_ns.values()) <= took
    never = {Phase.SPILL} | ({Phase.AHEAD} if method is not Method.PRECOPY else set())
    assert {phase for phase, ns in result.phase_ns.items() if not ns} == never


def test_what_exceeds_the_budget_is_spilled(target: Program, tmp_path: Path) -> None:
    result = coresnap.dump(target.pid, tmp_path / "core", method="stop", stage_budget=1)
    assert result.phase_ns[Phase.SPILL] > 0
    assert result.phase_ns[Phase.COPY] < result.phase_ns[Phase.SPILL]
    assert stopped(result) == result.pause_ns


def test_the_callers_own_time_is_in_no_phase(target: Program, tmp_path: Path) -> None:
    own = 0

    def work() -> None:
        nonlocal own
        began = time.monotonic_ns()
        while (own := time.monotonic_ns() - began) < 5_000_000:
            os.getppid()

    result = coresnap.dump(target.pid, tmp_path / "core", method="stop", on_stopped=work)
    assert own <= result.pause_ns - stopped(result) < result.pause_ns


@pytest.mark.parametrize("method", METHODS)
def test_of_oneself(method: Method) -> None:
    """The dumper fills in the same when it shares the memory of its target."""
    script = f"""if 1:
        import coresnap
        result = coresnap.dump_self(None, method="{method}")
        stopped = sum(ns for phase, ns in result.phase_ns.items() if phase.stopped)
        assert stopped == result.pause_ns, result
        assert result.phase_ns["write"] > 0 and result.phase_ns["spill"] == 0, result
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=DEADLINE)


def test_the_tool_tells_them_too(target: Program, tmp_path: Path) -> None:
    done = subprocess.run(
        [living.tool(), "--json", "-o", tmp_path / "core", str(target.pid)],
        check=True,
        capture_output=True,
        timeout=DEADLINE,
    )
    said = json.loads(done.stdout)
    assert list(said["phase_ns"]) == [phase.value for phase in Phase]
    assert said["pause_ns"] == sum(
        ns for phase, ns in said["phase_ns"].items() if Phase(phase).stopped
    )
