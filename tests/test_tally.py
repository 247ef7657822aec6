# SPDX-License-Identifier: BSD-3-Clause
"""The sum at the end of ci/test tells the truth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.resume import PASSED_BEFORE

TALLY = Path(__file__).resolve().parent.parent / "ci/tally.py"

MIXED = """<testsuites><testsuite name="pytest" tests="5">
<testcase classname="t" name="a" time="0.5"/>
<testcase classname="t" name="b"><failure message="no">text</failure></testcase>
<testcase classname="t" name="c"><error message="no">text</error></testcase>
<testcase classname="t" name="d"><skipped message="needs root"/></testcase>
<testcase classname="t" name="e"><skipped message="needs root"/></testcase>
</testsuite></testsuites>"""
GOOD = '<testsuites><testsuite><testcase name="a"/><testcase name="b"/></testsuite></testsuites>'


def tally(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a directory."""
    command = [sys.executable, str(TALLY), str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_every_case_counts_once(tmp_path: Path) -> None:
    (tmp_path / "unit-python.xml").write_text(MIXED)
    (tmp_path / "unit-gcc.xml").write_text(GOOD)
    done = tally(tmp_path, "unit=1")
    assert done.stdout.splitlines()[-1] == "3 passed, 2 failed"
    assert done.returncode == 1
    assert "| unit-python | 1 | 2 | 2 | 0.5 |" in done.stdout
    assert "skipped 2: needs root" in done.stdout
    assert "failed: unit-python: t.b" in done.stdout


def test_what_passed_before_a_run_was_resumed_counts(tmp_path: Path) -> None:
    skipped = f'<testcase name="c"><skipped message="{PASSED_BEFORE}"/></testcase>'
    (tmp_path / "full-lab.xml").write_text(GOOD.replace("</testsuite>", f"{skipped}</testsuite>"))
    done = tally(tmp_path)
    assert done.stdout.splitlines()[-1] == "3 passed, 0 failed"
    assert "skipped" not in done.stdout.partition("|---|")[2]


def test_what_tests_recorded_is_a_table(tmp_path: Path) -> None:
    recorded = (
        '<testcase name="c"><properties><property name="figures" '
        'value="{&quot;program&quot;: &quot;a server&quot;, &quot;dumps&quot;: &quot;25&quot;}"/>'
        "</properties></testcase></testsuite>"
    )
    (tmp_path / "host-real.xml").write_text(GOOD.replace("</testsuite>", recorded))
    shown = tally(tmp_path).stdout
    assert "\n| program | dumps |\n|---|---|\n| a server | 25 |\n" in shown


def test_all_good(tmp_path: Path) -> None:
    (tmp_path / "unit-gcc.xml").write_text(GOOD)
    done = tally(tmp_path, "lint=0", "unit=0")
    assert done.stdout.splitlines()[-1] == "2 passed, 0 failed"
    assert done.returncode == 0


@pytest.mark.parametrize("step", ["lint", "unit"])
def test_a_step_that_fails_outside_of_tests_counts(tmp_path: Path, step: str) -> None:
    (tmp_path / "unit-gcc.xml").write_text(GOOD)
    done = tally(tmp_path, f"{step}=1")
    assert done.stdout.splitlines()[-1] == "2 passed, 1 failed"
    assert f"the step {step}" in done.stdout
    assert done.returncode == 1


def test_nothing_run_is_a_failure(tmp_path: Path) -> None:
    assert tally(tmp_path).returncode == 1


def test_a_report_is_written(tmp_path: Path) -> None:
    (tmp_path / "host-lab.xml").write_text(GOOD)
    report = tmp_path / "results/today.md"
    assert tally(tmp_path, f"--write={report}").returncode == 0
    assert "| host-lab | 2 | 0 | 0 |" in report.read_text()
