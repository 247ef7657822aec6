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

from lab.architectures import X86_64
from lab.cache import CacheError
from lab.guest import GuestError
from lab.host import build, dumper, guests, hold, limits, outcomes, record
from lab.inside import system, take
from lab.inside.process import Impossible
from lab.kernels.errors import KernelError
from lab.longform import FULL
from lab.matrix import GUESTS, LIVE, LIVEDUMP, METHODS, ROWS, Guest, Row, methods

_RESULTS = pytest.StashKey[Path]()
_BUILD = pytest.StashKey[Path]()
_HELD = pytest.StashKey[set[str]]()
_SHARED = "coresnap_lab"
# Files whose tests take a minute each in a guest.
_LONG = ("test_suite",)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which machines: this one, or guests."""
    parser.addoption(
        "--guests",
        metavar="ARCH[,ARCH…]",
        default="",
        help="hold the rows of these guests (x86-32, x86-64, arm, arm64, or all), not this "
        "machine's",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a ``machine`` that it does not choose itself runs in each of LIVEDUMP.

    One marked alike does so in the long form; otherwise x86-64 stands for all.
    """
    chosen = (mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "machine" not in metafunc.fixturenames or "machine" in chosen:
        return
    one = metafunc.definition.get_closest_marker("alike") and not FULL
    machines = [each for each in LIVEDUMP if not one or each.architecture == X86_64.name]
    metafunc.parametrize("machine", machines, ids=lambda machine: machine.name, scope="module")


def _guests(config: pytest.Config) -> tuple[str, ...]:
    named = config.getoption("--guests")
    names = GUESTS if named == "all" else tuple(name for name in named.split(",") if name)
    unknown = sorted(set(names) - set(GUESTS))
    if unknown:
        raise pytest.UsageError(
            f"--guests: no architecture is called {', '.join(unknown)}; there are "
            f"{', '.join(GUESTS)}, and all"
        )
    return names


def _parameters(item: pytest.Item) -> dict[str, object]:
    callspec = getattr(item, "callspec", None)
    return dict(callspec.params) if callspec else {}


def _row(item: pytest.Item) -> Row | None:
    parameters = _parameters(item)
    found = parameters.get("held") or parameters.get("row")
    return found if isinstance(found, Row) else None


def _wanted(item: pytest.Item, named: tuple[str, ...]) -> bool:
    """Whether an item is about a machine that was asked for, by a method that there is.

    A test marked guest needs one; its parameter ``machine``, or ``architecture``, if it has one,
    says which.
    """
    row = _row(item)
    machine = row.guest if row else _parameters(item).get("machine")
    if row and _parameters(item).get("method", METHODS[0]) not in methods(row):
        return False
    if row or isinstance(machine, Guest):
        of = machine.architecture if isinstance(machine, Guest) else None
    elif item.get_closest_marker("guest"):
        of = str(_parameters(item).get("architecture", named[0] if named else "any"))
    else:
        of = None
    return of in named if named else of is None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what is about the machines that were asked for; what takes longest comes first.

    No worker is left with it at the end then, when the others have nothing to do any more.
    """
    named = _guests(config)
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        (kept if _wanted(item, named) else dropped).append(item)
    items[:] = sorted(kept, key=lambda item: item.path.stem not in _LONG)
    config.hook.pytest_deselected(items=dropped)


def pytest_configure(config: pytest.Config) -> None:
    """One directory for the run, made by the controller and told to the workers."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        shared = Path(workerinput[_SHARED])
    else:
        shared = Path(tempfile.mkdtemp(prefix="coresnap-lab-run-"))
    config.stash[_RESULTS] = shared / "fired"
    config.stash[_RESULTS].mkdir(exist_ok=True)
    config.pluginmanager.register(outcomes.Outcomes(config, fired=config.stash[_RESULTS]))
    config.stash[_HELD] = set()
    # pytest-xdist would begin with the rows of most tests.
    config.option.loadscopereorder = False
    named = os.environ.get("CORESNAP_LAB_BUILD")
    config.stash[_BUILD] = Path(named).resolve() if named else shared / "build"
    if workerinput is None and not config.option.collectonly and not _guests(config):
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
    """Let all tests of one row go to one worker, so that the row is held once, as do a module's
    tests in the same guest.

    The mark xdist_group would say the same, but pytest-xdist 3.8 with pytest 9.2 ignores it.
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class RowScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            rows = [row.name for row in (*ROWS, *LIVE) if row.name in nodeid]
            if rows:
                return max(rows, key=len)
            path, _, name = nodeid.partition("::")
            parameters = name.partition("[")[2].removesuffix("]")
            guests = [each.name for each in LIVEDUMP if each.name in parameters]
            return f"{path}/{max(guests, key=len)}" if guests else nodeid

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
        dumper=dumper.find() if not _guests(request.config) else Path(),
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
    # Nothing but the time that a run takes would tell.
    done_before = request.config.stash[_HELD]
    assert row.name not in done_before, f"{row.name} is held anew, for tests that do not share it"
    done_before.add(row.name)
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(take.directory(row))
            if row.guest:
                taken = guests.hold(row, tools.build, directory)
                done = hold.Hold(row=row, directory=directory, record=taken)
            else:
                done = hold.run(row, tools, directory)
        except (system.NotSettable, build.NotBuildable, Impossible) as error:
            limits.impossible(row, error)
        except (GuestError, KernelError, CacheError) as error:
            pytest.fail(f"{row.name}: {error}", pytrace=False)
        stack.callback(done.close)
        limits.held_after_all(row)
        yield done
