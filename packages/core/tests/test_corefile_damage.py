# SPDX-License-Identifier: BSD-3-Clause
"""The reader against thousands of damaged cores, in a process with little memory."""

import subprocess
import sys
from pathlib import Path

import damage

from coresnap.corefile import Core
from lab.longform import DAMAGED_CORES
from lab.patience import DEADLINE, PATIENCE

PROGRAM = Path(__file__).parent / "programs" / "read_damaged.py"
EACH = 5 * PATIENCE
"""Seconds for a core. Nearly all take a thousandth of one."""


def read_damaged(first: int, count: int) -> str:
    done = subprocess.run(
        [sys.executable, PROGRAM, str(EACH), str(first), str(count)],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE + count * 0.05 * PATIENCE,
    )
    again = f"again: {sys.executable} {PROGRAM} {EACH} NUMBER"
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{again}"
    return done.stdout


def test_undamaged_ones_are_understood(tmp_path: Path) -> None:
    """What is to be damaged is good: all of its structure is reached."""
    for number, image in enumerate(damage.Workshop().good):
        path = tmp_path / str(number)
        path.write_bytes(image.data)
        with Core(path) as core:
            assert len(core.threads) == 2
            assert core.build_id(0x10000) == bytes(range(20))
            assert len(core.files) == 2
            assert len(core.tags.segments) == (core.arch == "arm64")
            assert core.process_notes[-1].name.startswith("OWN")
            assert (core.header.phnum == 0xFFFF) == bool(number % 2)


def test_packed_ones_are_understood(tmp_path: Path) -> None:
    workshop = damage.Workshop()
    for packer in damage.packers():
        path = tmp_path / "core"
        path.write_bytes(damage.packed(workshop.good[0].data, packer)[0])
        with Core(path) as core:
            assert core.compressed
            assert core.file_size == len(workshop.good[0].data)
            assert core.read(0x21000, 4) == bytes(range(4))


def test_damaged_ones_are_understood_or_refused() -> None:
    """By an error that says why, in bounded memory and time."""
    opened, refused = map(int, read_damaged(0, DAMAGED_CORES).split())
    # Damage that refuses all, or none, would not get anywhere.
    assert opened > DAMAGED_CORES / 5
    assert refused > DAMAGED_CORES / 5
