# SPDX-License-Identifier: BSD-3-Clause
"""How fast a core is compressed while it is written, beside a program that compresses it later."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
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


def _timed(argv: list[str | Path], to: Path) -> tuple[float, int]:
    """Seconds, and bytes that it wrote."""
    with to.open("wb") as file:
        begin = time.perf_counter()
        subprocess.run(argv, stdout=file, stderr=subprocess.DEVNULL, check=True, timeout=DEADLINE)
        return time.perf_counter() - begin, file.seek(0, 2)


def _row(name: str, dump: list[str | Path], plain: Path, packed: Path, rounds: int) -> list[str]:
    ours, theirs = [], []
    size = {}
    for _ in range(rounds):
        took, size["ours"] = _timed([*dump, "--compress", name], packed)
        ours.append(took)
        took, size["theirs"] = _timed([*PAIRS[name], plain], packed)
        theirs.append(took)
    whole = plain.stat().st_size
    fast, other = statistics.median(ours), statistics.median(theirs)
    return [
        f"`--compress {name}`",
        f"{whole / fast / 2**20:.0f} MiB/s, {size['ours'] / whole:.3f}",
        f"`{' '.join(PAIRS[name])}`",
        f"{whole / other / 2**20:.0f} MiB/s, {size['theirs'] / whole:.3f}",
        f"{other / fast:.2f}",
    ]


def table_of(build: Path, directory: Path, mebibytes: int, rounds: int) -> str:
    """A row for each way to compress."""
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
        rows = [_row(name, dump, plain, packed, rounds) for name in PAIRS]
        subject.communicate()
    head = ["a dump", "speed, size", "a program on the same core", "speed, size", "ratio of speeds"]
    return table(head, rows)
