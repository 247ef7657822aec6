#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Add up the JUnit files of a test run.

    ci/tally.py [--write REPORT.md] [--only STEP] DIRECTORY [STEP=STATUS…]

DIRECTORY holds STEP-SUITE.xml files. What a run that was resumed (lab/resume.py) found passed
before counts as passed. STATUS is the exit status of a step: one that failed without a failed test
(a compiler error, a linter) counts as one failure. What a test recorded as a property "figures",
names and values in JSON, becomes a row of a table. The last line printed is `N passed, N failed`;
the exit status is 1 when anything failed, or when nothing was run at all.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# What lab/resume.py says of them.
PASSED_BEFORE = "passed in an earlier run of this commit"


@dataclass(frozen=True)
class Suite:
    """One JUnit file: counts of tests, seconds, and why tests were skipped."""

    name: str
    passed: int
    failed: int
    seconds: float
    failures: tuple[str, ...] = ()
    skips: Counter[str] = field(default_factory=Counter)
    figures: tuple[dict[str, str], ...] = ()


def read_suite(path: Path) -> Suite:
    """Count the cases of one file; each is passed, failed (or in error) or skipped."""
    passed = 0
    seconds = 0.0
    failures: list[str] = []
    skips: Counter[str] = Counter()
    figures: list[dict[str, str]] = []
    for case in ET.parse(path).getroot().iter("testcase"):
        recorded = case.iterfind("properties/property[@name='figures']")
        figures += [json.loads(each.get("value", "{}")) for each in recorded]
        seconds += float(case.get("time") or 0)
        skipped = case.find("skipped")
        why = None if skipped is None else skipped.get("message") or skipped.text
        if case.find("failure") is not None or case.find("error") is not None:
            failures.append(f"{case.get('classname', '')}.{case.get('name', '')}".lstrip("."))
        elif skipped is not None and why != PASSED_BEFORE:
            skips[why or "no reason given"] += 1
        else:
            passed += 1
    counts = (passed, len(failures), seconds)
    return Suite(path.stem, *counts, tuple(failures), skips, tuple(figures))


def stepless_failures(suites: list[Suite], steps: dict[str, int]) -> list[str]:
    """Return the steps that failed although no test of theirs did."""
    return [
        step
        for step, status in steps.items()
        if status != 0 and not any(s.failed for s in suites if s.name.partition("-")[0] == step)
    ]


def tables(rows: list[dict[str, str]]) -> list[str]:
    """Return Markdown tables of figures, one for each set of names."""
    lines: list[str] = []
    for names in dict.fromkeys(tuple(row) for row in rows):
        same = [row for row in rows if tuple(row) == names]
        lines += ["", f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
        lines += [f"| {' | '.join(row.values())} |" for row in same]
    return lines


def report(suites: list[Suite]) -> list[str]:
    """Return Markdown: a table of the suites, figures, what failed, what was skipped, and why."""
    lines = ["| suite | passed | failed | skipped | seconds |", "|---|---|---|---|---|"]
    lines += [
        f"| {s.name} | {s.passed} | {s.failed} | {s.skips.total()} | {s.seconds:.1f} |"
        for s in suites
    ]
    lines += tables([row for s in suites for row in s.figures])
    failures = [f"failed: {s.name}: {name}" for s in suites for name in s.failures]
    skips = sum((s.skips for s in suites), Counter[str]())
    skipped = [f"skipped {n}: {' '.join(reason.split())}" for reason, n in sorted(skips.items())]
    return lines + ["", *failures] * bool(failures) + ["", *skipped] * bool(skipped)


def machine() -> str:
    """Return one line about where the tests ran."""
    uname = platform.uname()
    return f"{uname.system} {uname.release} {uname.machine}, Python {platform.python_version()}"


def main() -> int:
    """Print the report and the sum."""
    parser = argparse.ArgumentParser(description="Add up JUnit files.")
    parser.add_argument("--write", type=Path, help="also write the report to this Markdown file")
    parser.add_argument("--only", default="", metavar="STEP", help="the files of this step")
    parser.add_argument("directory", type=Path)
    parser.add_argument("steps", nargs="*", metavar="STEP=STATUS")
    arguments = parser.parse_args()
    steps = {name: int(status) for name, _, status in (s.partition("=") for s in arguments.steps)}
    suites = [
        read_suite(path) for path in sorted(arguments.directory.glob(f"{arguments.only}*.xml"))
    ]
    broken = stepless_failures(suites, steps)
    passed = sum(s.passed for s in suites)
    failed = sum(s.failed for s in suites) + len(broken)
    total = f"{passed} passed, {failed} failed"
    text = report(suites) + [f"failed: the step {step}, outside of any test" for step in broken]
    print("\n== tests")
    print("\n".join(text))
    print(total)
    if arguments.write:
        today = datetime.datetime.now(datetime.UTC).date()
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        head = [f"# Long tests, {today}", "", machine(), ""]
        arguments.write.write_text("\n".join([*head, *text, "", total, ""]))
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main())
