# SPDX-License-Identifier: BSD-3-Clause
"""What became of cells: noted by runs, judged, written down; and docs/support.md is of today."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from lab import report
from lab.host import outcomes
from lab.host.outcomes import COMPARISON, HOST, Noted, Place

DEADLINE = 120
_PATH = os.pathsep.join(filter(None, [str(report.ROOT), os.environ.get("PYTHONPATH")]))

ARM_FPU = Place(machine="arm/stock-6.1", row="fpu/arm", scenario="fpu", method="stop")


def noted(
    tests: dict[str, tuple[str, str]], *, place: Place = ARM_FPU, commit: str = "abc"
) -> Noted:
    return Noted(place=place, commit=commit, changed=False, date="2026-01-02T03:04:05", tests=tests)


@pytest.mark.parametrize(
    ("tests", "outcome"),
    [
        ({COMPARISON: ("passed", ""), "test_b": ("passed", "")}, ("same", "")),
        ({"test_b": ("passed", "")}, ("true", "")),
        ({COMPARISON: ("passed", ""), "test_b": ("differs", "no")}, ("differs", "no")),
        ({COMPARISON: ("failed", "lost"), "test_b": ("passed", "")}, ("failed", "lost")),
        ({COMPARISON: ("limit", "known")}, ("limit", "known")),
        ({COMPARISON: ("impossible", "no NEON")}, ("impossible", "no NEON")),
        ({COMPARISON: ("passed", ""), "test_b": ("impossible", "no gdb")}, ("same", "")),
    ],
)
def test_the_worst_of_a_cells_tests_counts(
    tests: dict[str, tuple[str, str]], outcome: tuple[str, str]
) -> None:
    assert report.judge(noted(tests)) == outcome


def test_results_are_of_one_commit_and_the_worst_of_repeated_holds() -> None:
    base = Place(machine=HOST, row="fpu/x86-64", scenario="fpu", method="fork")
    again = dataclasses.replace(base, row="fpu/x86-64/hold-3")
    results = report.gather(
        [
            noted({COMPARISON: ("passed", "")}, place=base),
            noted({COMPARISON: ("differs", "once")}, place=again),
            noted({COMPARISON: ("passed", "")}, commit="older"),
        ],
        commit="abc",
    )
    assert [(result.row, result.outcome) for result in results] == [("fpu/x86-64", "differs")]


def _report() -> report.Report:
    places = [
        ARM_FPU,
        dataclasses.replace(ARM_FPU, method="fork"),
        dataclasses.replace(ARM_FPU, machine="arm/own-6.1"),
        dataclasses.replace(ARM_FPU, machine=HOST, row="fpu/x86-64"),
    ]
    ends = [
        ("passed", ""),
        ("differs", "r0 | is\nwrong"),
        ("impossible", "no such"),
        ("passed", ""),
    ]
    cells = [noted({COMPARISON: end}, place=at) for at, end in zip(places, ends, strict=True)]
    cells[0].rules["dying-signal"] = 2
    return report.Report(
        date="2026-01-02T03:04:05+00:00",
        commit="abc",
        changed=False,
        where="Linux 1 x86_64",
        qemu="QEMU emulator version 7.2",
        kernels={"arm/stock-6.1": "6.1.0-1"},
        results=report.gather(cells, commit="abc"),
    )


def test_json_and_back_is_the_same() -> None:
    made = _report()
    assert report.from_json(report.to_json(made)) == made


def test_document_tells_every_outcome_reason_and_rule() -> None:
    text = report.markdown(_report())
    assert "| fpu/arm | stop same, fork differs | stop impossible, fork not run |" in text
    assert "r0 \\| is wrong" in text.replace("\n", " ")
    assert "| dying-signal | arm |" in text
    assert "6.1.0-1" in text
    assert text.index("### host") < text.index("### arm")


def test_table_shows_each_row_and_machine() -> None:
    console = Console(width=120, record=True, file=open(os.devnull, "w"))
    console.print(report.table(_report()))
    text = console.export_text()
    for word in ("fpu/arm", "stock-6.1", "stop same", "fork differs"):
        assert word in text


def test_support_document_is_not_stale() -> None:
    made = report.markdown(report.newest())
    assert report.SUPPORT.read_text() == made, "run python -m lab report --document"


_CONFTEST = """
from pathlib import Path
from lab.host.outcomes import Outcomes
HERE = Path(__file__).parent
def pytest_configure(config):
    plugin = Outcomes(config, fired=HERE, to=HERE / "cells", failed=HERE / "failed")
    config.pluginmanager.register(plugin)
"""
_TESTS = """
import pytest
from lab.matrix import METHODS, ONCE
ROWS = [pytest.param(row, id=row.name) for row in ONCE if row.scenario.name == "tls"][:2]
@pytest.fixture
def held(request):
    if request.param.width == "x86-32":
        pytest.skip("not possible here: no such width")
    return request.param
@pytest.mark.parametrize("held", ROWS, indirect=True)
@pytest.mark.parametrize("method", METHODS)
def test_core_equals_kernels(held, method):
    pass
@pytest.mark.parametrize("held", ROWS, indirect=True)
@pytest.mark.parametrize("method", METHODS)
def test_truth(held, method):
    assert method == "stop", "what fork says is wrong"
@pytest.mark.parametrize("held", ROWS, indirect=True)
def test_undisturbed(held):
    pass
def test_of_no_row():
    pass
LIMITED = [pytest.param(row, id=row.name) for row in ONCE if row.scenario.name == "fpu"][:1]
@pytest.mark.parametrize("held", LIMITED)
@pytest.mark.parametrize("method", METHODS)
def test_limited(held, method):
    if method == "fork":
        pytest.skip("known limit: it is so")
@pytest.mark.parametrize("row", ROWS[:1])
@pytest.mark.method("livedump")
def test_live(row):
    pass
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_run_notes_its_cells_and_keeps_what_failed(tmp_path: Path, workers: str) -> None:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_rows.py").write_text(_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = method\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", workers, "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": _PATH, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    judged = {cell.place.name: report.judge(cell)[0] for cell in outcomes.read(tmp_path / "cells")}
    assert judged == {
        "tls/x86-64:stop": "same",
        "tls/x86-64:fork": "differs",
        "tls/x86-64:precopy": "true",
        "tls/x86-64:livedump": "true",
        "tls/x86-32:stop": "impossible",
        "tls/x86-32:fork": "impossible",
        "tls/x86-32:precopy": "impossible",
        "fpu/x86-64:stop": "true",
        "fpu/x86-64:fork": "limit",
    }
    assert "what is kept of the row" in done.stdout
    (kept,) = (tmp_path / "failed").iterdir()
    assert "what fork says is wrong" in (kept / "report.txt").read_text()
