# SPDX-License-Identifier: BSD-3-Clause
"""Each row: our cores against the kernel's, against the scenario's truths, and the target after."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.host import compare, record, truth
from lab.host.hold import Hold
from lab.matrix import METHODS, ROWS

HOLDS = [pytest.param(row, id=row.name) for row in ROWS]
WHOLE = [param for param, row in zip(HOLDS, ROWS, strict=True) if row.whole]
BY_KERNEL = [param for param, row in zip(HOLDS, ROWS, strict=True) if row.kernel_core and row.whole]
COMPARED = [
    param
    for param, row in zip(HOLDS, ROWS, strict=True)
    if row.kernel_core and row.scenario.compared
]


@pytest.mark.parametrize("held", COMPARED, indirect=True)
@pytest.mark.parametrize("method", METHODS)
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


@pytest.mark.parametrize("held", WHOLE, indirect=True)
@pytest.mark.parametrize("method", METHODS)
def test_core_tells_the_truth(held: Hold, method: str) -> None:
    caller = held.facts["pid"] if held.row.itself else None
    found = truth.lies(held.ours(method), held.facts, moved=caller)
    assert not found, "\n".join(found[:40])


SPARSE = [param for param, row in zip(HOLDS, ROWS, strict=True) if row.scenario.source == "sparse"]
MEGABYTES = 32 << 20


@pytest.mark.parametrize("held", SPARSE, indirect=True)
@pytest.mark.parametrize("method", METHODS)
def test_holes_cost_nothing(held: Hold, method: str) -> None:
    assert method in held.record.dumps, held.record.failures[method]
    dump = held.record.dumps[method]
    assert dump.result["bytes_read"] < MEGABYTES
    assert dump.core.stat().st_blocks * 512 < MEGABYTES
    assert held.record.elapsed < 60


@pytest.mark.parametrize("held", BY_KERNEL, indirect=True)
def test_kernels_core_tells_the_truth(held: Hold) -> None:
    # A truth that the kernel's core contradicts is a mistake of the scenario.
    found = truth.lies(held.kernel, held.facts)
    assert not found, "\n".join(found[:40])


@pytest.mark.parametrize("held", HOLDS, indirect=True)
def test_scenario_is_undisturbed(held: Hold) -> None:
    assert held.record.answer.startswith("ok"), held.record.answer
    before = held.record.observations[0][1]
    # A program that dumps itself runs the library's code, on a stack that grows with it.
    growth = 1024 if held.row.itself else 256
    for label, after in held.record.observations[1:]:
        assert not before.differences(after, growth_kib=growth), label


@pytest.mark.parametrize("held", HOLDS, indirect=True)
@pytest.mark.parametrize("method", METHODS)
def test_method_was_taken(held: Hold, method: str) -> None:
    assert method in held.record.dumps, held.record.failures[method]
    dump = held.record.dumps[method]
    assert dump.status == 0, dump.words
    assert dump.result["method"] == method


def test_rows_have_names_of_their_own() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
