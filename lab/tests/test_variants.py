# SPDX-License-Identifier: BSD-3-Clause
"""Limited and compressed cores of each architecture are what they should be, and gdb opens them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from coresnap.corefile import Core
from lab.host import guests, verdicts
from lab.host.hold import Tools
from lab.inside.variants import COMPRESSED, LIMIT, LIMITED
from lab.matrix import GUESTS, STOCK, Row, rows

DEADLINE = 120.0


def _row(architecture: str) -> Row:
    name = f"{architecture}/{STOCK}/threads-20/{architecture}"
    return next(row for row in rows() if row.name == name)


def _decompressed(core: Path, program: str) -> Path:
    """What the program makes of it."""
    plain = core.with_suffix(".core")
    with plain.open("wb") as file:
        subprocess.run([program, "-dc", core], stdout=file, check=True, timeout=DEADLINE)
    return plain


@pytest.mark.guest
@pytest.mark.parametrize("architecture", GUESTS)
def test_variants_are_cores(architecture: str, tools: Tools, tmp_path: Path) -> None:
    row = _row(architecture)
    said = guests.dump_variants(row, tools.build, tmp_path)
    program = guests.program(row, tools.build)
    assert set(said) == {*LIMITED, *COMPRESSED}
    assert (tmp_path / "cut").stat().st_size == LIMIT
    # Holes and the padding of notes are free.
    assert said["core-limit"]["result"]["core_size"] >= LIMIT - 4096
    assert (tmp_path / "small-first").stat().st_size <= LIMIT
    for name in LIMITED:
        result = said[name]["result"]
        assert result["core_size"] < result["whole_size"]
        assert result["bytes_skipped"]["limit"] > 0
        _opens_in_gdb(program, tmp_path / name, threads=20)
    for name in COMPRESSED:
        with Core(tmp_path / name) as core:
            assert len(core.threads) == 20
        if shutil.which(name) is not None:
            plain = _decompressed(tmp_path / name, name)
            assert plain.stat().st_size == said[name]["result"]["core_size"]
            _opens_in_gdb(program, plain, threads=20)


def _opens_in_gdb(program: Path, core: Path, *, threads: int) -> None:
    said = verdicts.multiarch(program, core)
    assert said["status"] == "0", said["warnings"]
    frames = [words for what, words in said.items() if what.endswith(" (1)")]
    assert len(frames) == threads and all(words.startswith("#0") for words in frames), frames
