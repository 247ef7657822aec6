# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the lab: the tools, one hold for each row, and the check that no rule is idle."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.host import build, dumper, hold, record
from lab.inside import system, take
from lab.inside.process import Impossible
from lab.matrix import ROWS, Row

_RESULTS = pytest.StashKey[Path]()
_BUILD = pytest.StashKey[Path]()
_SHARED = "coresnap_lab"


def pytest_configure(config: pytest.Config) -> None:
    """One directory for the run, made by the controller and told to the workers."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        shared = Path(workerinput[_SHARED])
    else:
        shared = Path(tempfile.mkdtemp(prefix="coresnap-lab-run-"))
    config.stash[_RESULTS] = shared / "fired"
    config.stash[_RESULTS].mkdir(exist_ok=True)
    named = os.environ.get("CORESNAP_LAB_BUILD")
    config.stash[_BUILD] = Path(named).resolve() if named else shared / "build"
    if workerinput is None and not config.option.collectonly:
        reason = system.why_no_core() or dumper.why_missing()
        if reason is not None:
            pytest.exit(reason, returncode=2)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Hand the run's directory to a worker of pytest-xdist."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    workerinput: dict[str, str] = node.workerinput  # type: ignore[attr-defined]
    workerinput[_SHARED] = str(config.stash[_RESULTS].parent)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Let all tests of one row go to one worker, so that the row is held once.

    The mark xdist_group would say the same, but pytest-xdist 3.8 with pytest 9.2 ignores it.
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class RowScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            rows = [row.name for row in ROWS if row.name in nodeid]
            return max(rows, key=len) if rows else nodeid

    return RowScheduling(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's directory."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[_RESULTS].parent, ignore_errors=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """On the controller: every rule that could fire in this run has fired."""
    config = session.config
    if hasattr(config, "workerinput"):
        return
    idle = record.idle_rules(record.read(config.stash[_RESULTS]))
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if idle and reporter is not None:
        reporter.ensure_newline()
        reporter.section("idle rules", red=True)
        reporter.line(
            "These rules of lab/rules.py explained nothing although this run had cells in which "
            "they should. Remove them, or narrow their cells:"
        )
        for line in idle:
            reporter.line(f"  {line}")
    if idle and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def tools(request: pytest.FixtureRequest) -> hold.Tools:
    """The dumper and the directory for compiled programs."""
    return hold.Tools(
        dumper=dumper.find(),
        dumper_32=dumper.find_32(),
        build=request.config.stash[_BUILD],
    )


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Path:
    """Where cells record the rules that fired."""
    return request.config.stash[_RESULTS]


@pytest.fixture(scope="session")
def held(request: pytest.FixtureRequest, tools: hold.Tools) -> Iterator[hold.Hold]:
    """The hold of a row, which the tests of that row share."""
    row: Row = request.param
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(take.directory(row))
            done = hold.run(row, tools, directory)
        except (system.NotSettable, build.NotBuildable, Impossible) as error:
            pytest.skip(f"not possible here: {row.name}: {error}")
        stack.callback(done.close)
        yield done
