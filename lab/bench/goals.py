# SPDX-License-Identifier: BSD-3-Clause
"""What is asked of dumps, and whether it was reached."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lab.bench.cells import FORK, GCORE, PRECOPY, RATE, REST, STOP, THREADS, UNIT
from lab.bench.dumps import BARE_FORK, PLAIN_WRITE, Found, Taken, said_rate
from lab.measured import table

MS = 1e6
MIB = 2**20


@dataclass(frozen=True)
class Goal:
    """``measured`` is None if it was not. ``unit`` stands behind both numbers."""

    what: str
    asked: float
    measured: float | None
    unit: str = ""
    at_least: bool = False
    where: str = ""

    @property
    def verdict(self) -> str:
        """One word."""
        if self.measured is None:
            return "not measured"
        reached = self.measured >= self.asked if self.at_least else self.measured <= self.asked
        return "reached" if reached else "missed"

    def row(self) -> list[str]:
        """Of the table."""
        sign = "≥" if self.at_least else "≤"
        where = f" ({self.where})" if self.where else ""
        measured = "" if self.measured is None else f"{_digits(self.measured)}{self.unit}{where}"
        return [self.what, f"{sign} {self.asked:g}{self.unit}", measured, self.verdict]


def _digits(value: float) -> str:
    """Three, or all before the point."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _told(cell: Taken) -> str:
    huge = ", huge pages" if cell.huge else ""
    return f"{cell.mebibytes} MiB{huge}, {cell.threads} threads, {said_rate(cell.rate)}"


class Cell:
    """What was taken of one process size, in one series."""

    def __init__(self, found: Found | None, threads: int, mebibytes: int, rate: int = 0) -> None:
        taken = found.taken if found else []
        self._taken = [
            one
            for one in taken
            if (one.threads, one.mebibytes, one.rate, one.huge) == (threads, mebibytes, rate, False)
        ]

    def median(self, way: str, value: Callable[[Taken], float]) -> float | None:
        """Of all rounds."""
        values = [value(one) for one in self._taken if one.way == way]
        return statistics.median(values) if values else None

    def ratio(self, way: str, other: str, value: Callable[[Taken], float]) -> float | None:
        """The median of one way's by another's in the same round."""
        mine, others = (
            {one.round: value(one) for one in self._taken if one.way == each}
            for each in (way, other)
        )
        ratios = [mine[at] / others[at] for at in mine if others.get(at)]
        return statistics.median(ratios) if ratios else None


def _pauses(sizes: Found | None) -> Iterable[Goal]:
    for mebibytes, asked in ((UNIT, 3), (8 * UNIT, 6)):
        for rate in (0, RATE):
            pause = Cell(sizes, THREADS, mebibytes, rate).median(PRECOPY, lambda one: one.pause)
            yield Goal(
                f"pause of precopy, {mebibytes // 1024} GiB, {THREADS} threads, {rate} MB/s",
                asked,
                None if pause is None else pause / MS,
                " ms",
            )


def _walls(sizes: Found | None, resting: Found | None) -> Iterable[Goal]:
    def wall(one: Taken) -> float:
        return one.wall

    def duration(one: Taken) -> float:
        return one.wall / one.size

    for mebibytes, rate in ((UNIT, 0), (UNIT, RATE), (8 * UNIT, 0)):
        cell = Cell(sizes, THREADS, mebibytes, rate)
        what = f"all of precopy / all of stop, {mebibytes // 1024} GiB, {rate} MB/s"
        yield Goal(what, 1.3, cell.ratio(PRECOPY, STOP, wall))
    busy, rests = Cell(sizes, THREADS, UNIT), Cell(resting, THREADS, UNIT, REST)
    for cell, what in (busy, "1 GiB"), (rests, "1 GiB at rest"):
        for way in (FORK, STOP, PRECOPY):
            yield Goal(f"all of {way} / all of gcore, {what}", 1, cell.ratio(way, GCORE, wall))
        for way in (FORK, STOP, PRECOPY):
            speed = cell.ratio(PLAIN_WRITE, way, duration)
            yield Goal(f"speed of {way} / of a plain write, {what}", 0.9, speed, at_least=True)


def _forks(series: Iterable[Found | None]) -> Goal:
    """The felt by what is allowed, 1.3 forks and 40 µs for each thread, where that is largest."""
    found = []
    for one in series:
        for place in {(each.threads, each.mebibytes) for each in _of(one)}:
            cell = Cell(one, *place)
            felt, bare = (cell.median(way, lambda each: each.felt) for way in (FORK, BARE_FORK))
            if felt and bare:
                where = f"{place[1]} MiB, {place[0]} threads"
                found.append((felt / (1.3 * bare + 40_000 * place[0]), where))
    ratio, where = max(found, default=(None, ""))
    return Goal("felt of fork / 1.3 bare forks and 40 µs a thread", 1, ratio, where=where)


def _of(found: Found | None) -> Sequence[Taken]:
    return found.taken if found else ()


def _longest_wait(series: Iterable[Found | None]) -> Goal:
    found = []
    for one in series:
        cells: dict[str, list[int]] = {}
        for taken in _of(one):
            if taken.way == PRECOPY:
                cells.setdefault(_told(taken), []).append(taken.waited)
        found += [(statistics.median(waits) / MS, where) for where, waits in cells.items()]
    longest, where = max(found, default=(None, ""))
    return Goal("longest mmap or munmap while precopied", 10, longest, " ms", where=where)


def _memory(sizes: Found | None) -> Iterable[Goal]:
    for way, asked, mebibytes, rate in (
        (FORK, 32, UNIT, 0),
        (STOP, 32, UNIT, 0),
        (PRECOPY, 64, UNIT, 0),
        (PRECOPY, 64, UNIT, RATE),
        (PRECOPY, 64, 8 * UNIT, 0),
        (PRECOPY, 64, 8 * UNIT, RATE),
    ):
        but = " but for what the pause copied" if way == PRECOPY else ""
        cell = Cell(sizes, THREADS, mebibytes, rate)
        memory = cell.median(
            way, lambda one: one.memory - (one.copied if one.way == PRECOPY else 0)
        )
        yield Goal(
            f"memory of the dumper{but}, {way}, {mebibytes // 1024} GiB, {rate} MB/s",
            asked,
            None if memory is None else memory / MIB,
            " MiB",
        )


def goals(series: dict[str, Found], redis: float | None) -> list[Goal]:
    """All of them, by what was measured of each series, and what redis served while dumped."""
    sizes, threads = series.get("sizes"), series.get("threads")
    gcore = Cell(sizes, THREADS, UNIT).ratio(GCORE, PRECOPY, lambda one: one.felt)
    many = Cell(threads, 1000, UNIT // 4).median(PRECOPY, lambda one: one.pause)
    return [
        *_pauses(sizes),
        Goal("felt by gcore / felt by precopy, 1 GiB", 200, gcore, at_least=True),
        Goal("pause of precopy, 1000 threads", 25, None if many is None else many / MS, " ms"),
        _longest_wait(series.values()),
        *_walls(sizes, series.get("resting")),
        Goal("what redis serves while precopied / undisturbed", 0.85, redis, at_least=True),
        _forks((sizes, threads)),
        *_memory(sizes),
    ]


def table_of(all_: list[Goal]) -> str:
    """A row for each."""
    return table(["goal", "asked", "measured", ""], [goal.row() for goal in all_])
