# SPDX-License-Identifier: BSD-3-Clause
"""gdb, lldb, elfutils and drgn say of our core what they say of the kernel's."""

from __future__ import annotations

import os

import pytest

from lab.host import verdicts
from lab.host.hold import Hold
from lab.matrix import METHODS, ROWS

JUDGED = [
    pytest.param(row, id=row.name)
    for row in ROWS
    if row.width in row.scenario.verdicts and row.name == f"{row.scenario.name}/{row.width}"
]


@pytest.mark.parametrize("held", JUDGED, indirect=True)
@pytest.mark.parametrize("tool", verdicts.TOOLS, ids=lambda tool: tool.name)
def test_tools_agree(held: Hold, tool: verdicts.Tool) -> None:
    # The methods' cores are compared byte by byte elsewhere; each row shows one of them here.
    method = METHODS[hash_of(held.row.name) % len(METHODS)]
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


def hash_of(name: str) -> int:
    """A number that is the same in every process, unlike hash()."""
    return sum(name.encode())


@pytest.mark.parametrize("tool", verdicts.TOOLS, ids=lambda tool: tool.name)
def test_a_disagreement_is_seen(tool: verdicts.Tool) -> None:
    assert verdicts.disagreements({tool.name: "a"}, {tool.name: "b"})
    assert not verdicts.disagreements({tool.name: "a"}, {tool.name: "a"})
