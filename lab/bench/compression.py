# SPDX-License-Identifier: BSD-3-Clause
"""How fast a core is compressed while it is written, beside a program that compresses it later."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.measured import table

DEADLINE = 600.0
# What we are asked for, and who does the same to a file. gzip and lz4 use one processor.
PAIRS = {
    "zstd:3": ["zstd", "-3", "-T0", "-q", "-c"],
    "lz4:1": ["lz4", "-1", "-q", "-c"],
    "gzip:6": ["gzip", "-6", "-c"],
}

# A process that holds what processes hold: code, tables, text; and waits.
_SUBJECT = """
import os, sys
size, held = int(sys.argv[1]) << 20, []
for top, _, names in os.walk("/usr/lib"):
    for name in sorted(names):
        path = os.path.join(top, name)
        if size > 0 and os.path.isfile(path) and not os.path.islink(path):
            held.append(open(path, "rb").read(size))
            size -= len(held[-1])
print("ready", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Compressed:
    """A core that was compressed while it was written, and a program that did it later: seconds and
    bytes; ``whole`` bytes are compressed."""

    name: str
    whole: int
    ours: float
    our_size: int
    theirs: float
    their_size: int


def _timed(argv: list[str | Path], to: Path) -> tuple[float, int]:
    """Seconds, and bytes that it wrote."""
    with to.open("wb") as file:
        begin = time.perf_counter()
        subprocess.run(argv, stdout=file, stderr=subprocess.DEVNULL, check=True, timeout=DEADLINE)
        return time.perf_counter() - begin, file.seek(0, 2)


def _compressed(
    name: str, dump: list[str | Path], plain: Path, packed: Path, rounds: int
) -> Iterator[Compressed]:
    for _ in range(rounds):
        ours = _timed([*dump, "--compress", name], packed)
        theirs = _timed([*PAIRS[name], plain], packed)
        yield Compressed(name, plain.stat().st_size, *ours, *theirs)


def measure(build: Path, directory: Path, mebibytes: int, rounds: int) -> list[Compressed]:
    """So many rounds of each way to compress."""
    plain, packed = directory / "core", directory / "packed"
    with subprocess.Popen(
        [sys.executable, "-c", _SUBJECT, str(mebibytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as subject:
        assert subject.stdout is not None
        assert subject.stdout.readline() == b"ready\n"
        dump: list[str | Path] = [build / "coresnap-dump", "-q", "-o", "-", str(subject.pid)]
        _timed(dump, plain)
        found = [one for name in PAIRS for one in _compressed(name, dump, plain, packed, rounds)]
        subject.communicate()
    plain.unlink()
    packed.unlink()
    return found


def table_of(found: list[Compressed]) -> str:
    """A row for each way to compress."""
    rows = []
    for name in dict.fromkeys(one.name for one in found):
        those = [one for one in found if one.name == name]
        whole = those[0].whole
        ours, theirs = (
            statistics.median(getattr(one, which) for one in those) for which in ("ours", "theirs")
        )
        rows.append(
            [
                f"`--compress {name}`",
                f"{whole / ours / 2**20:.0f} MiB/s, {those[-1].our_size / whole:.3f}",
                f"`{' '.join(PAIRS[name])}`",
                f"{whole / theirs / 2**20:.0f} MiB/s, {those[-1].their_size / whole:.3f}",
                f"{theirs / ours:.2f}",
            ]
        )
    head = ["a dump", "speed, size", "a program on the same core", "speed, size", "ratio of speeds"]
    return table(head, rows)
