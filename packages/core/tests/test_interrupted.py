# SPDX-License-Identifier: BSD-3-Clause
"""What a dump does to a program that is in a system call is what docs/pausing.md says.

Every row of its table is run by each method, with and without strict timeouts, all at the same
time: most of it is waiting. See lab/pausing for the program.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import living
import pytest
import toolchain
from living import METHODS, lists_pages_at_once, needs_compat
from toolchain import NATIVE, Width

from coresnap.errors import Code
from lab.patience import DEADLINE, PATIENCE

calls = pytest.importorskip("lab.pausing.calls", reason="lab/ is not beside packages/ here")

pytestmark = pytest.mark.host

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "pausing.md"
TIMEOUT = int(3_000_000_000 * PATIENCE)  # ns: of the calls that have one
AFTER = int(1_000_000_000 * PATIENCE)  # ns: how long such a call has waited when it is dumped
AT_ONCE = 64
WAYS = {
    f"{method}{', strict' if options else ''}": ("-m", method, *options)
    for options in ((), ("--strict-timeouts",))
    for method in METHODS
}
# What precopy does to a call is what the method does by which writes are tracked.
LIKE_PRECOPY = "fork" if lists_pages_at_once() else "stop"
CALLS_COMPAT = ("clock_nanosleep", "futex-timeout", "poll-timeout", "select-timeout", "epoll_wait",
            "epoll_wait-timeout", "read-pipe", "recv-timeout", "accept-timeout", "sigtimedwait",
            "semop", "semtimedop", "msgrcv", "io_uring_enter-timeout", "pause")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run: a call of a program of a width, dumped in one way."""

    width: Width
    call: str  # as in the table
    way: str

    def __str__(self) -> str:
        return f"{self.width}-{self.call}-{self.way}".replace(", ", "-")


def read_table(name: str) -> dict[str, dict[str, str]]:
    """What a table of the document says: the verdict by call and way."""
    text = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
    section = text.partition(f"<!-- measured: {name} -->")[2].partition(f"<!-- end: {name} -->")[0]
    rows: dict[str, dict[str, str]] = {}
    head: list[str] = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| call |"):
            head = cells
        elif line.startswith("| `") and cells[0].strip("`") not in rows:
            rows[cells[0].strip("`")] = dict(zip(head, cells, strict=True))
    return rows


TABLE = read_table("calls") | read_table(f"calls on {NATIVE.name}")
CELLS = [
    Cell(width=width, call=call, way=way)
    for width, names in ((Width.NATIVE, TABLE), (Width.COMPAT, CALLS_COMPAT))
    for call in names
    for way in WAYS
]


def expected(call: str, way: str) -> str:
    """The verdict that the document has."""
    return TABLE[call][way.replace("precopy", LIKE_PRECOPY)]


class RefusedError(Exception):
    """coresnap-dump wrote no core; the text is what it said."""


def run(cell: Cell, program: Path, dumper: str, *, timed: bool) -> str:
    """Make the call, dump the process in it, and return the verdict."""

    def dump(pid: int) -> None:
        argv = [dumper, *WAYS[cell.way], "-q", "-o", "-", str(pid)]
        with open(os.devnull, "wb") as nowhere:
            done = subprocess.run(
                argv, stdout=nowhere, stderr=subprocess.PIPE, timeout=2 * DEADLINE, text=True
            )
        # What precopy injects, before it copies, can end the call and with it the program.
        gone = done.returncode == Code.TARGET_GONE and cell.way.startswith("precopy")
        if done.returncode and not gone:
            raise RefusedError(done.stderr)

    try:
        outcome = calls.run(
            program,
            cell.call.removesuffix(", twice"),
            timeout=TIMEOUT if timed else None,
            disturb=dump,
            times=2 if cell.call.endswith(", twice") else 1,
            after=AFTER if timed else 0,
        )
    except calls.Unsupported as error:
        return f"not here: {error}"
    except RefusedError as error:
        return "refused" if "interrupted before" in str(error) else f"refused: {error}"
    return str(outcome.verdict)


@pytest.fixture(scope="session")
def verdicts() -> dict[Cell, Future[str]]:
    """Every cell's verdict, or what went wrong with it."""
    dumper = os.environ.get("CORESNAP_DUMP", "")
    if not shutil.which(dumper):
        pytest.skip("CORESNAP_DUMP does not name the program coresnap-dump")
    seen: dict[Cell, Future[str]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for width in Width:
            try:
                program = toolchain.find("calls", width)
            except toolchain.Missing:
                continue
            timed = calls.list_calls(program)
            for cell in CELLS:
                name = cell.call.removesuffix(", twice")
                if cell.width is width:
                    seen[cell] = pool.submit(run, cell, program, dumper, timed=timed[name])
    return seen


def test_table_has_every_call() -> None:
    listed = calls.list_calls(living.program("calls"))
    assert {call.removesuffix(", twice") for call in TABLE} == set(listed)


@pytest.mark.parametrize(
    "cell",
    [pytest.param(cell, marks=[needs_compat] * (cell.width is Width.COMPAT)) for cell in CELLS],
    ids=str,
)
def test_document_is_true(cell: Cell, verdicts: dict[Cell, Future[str]]) -> None:
    living.program("calls", cell.width)
    verdict = verdicts[cell].result()
    if verdict.startswith("not here"):
        pytest.skip(verdict)
    assert verdict == expected(cell.call, cell.way)
