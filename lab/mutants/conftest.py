# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the mutants: a workshop for each worker, holds, and the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from lab.guest import GuestError
from lab.host import build, guests, hold, record
from lab.inside import system, take
from lab.inside.process import Impossible
from lab.matrix import METHODS, Row
from lab.mutants import sightings
from lab.mutants.catalogue import MUTANTS, Mutant
from lab.mutants.workshop import NotBuilt, Workshop

ROWS = {cell.row.name: cell.row for cell in record.cells().values()}
SEEN_BY = "seen by"  # the property of a test's report that tells the table what saw the mutant

Sightings = dict[str, tuple[sightings.Sighting, ...]]  # by method


class NotTried(Exception):
    """The cell cannot be held here; the text says why."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """Nothing can be compared where the kernel writes no core."""
    reason = system.why_no_core()
    if reason is not None and not session.config.option.collectonly:
        pytest.exit(reason, returncode=2)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Let all mutants of one row go to one worker, which then holds it unspoilt only once."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class RowScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            rows = [mutant.row for mutant in MUTANTS if f"[{mutant.row}:" in nodeid]
            return rows[0] if rows else nodeid

    return RowScheduling(config, log)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """This worker's own copy of the sources."""
    return Workshop(tmp_path_factory.mktemp("workshop"))


def _hold(row: Row, workshop: Workshop, mutant: Mutant | None, where: Path) -> hold.Hold:
    if row.guest:
        workshop.dumper(row.guest.architecture, mutant)
        taken = guests.hold(row, workshop.scenarios, where)
        return hold.Hold(row=row, directory=where, record=taken)
    dumper = workshop.dumper("x86-32" if row.by_32 else "x86-64", mutant)
    tools = hold.Tools(dumper=dumper, dumper_32=dumper, build=workshop.scenarios)
    return hold.run(row, tools, where)


@contextmanager
def _product(workshop: Workshop) -> Iterator[None]:
    """Let guests take coresnap-dump from the workshop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORESNAP_CROSS", str(workshop.products))
        yield


@pytest.fixture(scope="session")
def looked(workshop: Workshop) -> Callable[[str, Mutant | None], Sightings]:
    """Holds a row, dumped by a dumper with that fault, and tells what is wrong with each core.

    Raises NotTried, and what Workshop.dumper() raises.
    """

    def look(name: str, mutant: Mutant | None) -> Sightings:
        row = ROWS[name]
        try:
            with _product(workshop), take.directory(row) as where:
                held = _hold(row, workshop, mutant, where)
                try:
                    return {method: sightings.look(held, method) for method in METHODS}
                finally:
                    held.close()
        except (Impossible, system.NotSettable, build.NotBuildable, GuestError) as error:
            raise NotTried(f"{name} cannot be held here, so nothing is known: {error}") from error

    return look


@pytest.fixture(scope="session")
def sound(looked: Callable[[str, Mutant | None], Sightings]) -> Callable[[str, str], None]:
    """Fails unless what is built without a fault passes the cell; each row is held once."""
    known: dict[str, Sightings | Exception] = {}

    def check(name: str, method: str) -> None:
        if name not in known:
            try:
                known[name] = looked(name, None)
            except (NotTried, NotBuilt) as error:
                known[name] = error
        found = known[name]
        if isinstance(found, Exception):
            pytest.fail(str(found), pytrace=False)
        if found[method]:
            pytest.fail(
                f"{name}:{method} fails without any fault, so it proves nothing of one:\n"
                f"{sightings.text(found[method])}",
                pytrace=False,
            )

    return check


def _outcome(report: pytest.TestReport) -> tuple[str, str] | None:
    """Of a mutant's report its test's id and what saw it."""
    if report.when != "call" or "[" not in report.nodeid:
        return None
    seen = str(dict(report.user_properties).get(SEEN_BY, "nothing: see above"))
    return report.nodeid.partition("[")[2].removesuffix("]"), seen


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A table of the mutants: cell, and what saw it there."""
    stats = terminalreporter.stats
    reports = [*stats.get("passed", []), *stats.get("failed", [])]
    outcomes = dict(filter(None, (_outcome(report) for report in reports)))
    table = Table(box=None, pad_edge=False)
    for column in ("mutant", "cell", "seen by"):
        table.add_column(column, overflow="fold")
    for mutant in MUTANTS:
        name = f"{mutant.cell}-{mutant.name}"
        if name in outcomes:
            table.add_row(mutant.name, mutant.cell, outcomes[name])
    if table.row_count == 0:
        return
    terminalreporter.section("mutants")
    console = Console(width=max(100, Console().width), markup=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    terminalreporter.write(capture.get())
