# SPDX-License-Identifier: BSD-3-Clause
"""Measures what dumps do to the processes they are made of, and writes it into docs/pausing.md.

    CORESNAP_DUMP=…/coresnap-dump python -m lab.pausing.measure [--rounds N] [--write]

Without --write the tables go to standard output. Needs gcc, the right to trace its own children and
about 3 GiB of memory; i686-linux-gnu-gcc for the 32-bit column.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import coresnap
from lab.measured import machine, ms, spread, table, write
from lab.pausing import calls

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent.parent / "docs" / "pausing.md"
DEADLINE = 120.0  # seconds

TIMEOUT = 1_200_000_000  # ns: of the calls that have one
AFTER = 400_000_000  # ns: how long a call has waited when it is disturbed
TWICE = ("nanosleep", "futex-timeout", "poll-timeout", "epoll_wait-timeout")

TRACKS_WRITES = coresnap.Method.PRECOPY in coresnap.doctor().auto
METHODS = ("stop", "fork", *(("precopy",) if TRACKS_WRITES else ()))
# Precopy does to a call what fork does: packages/core/tests/test_interrupted.py.
WAYS = ("Linux itself", "stop", "fork", "stop, strict", "fork, strict")

# Of the kernel's include/linux/errno.h, and EINTR, which programs see.
RESULTS = {
    -4: "EINTR",
    -512: "ERESTARTSYS",
    -513: "ERESTARTNOINTR",
    -514: "ERESTARTNOHAND",
    -516: "ERESTART_RESTARTBLOCK",
}


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The programs that are used, all built or found beforehand."""

    dumper: Path
    stop_once: Path
    load: Path
    calls: dict[int, Path]  # by bits


def build(directory: Path, dumper: Path) -> Tools:
    """Compile the programs of this directory."""
    for name in ("stop_once", "load"):
        argv: list[str | Path] = ["gcc", *calls.CFLAGS, "-pthread", HERE / f"{name}.c"]
        argv += ["-o", directory / name]
        subprocess.run(argv, check=True, timeout=DEADLINE)
    programs = {64: calls.build(directory, bits=64)}
    try:
        programs[32] = calls.build(directory, bits=32)
    except calls.Unsupported as error:
        print(f"no 32-bit programs: {error}", file=sys.stderr)
    return Tools(
        dumper=dumper,
        stop_once=directory / "stop_once",
        load=directory / "load",
        calls=programs,
    )


class DumpFailed(Exception):
    """coresnap-dump wrote no core; the text is what it said."""


def dump(dumper: Path, pid: int, method: str, *options: str) -> dict[str, Any]:
    """Dump a process to nowhere and return what --json says."""
    argv: list[str | Path] = [dumper, "-m", method, *options, "--json", "-o", "-", str(pid)]
    with open(os.devnull, "wb") as nowhere:
        done = subprocess.run(
            argv, stdout=nowhere, stderr=subprocess.PIPE, timeout=DEADLINE, text=True
        )
    if done.returncode:
        raise DumpFailed(done.stderr.strip())
    result: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return result


# The table of calls


@dataclass
class Row:
    """What was seen of one call: the results at a stop, and the verdicts by way."""

    at_stop: set[int]
    verdicts: dict[str, set[str]]


class CallTable:
    """Runs every call in every way, several at a time."""

    def __init__(self, tools: Tools, *, bits: int, rounds: int) -> None:
        self.tools = tools
        self.program = tools.calls[bits]
        self.rounds = rounds
        self.rows: dict[str, Row] = {}
        self.late: list[int] = []  # ns that exact waits took beyond their timeout
        self.undisturbed: list[int] = []  # the same without any stop

    def _disturb(self, way: str, row: Row) -> Callable[[int], object]:
        if way == WAYS[0]:

            def stop(pid: int) -> None:
                argv: list[str | Path] = [self.tools.stop_once, str(pid), "1"]
                done = subprocess.run(argv, check=True, capture_output=True, timeout=DEADLINE)
                row.at_stop.add(int(done.stdout.split()[1]))

            return stop
        method, _, strict = way.partition(", ")
        options = ("--strict-timeouts",) if strict else ()
        return lambda pid: dump(self.tools.dumper, pid, method, *options)

    def _run(self, name: str, way: str | None, timed: bool, times: int) -> None:
        row = self.rows[name]
        try:
            outcome = calls.run(
                self.program,
                name.removesuffix(", twice"),
                timeout=TIMEOUT if timed else None,
                disturb=self._disturb(way, row) if way else None,
                times=times,
                after=AFTER if timed else 0,
            )
        except calls.Unsupported as error:
            print(f"{name}: {error}", file=sys.stderr)
            return
        except DumpFailed as error:
            print(f"{name}: {way}: {error}", file=sys.stderr)
            if way:
                row.verdicts[way].add("refused")
            return
        if way is None:
            assert outcome.ok, (name, outcome)
            if timed:
                self.undisturbed.append(outcome.elapsed - TIMEOUT)
            return
        row.verdicts[way].add(outcome.verdict)
        if outcome.verdict == "exact":
            self.late.append(outcome.elapsed - TIMEOUT)

    def measure(self) -> None:
        """Fill rows, late and undisturbed."""
        kinds = calls.list_calls(self.program)
        kinds |= {f"{name}, twice": True for name in TWICE}
        todo: list[Future[None]] = []
        with ThreadPoolExecutor(24) as pool:
            for name, timed in kinds.items():
                self.rows[name] = Row(set(), {way: set() for way in WAYS})
                times = 2 if name.endswith(", twice") else 1
                for way in (None, *WAYS):
                    for _ in range(self.rounds):
                        todo.append(pool.submit(self._run, name, way, timed, times))
        for future in todo:
            future.result()


def words(verdicts: Iterable[str]) -> str:
    """Several verdicts in one cell."""
    return " or ".join(sorted(verdicts)) or "not here"


def call_tables(tools: Tools, rounds: int) -> str:
    """The table of calls of 64-bit processes, and where 32-bit ones differ."""
    parts = []
    first: CallTable | None = None
    for bits in sorted(tools.calls, reverse=True):
        measured = CallTable(tools, bits=bits, rounds=rounds)
        measured.measure()
        if first is None:
            parts.append(call_table(measured.rows))
            first = measured
        else:
            differing = {n: r for n, r in measured.rows.items() if r != first.rows[n]}
            parts.append(
                f"32-bit processes on the same kernel, the same calls: {len(differing)} rows differ"
                + ("." if not differing else ":\n\n" + call_table(differing))
            )
        parts.append(
            f"{bits}-bit: the {len(measured.late)} waits with the verdict *exact* ended "
            f"{spread(measured.late)} ms (median, least, most) after their timeout; "
            f"{len(measured.undisturbed)} waits that nobody interrupted, "
            f"{spread(measured.undisturbed)} ms."
        )
    return "\n\n".join(parts)


def call_table(rows: dict[str, Row]) -> str:
    """One row a call."""
    return table(
        ["call", "result at the stop", *WAYS],
        (
            [
                f"`{name}`",
                words(RESULTS.get(result, str(result)) for result in row.at_stop),
                *(words(row.verdicts[way]) for way in WAYS),
            ]
            for name, row in rows.items()
        ),
    )


# The pause


class Load:
    """A process of some size."""

    def __init__(self, tools: Tools, threads: int, mebibytes: int, pages: str = "small") -> None:
        argv: list[str | Path] = [tools.load, str(threads), str(mebibytes), pages]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._line()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _line(self) -> str:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE)
        assert ready, f"{self.process.args!r} said nothing for {DEADLINE:.0f} s"
        return self.process.stdout.readline().decode()

    def touch(self) -> Touch:
        """Let it write to all of its pages."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return Touch(*map(int, self._line().split()))


@dataclass(frozen=True)
class Touch:
    """One write to each page: how long it took, and what the process knows about itself."""

    took: int  # ns
    faults: int
    children: int  # microseconds of processor time
    huge: int  # KiB


SIZES = ((1, 4), (50, 4), (1000, 4), (1, 256), (50, 256), (1, 1024), (50, 1024))


def pause_table(tools: Tools, rounds: int) -> str:
    """The pause by threads and memory."""
    rows = []
    for threads, mebibytes in SIZES:
        with Load(tools, threads, mebibytes) as load:
            cells = []
            for method in METHODS:
                pauses = [
                    dump(tools.dumper, load.pid, method)["pause_ns"] for _ in range(rounds + 1)
                ]
                cells.append(spread(pauses[1:]))  # the first one warms up the machine
        rows.append([str(threads), f"{mebibytes} MiB", *cells])
    return table(["threads", "memory", *(f"`{method}`: ms" for method in METHODS)], rows)


def estimate_table(tools: Tools, rounds: int) -> str:
    """The pause by what was expected of it."""
    ratios: dict[coresnap.Method, list[float]] = {}
    for threads, mebibytes in SIZES:
        with Load(tools, threads, mebibytes) as load, open(os.devnull, "wb") as nowhere:
            for method in map(coresnap.Method, METHODS):
                for _ in range(rounds):
                    expected = coresnap.estimate(load.pid).pauses[method].expected_ns
                    came = coresnap.dump(load.pid, nowhere, method=method, stop_timeout=60).pause_ns
                    ratios.setdefault(method, []).append(came / expected)
    rows = []
    for method, found in ratios.items():
        cuts = statistics.quantiles(found, n=20)
        chosen = (min(found), cuts[1], cuts[4], cuts[9], cuts[14], cuts[17], max(found))
        rows.append([f"`{method}`", *(f"{value:.2f}" for value in chosen)])
    shown = table(["", "least", "10 %", "25 %", "median", "75 %", "90 %", "most"], rows)
    return f"Measured on {machine()}; {rounds} runs of each cell of the table below.\n\n{shown}"


def _while_copy_lives(tools: Tools, load: Load) -> Touch:
    """Let the process write to its pages while a dump of it by fork is being written."""
    argv: list[str | Path] = [tools.dumper, "-m", "fork", "-q", "-o", "-", str(load.pid)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as dumper:
        assert dumper.stdout is not None
        # The first byte of the core comes after the thaw, and the pipe holds 64 KiB of it.
        ready, _, _ = select.select([dumper.stdout], [], [], DEADLINE)
        assert ready, "the dump did not begin"
        touch = load.touch()
        _drain(dumper.stdout)
    assert dumper.returncode == 0, dumper.returncode
    return touch


def _drain(pipe: IO[bytes]) -> None:
    while pipe.read(1 << 20):
        pass


def effect_table(tools: Tools) -> str:
    """What is left of a dump by fork in the process."""
    rows = []
    for pages in ("small", "huge"):
        with Load(tools, 1, 256, pages) as load:
            before = load.touch()
            during = _while_copy_lives(tools, load)
            after = load.touch()
        for when, touch in (("before", before), ("during the dump", during), ("after", after)):
            rows.append(
                [
                    "4 KiB pages" if pages == "small" else "huge pages",
                    when,
                    ms(touch.took),
                    str(touch.faults),
                    f"{touch.huge // 1024} MiB",
                    ms(touch.children * 1000),
                ]
            )
    head = ["256 MiB of", "write to each page", "took ms", "minor faults", "in huge pages",
            "children's CPU time, ms"]  # fmt: skip
    return table(head, rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each cell (default 5)")
    parser.add_argument("--write", action="store_true", help="into docs/pausing.md")
    arguments = parser.parse_args()
    dumper = os.environ.get("CORESNAP_DUMP")
    if not dumper:
        parser.error("set CORESNAP_DUMP to the program coresnap-dump")
    sections = {"machine": f"{machine()}; {arguments.rounds} runs of each cell."}
    with tempfile.TemporaryDirectory() as directory:
        tools = build(Path(directory), Path(dumper))
        sections["pause"] = pause_table(tools, arguments.rounds)
        sections["estimates"] = estimate_table(tools, arguments.rounds)
        sections["effects"] = effect_table(tools)
        sections["calls"] = call_tables(tools, arguments.rounds)
    if arguments.write:
        write(DOCUMENT, sections)
    else:
        print("\n\n".join(sections.values()))


if __name__ == "__main__":
    main()
