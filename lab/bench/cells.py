# SPDX-License-Identifier: BSD-3-Clause
"""What is measured of dumps: series of processes, and by whom each is dumped.

Not every size by every rate by every way: a whole run is to end within 25 minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

FORK, STOP, PRECOPY, GCORE, KERNEL = "fork", "stop", "precopy", "gcore", "kernel"
OURS = (FORK, STOP, PRECOPY)
BESIDE = (*OURS, GCORE)
ALL = (*BESIDE, KERNEL)

THREADS = 50
RATE = 200
"""MB/s that are written to, where something is."""
REST = -1
"""The rate of a process whose main thread sleeps, where at rate 0 it looks at the clock."""
RATES = (0, 10, 100, 200, 500, 1000)
UNIT = 1024
"""MiB of the process whose memory does not vary."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A process, and the ways to dump it. ``rate`` is in MB/s, of 10⁶ bytes."""

    threads: int = THREADS
    mebibytes: int
    rate: int = 0
    huge: bool = False
    ways: tuple[str, ...] = OURS


def _part(unit: int, part: float) -> int:
    return max(int(unit * part), 1)


def _sizes(unit: int) -> list[Cell]:
    idle = {1 / 4: ALL, 1 / 2: OURS, 1: ALL, 2: BESIDE, 4: OURS, 8: OURS}
    cells = []
    for part, ways in idle.items():
        size = _part(unit, part)
        cells += [
            Cell(mebibytes=size, ways=ways),
            Cell(mebibytes=size, rate=RATE, ways=BESIDE if part == 1 else (FORK, PRECOPY)),
        ]
    return cells


def _threads(unit: int) -> list[Cell]:
    ways = {2: BESIDE, 50: BESIDE, 500: OURS, 1000: BESIDE, 5000: OURS}
    size = _part(unit, 1 / 4)
    return [Cell(threads=threads, mebibytes=size, ways=how) for threads, how in ways.items()]


def series(unit: int = UNIT) -> dict[str, list[Cell]]:
    """By the name of a part of the benchmark; ``unit`` is in MiB."""
    return {
        "sizes": _sizes(unit),
        "resting": [
            Cell(mebibytes=_part(unit, part), rate=REST, ways=BESIDE) for part in (1 / 4, 1)
        ],
        "rates": [Cell(mebibytes=unit, rate=rate) for rate in RATES],
        "threads": _threads(unit),
        "huge": [Cell(mebibytes=unit, rate=rate, huge=True) for rate in (0, RATE)],
    }
