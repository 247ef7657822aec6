# SPDX-License-Identifier: BSD-3-Clause
"""gdb, lldb, elfutils and drgn say of our core what they say of the kernel's."""

from __future__ import annotations

import os
from collections import defaultdict

import pytest

from lab.host import guests, hold, verdicts
from lab.host.hold import Hold
from lab.matrix import METHODS, ROWS, STOCK, Row, methods

JUDGED = [
    pytest.param(row, id=row.name)
    for row in ROWS
    if row.width in row.scenario.verdicts and row.name == f"{row.scenario.name}/{row.width}"
]


@pytest.mark.parametrize("held", JUDGED, indirect=True)
@pytest.mark.parametrize("tool", verdicts.TOOLS, ids=lambda tool: tool.name)
def test_tools_agree(held: Hold, tool: verdicts.Tool) -> None:
    # The methods' cores are compared byte by byte elsewhere; each row shows one of them here.
    of_row = methods(held.row)
    method = of_row[hash_of(held.row.name) % len(of_row)]
    assert method in held.record.dumps, held.record.failures[method]
    assert held.record.kernel_core is not None
    program = held.directory / os.fsdecode(held.row.scenario.exe or held.row.scenario.name)
    try:
        ours = tool.ask(program, held.record.dumps[method].core)
        kernel = tool.ask(program, held.record.kernel_core)
    except verdicts.ToolMissing as error:
        pytest.skip(str(error))
    found = verdicts.disagreements(ours, kernel)
    assert not found, "\n".join(found[:20])


# Registers with larger values hold a thread's own mark or an address.
SMALL = 0xFFFF


def _is_for_gdb(row: Row) -> bool:
    """Of each architecture one row of many threads, and those that no kernel's core judges."""
    if row.guest is None or row.width != row.guest.architecture or row.nobody or row.itself:
        return False
    if row.scenario.name != "threads-20":
        return False
    return row.guest.kernel == STOCK or not row.guest.writes_cores


OF_GUESTS = [pytest.param(row, id=row.name) for row in ROWS if _is_for_gdb(row)]


@pytest.mark.parametrize("held", OF_GUESTS, indirect=True)
@pytest.mark.parametrize("method", METHODS)
def test_gdb_shows_each_thread_of_a_guests_process(
    held: Hold, method: str, tools: hold.Tools
) -> None:
    assert method in held.record.dumps, held.record.failures[method]
    program = guests.program(held.row, tools.build)
    try:
        said = verdicts.multiarch(program, held.record.dumps[method].core)
    except verdicts.ToolMissing as error:
        pytest.fail(str(error), pytrace=False)
    assert said["status"] == "0", said["warnings"]
    wanted = defaultdict(list)
    for truth in held.facts["truths"]:
        if truth["is"] == "register" and truth["value"] > SMALL:
            wanted[truth["tid"]].append(f"{truth['value']:#x}")
    assert len(held.facts["tids"]) >= 20
    for tid in held.facts["tids"]:
        frames, registers = said[f"{tid} (1)"], said[f"{tid} (2)"]
        assert frames.startswith("#0"), frames
        assert wanted[tid] and all(value in registers for value in wanted[tid]), registers


def hash_of(name: str) -> int:
    """A number that is the same in every process, unlike hash()."""
    return sum(name.encode())


@pytest.mark.parametrize("tool", verdicts.TOOLS, ids=lambda tool: tool.name)
def test_a_disagreement_is_seen(tool: verdicts.Tool) -> None:
    assert verdicts.disagreements({tool.name: "a"}, {tool.name: "b"})
    assert not verdicts.disagreements({tool.name: "a"}, {tool.name: "a"})
