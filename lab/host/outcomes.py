# SPDX-License-Identifier: BSD-3-Clause
"""What became of each cell: a pytest plugin that notes it, test by test, as a run goes on, and
keeps what a failed one leaves.

A cell has a file of its own below build/lab/cells, rewritten whenever one of its tests has ended. A
later run of the same commit adds to it, so a run that was cut off loses nothing; a run of another
commit begins anew. lab/report.py reads the files.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lab.host import kept, record
from lab.host.hold import Hold
from lab.host.limits import KNOWN
from lab.matrix import Row, methods
from lab.resume import PASSED_BEFORE

ROOT = Path(__file__).resolve().parent.parent.parent
CELLS = ROOT / "build" / "lab" / "cells"
HOST = "host"
"""The name of this machine in place of a guest's."""
COMPARISON = "test_core_equals_kernels"
_WHY_MAX = 400
_KEY = "lab_row"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a cell stands in the matrix; ``row`` is the row's name without the guest's."""

    machine: str
    row: str
    scenario: str
    method: str

    @property
    def name(self) -> str:
        """As in ``arm/stock-6.1/fpu/arm:stop``; this machine's have no machine in it."""
        return f"{self.row if self.machine == HOST else f'{self.machine}/{self.row}'}:{self.method}"


@dataclass(kw_only=True)
class Noted:
    """A cell's tests: the name of each, how it ended and why; and the rules that fired.

    ``commit`` is what was checked out, ``changed`` whether there were changes to it.
    """

    place: Place
    commit: str
    changed: bool
    date: str = ""
    tests: dict[str, tuple[str, str]] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As an object of JSON."""
        return {**vars(self), "place": vars(self.place)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Noted:
        """The same again."""
        tests = {name: (ended, why) for name, (ended, why) in data["tests"].items()}
        return cls(**{**data, "place": Place(**data["place"]), "tests": tests})


def checked_out(root: Path = ROOT) -> tuple[str, bool]:
    """The commit, and whether anything but results was changed; ("unknown", True) without git."""
    try:
        commit, status = (
            subprocess.run(
                ["git", "-C", root, *arguments],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout.strip()
            for arguments in (
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--", ":!docs/results", ":!docs/support.md"],
            )
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown", True
    return commit, status != ""


def read(directory: Path = CELLS) -> list[Noted]:
    """All cells that runs have noted, by name."""
    return [
        Noted.from_json(json.loads(path.read_text())) for path in sorted(directory.glob("*.json"))
    ]


def ended(report: pytest.TestReport) -> tuple[str, str] | None:
    """How a phase of a test ended, and why: "passed", "differs" (a test said so), "failed" (nothing
    could be tested), "impossible", "limit". None if it says nothing new."""
    if report.failed:
        return "differs" if report.when == "call" else "failed", _short(_crash(report))
    if report.skipped:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        why = why.removeprefix("Skipped: ")
        if PASSED_BEFORE in why:
            return None
        if why.startswith(KNOWN):
            return "limit", _short(why.removeprefix(KNOWN))
        return "impossible", _short(why)
    return ("passed", "") if report.when == "call" else None


def _crash(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message) if crash is not None else report.longreprtext


def _short(text: str) -> str:
    """The first paragraph in one line."""
    words = " ".join(text.strip().partition("\n\n")[0].split())
    return words if len(words) <= _WHY_MAX else f"{words[:_WHY_MAX]}…"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    part.replace(path)


class Outcomes:
    """The plugin. ``fired`` is where tests write which rules fired (lab.host.record)."""

    def __init__(
        self, config: pytest.Config, *, fired: Path, to: Path = CELLS, failed: Path = kept.FAILED
    ) -> None:
        self._controls = not hasattr(config, "workerinput")
        self._fired = fired
        self._to = to
        self._kept = failed
        self._commit, self._changed = checked_out() if self._controls else ("", True)
        self._cells: dict[str, Noted] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Tell the report which row it is about; pytest-xdist carries it to the controller.

        If it failed, keep what shows why, and have the report tell where and how to reopen it.
        """
        report = yield
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        row = parameters.get("held") or parameters.get("row")
        if isinstance(row, Row):
            marked = item.get_closest_marker("method")
            method = parameters.get("method") or (marked.args[0] if marked else None)
            vars(report)[_KEY] = {
                "machine": row.guest.name if row.guest else HOST,
                "row": row.name.removeprefix(f"{row.guest.name}/" if row.guest else ""),
                "scenario": row.scenario.name,
                "methods": [method] if method else list(methods(row)),
                "test": getattr(item, "originalname", item.name),
            }
            if report.failed:
                fixtures = getattr(item, "funcargs", {})
                held = fixtures.get("held") or getattr(fixtures.get("taken"), "hold", None)
                directory = held.directory if isinstance(held, Hold) else None
                text = kept.keep(row, item.name, report.longreprtext, directory, to=self._kept)
                report.sections.append(("what is kept of the row", text))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what ended, on the controller."""
        about = vars(report).get(_KEY)
        end = ended(report) if about and self._controls else None
        if about is None or end is None:
            return
        for method in about["methods"]:
            place = Place(
                machine=about["machine"],
                row=about["row"],
                scenario=about["scenario"],
                method=method,
            )
            self._note(place, about["test"], end)

    def _note(self, place: Place, test: str, end: tuple[str, str]) -> None:
        path = self._to / f"{kept.file_name(place.name)}.json"
        noted = self._cells.get(place.name) or self._before(path)
        if noted is None:
            noted = Noted(place=place, commit=self._commit, changed=self._changed)
        self._cells[place.name] = noted
        noted.tests[test] = end
        if test == COMPARISON:
            noted.rules = record.rules(self._fired, place.name)
        noted.date = datetime.now(UTC).isoformat(timespec="seconds")
        _write(path, json.dumps(noted.to_json(), indent=1, default=vars))

    def _before(self, path: Path) -> Noted | None:
        """What an earlier run of the same commit noted."""
        try:
            noted = Noted.from_json(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        same = (noted.commit, noted.changed) == (self._commit, self._changed)
        return noted if same else None
