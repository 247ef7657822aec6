# SPDX-License-Identifier: BSD-3-Clause
"""What a test asks a guest for: functions of JSON, run in a child of the guest's agent."""

from __future__ import annotations

import base64
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.inside import livedump, refused, system, take, undisturbed, variants
from lab.inside.process import Impossible
from lab.matrix import NOBODY, Row

PLACE = Path("/tmp/row")
"""The row's directory in a guest, where its cores are afterwards."""
PROGRAMS = take.Programs(
    scenario=Path("/tmp/programs/scenario"),
    dumper=Path("/tmp/programs/dumper"),
    nudge=Path("/tmp/programs/nudge"),
)
"""Where a test puts the row's programs before it asks."""
DENIED = Path("/tmp/programs/denied")
"""Where it puts that of denied.c, for dump_refused()."""


def begin(row: Row) -> None:
    """Make the row's directory, its user's."""
    if row.kernel_core:
        reason = system.why_no_core()
        assert reason is None, reason
    PLACE.mkdir(mode=0o700)
    if row.nobody:
        os.chown(PLACE, NOBODY, NOBODY)


def pack(row: Row) -> str:
    """A row for the way into a guest, where the same modules are."""
    return base64.b64encode(pickle.dumps(row)).decode()


def unpack(packed: str) -> Row:
    """A row that came so."""
    row = pickle.loads(base64.b64decode(packed))
    assert isinstance(row, Row)
    return row


def _answer(packed: str, do: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
    """What is done with the row, or why it is impossible here."""
    row = unpack(packed)
    begin(row)
    try:
        return do(row)
    except (system.NotSettable, Impossible) as error:
        return {"impossible": str(error)}


def hold(*, packed: str) -> dict[str, Any]:
    """take.take() of the row: its record, or why it is impossible here."""
    return _answer(packed, lambda row: take.take(row, PROGRAMS, PLACE).to_json())


def repeat(*, packed: str, dumps: int) -> dict[str, Any]:
    """undisturbed.repeat() of the row, or why it is impossible here."""
    return _answer(
        packed, lambda row: undisturbed.repeat(row, PROGRAMS, PLACE, dumps=dumps).to_json()
    )


def dump_refused(*, packed: str, request: int) -> dict[str, Any]:
    """refused.dumps() of the row by the cores' names, or why it is impossible here."""

    def do(row: Row) -> dict[str, Any]:
        made = refused.dumps(row, PROGRAMS, PLACE, denied=DENIED, request=request)
        return {dump.core.name: dump.to_json() for dump in made}

    return _answer(packed, do)


def dump_variants(*, packed: str) -> dict[str, Any]:
    """variants.dumps() of the row by their names, or why it is impossible here."""

    def do(row: Row) -> dict[str, Any]:
        return {dump.core.name: dump.to_json() for dump in variants.dumps(row, PROGRAMS, PLACE)}

    return _answer(packed, do)


def hold_live(*, packed: str) -> dict[str, Any]:
    """livedump.hold() of the row, or why it is impossible here."""
    return _answer(packed, lambda row: livedump.hold(row, PROGRAMS, PLACE).to_json())


def repeat_live(*, packed: str, dumps: int) -> dict[str, Any]:
    """livedump.repeat() of the row, or why it is impossible here."""
    return _answer(packed, lambda row: livedump.repeat(row, PROGRAMS, PLACE, dumps=dumps).to_json())
