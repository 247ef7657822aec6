# SPDX-License-Identifier: BSD-3-Clause
"""Allocation tags at priorities that were asked for, and such that cannot be had, which is told."""

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
from lab.inside.refused import GENTLE, REFUSED, WHOLE
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


def _differing(sound: Core, core: Core) -> set[str]:
    return {difference.path.partition("[")[0] for difference in diff(sound, core)}


@pytest.mark.guest
@pytest.mark.parametrize("architecture", [ARM64.name])
def test_tags_are_whole_or_what_is_missing_is_told(
    architecture: str, tools: Tools, tmp_path: Path
) -> None:
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
            found = _differing(sound, core)
            assert "tags" in found and not found & {"header", "phdr", "memory"}
            for segment in core.tags.segments:
                assert not any(core.tags.read(segment.vaddr, segment.filesz * 32))
        # Only the thread that stops the process may ask for tags, and what writes is another.
        gentle = said[f"{method}-{GENTLE}"]
        assert (gentle["status"], gentle["result"]["bytes_skipped"]["tags"]) == (0, 0)
        with (
            Core(tmp_path / f"{method}-{WHOLE}") as sound,
            Core(tmp_path / f"{method}-{GENTLE}") as core,
        ):
            assert not _differing(sound, core) & {"tags", "header", "phdr", "memory"}
            segments = core.tags.segments
            assert any(any(core.tags.read(each.vaddr, each.filesz * 32)) for each in segments)
