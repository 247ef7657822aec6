# SPDX-License-Identifier: BSD-3-Clause
"""What a dump takes and how its process feels it: our methods, gdb's gcore, the kernel's own."""

from __future__ import annotations

import json
import re
import resource
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from lab.bench.cells import GCORE, KERNEL, OURS, REST, Cell
from lab.host import build
from lab.inside import livefile
from lab.inside.livepause import ask
from lab.inside.system import why_no_core
from lab.measured import spread, table

BARE_FORK, PLAIN_WRITE = "bare fork", "plain write"
HERE = Path(__file__).resolve().parent
DEADLINE = 900.0
LEAST_ROUNDS = 3
LONG = 45.0
"""Seconds after which a cell has no more rounds than those."""
TOO_LONG = 180.0
"""Seconds after which it has not even those: a slow disk must not make an hour of a run."""
UNDISTURBED = 0.25
"""Seconds in which it is seen what the process does when nobody dumps it."""
EVER = 10**15  # ns
_PIECE = bytes(1 << 20)
_UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """One dump, or what it is compared with. Times in ns, memory in bytes, 0 for what is not known.

    ``pause`` is the result's, ``felt`` the longest that the thread that looks did not get on,
    ``waited`` the longest that mmap() or munmap() took; ``memory`` is the most that the dumper had
    resident, ``copied`` what it read in the pause. ``worked`` is how much got done a second, as a
    part of what was before; ``tracked`` the same while writes were tracked; ``paced`` the MB/s that
    were written to.

    A bare fork is one that the process itself made (``felt``), a plain write one of as many bytes
    as a core of it has (``wall``).
    """

    way: str
    threads: int
    mebibytes: int
    rate: int
    huge: bool
    round: int
    pause: int = 0
    felt: int = 0
    waited: int = 0
    wall: int = 0
    size: int = 0
    memory: int = 0
    copied: int = 0
    worked: float = 0.0
    tracked: float = 0.0
    paced: float = 0.0

    @property
    def stood(self) -> int:
        """How long the process stood still: as the dumper says, or else as a thread felt it."""
        return self.pause or self.felt


def said_rate(rate: int) -> str:
    """What the program does, in words."""
    return "resting" if rate == REST else f"{rate} MB/s"


@dataclass
class Found:
    """Of a series of cells: what was taken, and what could not be, with the reason."""

    taken: list[Taken] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class NotMeasured(Exception):
    """This way does not go here; the text says why."""


@dataclass(frozen=True)
class Tools:
    """The programs of a benchmark."""

    dump: Path
    gaps: Path
    spent: Path

    @classmethod
    def built(cls, dump: Path, directory: Path) -> Tools:
        """Compile those that are the lab's own."""
        spent = build.compile_program(HERE / "spent.c", directory, static=True)
        return cls(dump, build.helper("gaps", directory), spent)

    def run(self, argv: Sequence[str | Path]) -> tuple[str, dict[str, int]]:
        """What the program printed; ns until its end, and its memory."""
        done = subprocess.run([self.spent, *argv], capture_output=True, text=True, timeout=DEADLINE)
        if done.returncode:
            said = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
            raise NotMeasured(f"{Path(argv[0]).name}: {said}")
        *lines, spent = done.stdout.splitlines()
        wall, kibibytes = map(int, spent.split())
        return "\n".join(lines), {"wall": wall, "memory": kibibytes * 1024}


def _write(to: Path, size: int) -> dict[str, Any]:
    """A plain write of so many bytes."""
    begin = time.perf_counter_ns()
    with to.open("wb", buffering=0) as file:
        for left in range(size, 0, -len(_PIECE)):
            file.write(_PIECE[:left])
    took = time.perf_counter_ns() - begin
    to.unlink()
    return {"wall": took, "size": size}


class Subject:
    """A process of gaps.c, and what it does while nobody dumps it."""

    def __init__(self, process: subprocess.Popen[bytes], tools: Tools) -> None:
        self.process = process
        self.pid = process.pid
        self._tools = tools
        ask(process, b"r")
        time.sleep(UNDISTURBED)  # what is measured is what it does meanwhile
        time_, looks, _ = ask(process, b"a%d" % EVER)
        self._looks = looks / time_

    def _ours(self, way: str, core: Path) -> dict[str, Any]:
        options = ("--json", "-m", way, "-o", core)
        said, spent = self._tools.run([self._tools.dump, *options, str(self.pid)])
        told = json.loads(said)
        ahead = told["phase_ns"]["ahead"]
        time_, looks, _ = ask(self.process, b"a%d" % ahead) if ahead else (0, 0, 0)
        # That it begins some ms later hardly counts. With little memory it is shorter than a tick.
        tracked = looks / time_ / self._looks if time_ else 0.0
        paused = {"pause": told["pause_ns"], "copied": told["pause_bytes"]}
        return {**spent, **paused, "tracked": tracked}

    def _gcore(self, core: Path) -> dict[str, Any]:
        _, spent = self._tools.run(["gcore", "-o", core, str(self.pid)])
        core.with_name(f"{core.name}.{self.pid}").rename(core)
        return spent

    def dump(self, way: str, core: Path) -> dict[str, Any]:
        """Members of Taken. Raises NotMeasured."""
        ask(self.process, b"r")
        spent = self._gcore(core) if way == GCORE else self._ours(way, core)
        time_, looks, pages = ask(self.process, b"a%d" % spent["wall"])
        felt, waited, *_ = ask(self.process, b"m")
        return {
            **spent,
            "felt": felt,
            "waited": waited,
            "worked": looks / time_ / self._looks if time_ else 0.0,
            "paced": pages * 4096e3 / time_ if time_ else 0.0,
            "size": core.stat().st_size,
        }

    def fork(self) -> dict[str, Any]:
        """By itself, of a child that ends at once; the first one warms up."""
        ask(self.process, b"f")
        return {"felt": ask(self.process, b"f")[0]}

    def die(self, core: Path) -> dict[str, Any]:
        """The kernel dumps it. It needs no memory of its own to speak of."""
        begin = time.perf_counter_ns()
        self.process.send_signal(signal.SIGABRT)
        self.process.wait(timeout=DEADLINE)
        took = time.perf_counter_ns() - begin
        (made,) = core.parent.glob("core*")
        made.rename(core)
        return {"felt": took, "wall": took, "size": core.stat().st_size}

    def is_huge(self) -> bool:
        """Is half of its memory, or more, in huge pages?"""
        told = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        kibibytes = dict(re.findall(r"^(\w+):\s+(\d+)", told, re.MULTILINE))
        return int(kibibytes["AnonHugePages"]) * 2 >= int(kibibytes["Anonymous"])


class Measurement:
    """The rounds of a cell."""

    def __init__(self, cell: Cell, tools: Tools, directory: Path, found: Found) -> None:
        self._cell = cell
        self._tools = tools
        self._directory = directory
        self._core = directory / "the.core"
        self._found = found
        self._ways = list(cell.ways)
        if KERNEL in self._ways and (why := why_no_core()):
            self._miss(KERNEL, why)

    def _miss(self, way: str, why: str) -> None:
        cell = self._cell
        pages = "huge pages" if cell.huge else "4 KiB pages"
        what = f"{cell.mebibytes} MiB in {pages}, {cell.threads} threads, {said_rate(cell.rate)}"
        self._found.missing.append(f"{way} of {what}: {why}")
        self._ways.remove(way)

    def _take(self, way: str, round_: int, measured: Callable[[], dict[str, Any]]) -> None:
        cell = self._cell
        try:
            taken = Taken(
                way=way,
                threads=cell.threads,
                mebibytes=cell.mebibytes,
                rate=cell.rate,
                huge=cell.huge,
                round=round_,
                **measured(),
            )
        except NotMeasured as error:
            self._miss(way, str(error))
        else:
            self._found.taken.append(taken)
        finally:
            self._core.unlink(missing_ok=True)

    def _subjects(self, ways: list[str]) -> Iterator[tuple[Subject, list[str]]]:
        """Who is dumped by whom. Dumps split huge pages, so that each gets a process of its own."""
        cell = self._cell
        argv = (
            *(str(self._tools.gaps), str(cell.threads), str(cell.mebibytes)),
            *("huge" if cell.huge else "small", str(cell.rate)),
        )
        for some in [[way] for way in ways] if cell.huge else [ways]:
            with livefile.subject(self._directory, core=_UNLIMITED, argv=argv) as process:
                subject = Subject(process, self._tools)
                if cell.huge and not subject.is_huge():
                    for way in ways:
                        self._miss(way, "it gets no huge pages, see transparent_hugepage/enabled")
                    return
                yield subject, some

    def round(self, number: int) -> None:
        """Each way once, another one first each time; the one of which the process dies last."""
        alive = [way for way in self._ways if way != KERNEL]
        first = number % len(alive) if alive else 0
        for subject, ways in self._subjects(alive[first:] + alive[:first]):
            for way in ways:
                self._take(way, number, partial(subject.dump, way, self._core))
            self._take(BARE_FORK, number, subject.fork)
            if KERNEL in self._ways:
                self._take(KERNEL, number, partial(subject.die, self._core))
        # What is judged by it is beside gcore as well; more would take too long.
        if GCORE in self._ways and self._cell.rate in (0, REST):
            size = self._cell.mebibytes << 20
            self._take(PLAIN_WRITE, number, partial(_write, self._directory / "plain", size))


def measure(cells: Sequence[Cell], dump: Path, directory: Path, rounds: int) -> Found:
    """Each way for each cell, by turns; fewer rounds of what takes long."""
    tools = Tools.built(dump, directory)
    found = Found()
    for cell in cells:
        measurement = Measurement(cell, tools, directory, found)
        begin = time.monotonic()
        for number in range(rounds):
            enough = LONG if number >= LEAST_ROUNDS else TOO_LONG
            if time.monotonic() - begin > enough:
                break
            measurement.round(number)
    return found


Key = tuple[int, int, int, bool, str]


def grouped(taken: Sequence[Taken]) -> dict[Key, list[Taken]]:
    """By threads, memory, rate, pages and way, in the order of their cells."""
    found: dict[Key, list[Taken]] = {}
    for one in taken:
        key = (one.threads, one.mebibytes, one.rate, one.huge, one.way)
        found.setdefault(key, []).append(one)
    return found


_ORDER = (*OURS, GCORE, KERNEL, BARE_FORK, PLAIN_WRITE)


def _times(those: list[Taken], which: str) -> str:
    times = [getattr(one, which) for one in those]
    return spread(times) if any(times) else ""


def _part(those: list[Taken], which: str, digits: int = 2) -> str:
    value = statistics.median(getattr(one, which) for one in those)
    return f"{value:.{digits}f}" if value else ""


def table_of(found: Found) -> str:
    """A row for each cell and way, and a line for each that could not be measured."""
    rows = []
    cells: dict[tuple[int, int, int, bool], dict[str, list[Taken]]] = {}
    for (*cell, way), those in grouped(found.taken).items():
        cells.setdefault(tuple(cell), {})[way] = those  # type: ignore[arg-type]
    for (threads, mebibytes, rate, huge), ways in cells.items():
        for way in sorted(ways, key=_ORDER.index):
            those = ways[way]
            memory = max(one.memory for one in those) / 2**20
            rows.append(
                [
                    f"{mebibytes} MiB{', huge pages' if huge else ''}",
                    str(threads),
                    "rests" if rate == REST else str(rate),
                    way,
                    *(_times(those, which) for which in ("pause", "felt", "wall")),
                    f"{memory:.0f} MiB" if memory else "",
                    _part(those, "worked"),
                    _part(those, "tracked"),
                    _part(those, "paced", 0) if rate > 0 else "",
                    _times(those, "waited"),
                    str(len(those)),
                ]
            )
    head = ["memory", "threads", "MB/s", "dump", "pause: ms", "felt by a thread: ms",
            "all of it: ms", "dumper's memory", "work done meanwhile", "while tracked",
            "MB/s kept up", "longest mmap: ms", "rounds"]  # fmt: skip
    lines = [table(head, rows)] if rows else []
    lines += [f"Not measured: {why}." for why in found.missing]
    return "\n\n".join(lines)


_DEFAULTS = {each.name: each.default for each in fields(Taken)}


def to_json(found: Found) -> dict[str, Any]:
    """For docs/results; what is not known is left out."""
    taken = [
        {name: value for name, value in asdict(one).items() if value != _DEFAULTS[name]}
        for one in found.taken
    ]
    return {"taken": taken, "missing": found.missing}


def from_json(told: dict[str, Any]) -> Found:
    """What to_json() made it of."""
    return Found([Taken(**one) for one in told["taken"]], list(told["missing"]))
