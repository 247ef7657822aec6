# SPDX-License-Identifier: BSD-3-Clause
"""Allocation tags that cannot be had: the core is written without them, and that is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coresnap.corefile import Core
from coresnap.diff import diff
from lab.architectures import ARM64
from lab.host import guests, limits
from lab.host.hold import Tools
from lab.inside.dumper import INCOMPLETE
from lab.inside.process import Impossible
from lab.inside.refused import REFUSED, WHOLE
from lab.matrix import METHODS, STOCK, Row, rows

PEEK = 33  # PTRACE_PEEKMTETAGS


def _row(architecture: str) -> Row:
    name = f"{architecture}/{STOCK}/mte/{architecture}"
    return next(row for row in rows() if row.name == name)


def _dumped(architecture: str, tools: Tools, to: Path) -> dict[str, dict[str, Any]]:
    """What the dumper said, by the name of the core, which is in ``to`` then."""
    row = _row(architecture)
    try:
        return guests.dump_refused(row, tools.build, to, request=PEEK)
    except Impossible as error:
        limits.impossible(row, error)


@pytest.mark.guest
@pytest.mark.parametrize("architecture", [ARM64.name])
def test_tags_that_cannot_be_read_are_told(architecture: str, tools: Tools, tmp_path: Path) -> None:
    said = _dumped(architecture, tools, tmp_path)
    for method in METHODS:
        whole, refused = said[f"{method}-{WHOLE}"], said[f"{method}-{REFUSED}"]
        assert (whole["status"], whole["result"]["bytes_skipped"]["tags"]) == (0, 0)
        missing = refused["result"]["bytes_skipped"]["tags"]
        assert refused["status"] == INCOMPLETE and missing > 0
        assert f"the tags of {missing} bytes could not be read" in refused["words"]
        assert any(skip["reason"] == "tags" for skip in refused["result"]["skipped"])
        with (
            Core(tmp_path / f"{method}-{WHOLE}") as sound,
            Core(tmp_path / f"{method}-{REFUSED}") as core,
        ):
            found = {difference.path.partition("[")[0] for difference in diff(sound, core)}
            assert "tags" in found and not found & {"header", "phdr", "memory"}
            for segment in core.tags.segments:
                assert not any(core.tags.read(segment.vaddr, segment.filesz * 32))
