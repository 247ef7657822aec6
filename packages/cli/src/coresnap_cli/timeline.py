# SPDX-License-Identifier: BSD-3-Clause
"""Where the time of a dump went: a chart on a terminal, a line elsewhere; on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

import coresnap
from coresnap_cli.talk import console, milliseconds, say

_WIDTH = 40
_STOPPED, _RUNNING = "red", "green"


def show(result: coresnap.DumpResult) -> None:
    """Nothing if the phases are not known, as by method livedump."""
    times = spent(result)
    if not times:
        return
    if sys.stderr.isatty() and sys.stderr.encoding.lower().startswith("utf"):
        console(sys.stderr).print(chart(times))
    else:
        say(line(times))


def spent(result: coresnap.DumpResult) -> dict[coresnap.Phase, int]:
    """The phases that occurred, in their order."""
    return {phase: ns for phase, ns in result.phase_ns.items() if ns}


def line(times: dict[coresnap.Phase, int]) -> str:
    """The phases in which the process stood still are in brackets."""
    before, stopped, after = (
        ", ".join(f"{phase} {milliseconds(ns)}" for phase, ns in times.items() if where(phase))
        for where in (_is_before, lambda phase: phase.stopped, _is_after)
    )
    return "time    " + ", ".join(part for part in (before, f"[{stopped}]", after) if part)


def chart(times: dict[coresnap.Phase, int]) -> Table:
    """A row for each phase, with a bar from where it begins to where it ends."""
    table = Table.grid(padding=(0, 1))
    for justify in ("left", "left", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for head, phase, ns, begin, end in _rows(times):
        bar = Bar(
            sum(times.values()), begin, end,
            width=_WIDTH, color=_STOPPED if phase.stopped else _RUNNING,
        )  # fmt: skip
        table.add_row(Text(head), Text(phase), Text(milliseconds(ns)), bar)
    return table


def _rows(
    times: dict[coresnap.Phase, int],
) -> Iterator[tuple[str, coresnap.Phase, int, int, int]]:
    at, head = 0, "time   "
    for phase, ns in times.items():
        yield head, phase, ns, at, at + ns
        at, head = at + ns, ""


def _is_before(phase: coresnap.Phase) -> bool:
    return phase in (coresnap.Phase.AHEAD, coresnap.Phase.SEIZE)


def _is_after(phase: coresnap.Phase) -> bool:
    return phase is coresnap.Phase.WRITE
