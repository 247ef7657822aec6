# SPDX-License-Identifier: BSD-3-Clause
"""Each row: our cores against the kernel's, against the scenario's truths, and the target after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lab.host import compare, record, truth
from lab.host.hold import Hold
from lab.matrix import EVERY_METHOD, ROWS, Row

_Test = TypeVar("_Test", bound=Callable[..., Any])
HOLDS = list(ROWS)
WHOLE = [row for row in ROWS if row.whole]
BY_KERNEL = [row for row in ROWS if row.kernel_core and row.whole]
COMPARED = [row for row in ROWS if row.kernel_core and row.scenario.compared]


def by_rows(rows: list[Row]) -> list[object]:
    """Each row."""
    return [pytest.param(row, id=row.name) for row in rows]


def each_method(rows: list[Row]) -> Callable[[_Test], _Test]:
    """Each row by each method; conftest.py leaves out those that no method of the row is.

    Two marks: one for both names would have the scope of the plain one, and each method a hold of
    its own.
    """

    def mark(test: _Test) -> _Test:
        by_row = pytest.mark.parametrize("held", by_rows(rows), indirect=True)
        marked: _Test = by_row(pytest.mark.parametrize("method", EVERY_METHOD)(test))
        return marked

    return mark


@each_method(COMPARED)
def test_core_equals_kernels(held: Hold, method: str, results: Path) -> None:
    comparison = held.context(method)
    verdict = compare.judge(comparison)
    record.write(results, record.Fired(cell=comparison.cell.name, rules=verdict.fired))
    if verdict.unexplained:
        pytest.fail(
            f"{len(verdict.unexplained)} differences to the kernel's core that not exactly one "
            f"rule allows:\n{verdict.text()}",
            pytrace=False,
        )


@each_method(WHOLE)
def test_core_tells_the_truth(held: Hold, method: str) -> None:
    caller = held.facts["pid"] if held.row.itself else None
    found = truth.lies(held.ours(method), held.facts, moved=caller)
    assert not found, "\n".join(found[:40])


SPARSE = [row for row in ROWS if row.scenario.source == "sparse"]
MEGABYTES = 32 << 20


@each_method(SPARSE)
def test_holes_cost_nothing(held: Hold, method: str) -> None:
    assert method in held.record.dumps, held.record.failures[method]
    dump = held.record.dumps[method]
    assert dump.result["bytes_read"] < MEGABYTES
    assert dump.core.stat().st_blocks * 512 < MEGABYTES
    assert held.record.elapsed < 60


@pytest.mark.parametrize("held", by_rows(BY_KERNEL), indirect=True)
def test_kernels_core_tells_the_truth(held: Hold) -> None:
    # A truth that the kernel's core contradicts is a mistake of the scenario.
    found = truth.lies(held.kernel, held.facts)
    assert not found, "\n".join(found[:40])


@pytest.mark.parametrize("held", by_rows(HOLDS), indirect=True)
def test_scenario_is_undisturbed(held: Hold) -> None:
    assert held.record.answer.startswith("ok"), held.record.answer
    before = held.record.observations[0][1]
    # A program that dumps itself runs the library's code, on a stack that grows with it.
    growth = 1024 if held.row.itself else 256
    for label, after in held.record.observations[1:]:
        assert not before.differences(after, growth_kib=growth), label


@each_method(HOLDS)
def test_method_was_taken(held: Hold, method: str) -> None:
    assert method in held.record.dumps, held.record.failures[method]
    dump = held.record.dumps[method]
    assert dump.status == 0, dump.words
    assert dump.result["method"] == method


def test_rows_have_names_of_their_own() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
