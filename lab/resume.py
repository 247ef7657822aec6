# SPDX-License-Identifier: BSD-3-Clause
"""A pytest plugin by which an interrupted long form goes on where it was (`tox -e full`, `soak`).

A test that passed is noted under the commit that is checked out; the next run at the same commit
skips it and says so. With uncommitted changes nothing is noted and nothing is skipped.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.longform import SOAK

ROOT = Path(__file__).resolve().parent.parent
PASSED_BEFORE = "passed in an earlier run of this commit"
_NOTES = pytest.StashKey[Path | None]()


def _git(*arguments: str) -> str | None:
    """What git says, or None where it has nothing to say."""
    try:
        done = subprocess.run(
            ["git", "-C", ROOT, *arguments], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def pytest_configure(config: pytest.Config) -> None:
    """Find the notes of this commit."""
    commit = _git("rev-parse", "HEAD")
    clean = _git("status", "--porcelain", "--", ":!docs/results") == ""
    # What passed with fewer dumps has not passed with more.
    notes = ROOT / "build" / ("soak" if SOAK else "full") / f"{commit}.passed"
    config.stash[_NOTES] = notes if commit and clean else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what has passed."""
    notes = config.stash[_NOTES]
    if notes is None or not notes.exists():
        return
    passed = set(notes.read_text().splitlines())
    for item in items:
        if item.nodeid in passed:
            item.add_marker(pytest.mark.skip(reason=PASSED_BEFORE))


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Note what passes, on the controller only."""
    notes = session.config.stash[_NOTES]
    if notes is not None and not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_Recorder(notes), "coresnap-resume")


class _Recorder:
    """Appends the ids of tests that passed, each at once, since the run may be cut off."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._notes.parent.mkdir(parents=True, exist_ok=True)
            with self._notes.open("a") as stream:
                stream.write(report.nodeid + "\n")
