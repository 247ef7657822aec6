# SPDX-License-Identifier: BSD-3-Clause
"""The trial of a server: dumps while its clients are at work, who must not notice."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import coresnap
from lab.longform import REAL_DUMPS, REAL_ROUNDS, REAL_SECONDS
from lab.patience import DEADLINE

from .loads import Load, Served
from .scene import Program, Scene

ROUNDS = 30
"""Runs of a load by each method at most, on a machine on which few dumps go into one."""
LONGEST = 16
"""Seconds of a run at most, on one on which not even one dump goes into it."""
CHUNK = 1 << 24
COPY = "coresnap-copy"
WATCH = "anon_inode:[userfaultfd]"
METHODS = (coresnap.Method.FORK, coresnap.Method.STOP, coresnap.Method.PRECOPY)

Record = Callable[[str, object], None]


@dataclass(frozen=True)
class Server:
    """A program under load, and who is dumped in turn (asked anew each time)."""

    name: str
    program: Program
    load: Load
    targets: Callable[[], Sequence[int]]


@dataclass
class Tally:
    """What a method did to a server, and what its clients got meanwhile, and just before."""

    served: list[Served] = field(default_factory=list)
    quiet: list[Served] = field(default_factory=list)
    run: int = REAL_SECONDS
    seconds: float = 0.0
    methods: Counter[str] = field(default_factory=Counter)
    pauses_ns: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def is_short(self) -> bool:
        """Is there to be another run?"""
        return len(self.served) < REAL_ROUNDS or len(self.pauses_ns) < REAL_DUMPS


class Client:
    """One run of a load."""

    def __init__(self, load: Load, seconds: int, cwd: Path) -> None:
        self._load = load
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *load.command(seconds)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
        )
        self._seconds = seconds

    def is_at_work(self) -> bool:
        """Has it not ended?"""
        return self.process.poll() is None

    def finish(self) -> Served:
        """Wait for its end, which must be a good one."""
        try:
            said, complaint = self.process.communicate(timeout=self._seconds + 4 * DEADLINE)
        finally:
            self.process.kill()
            self.process.wait(DEADLINE)
        assert self.process.returncode == 0 and complaint == "", (
            f"the client ended with {self.process.returncode}: {complaint}{said}"
        )
        return self._load.read(said)


def _dump_during(
    client: Client,
    pids: Iterable[int],
    method: coresnap.Method,
    core: Path,
    tally: Tally,
    nice: int | None,
) -> None:
    """Dump one process after the other until the client has ended; later dumps do not count."""
    for pid in pids:
        if not client.is_at_work():
            return
        try:
            result = coresnap.dump(pid, core, method=method, force=True, nice=nice)
        except (coresnap.NoProcess, coresnap.TargetGone):
            # One that serves a single client ends with it, and at no other time.
            client.process.wait(DEADLINE / 10)
            return
        assert result.method is method or method is coresnap.Method.AUTO
        if client.is_at_work():
            tally.methods[str(result.method)] += 1
            tally.pauses_ns.append(result.pause_ns)
            tally.sizes.append(core.stat().st_blocks * 512)


def _in_turn(targets: Callable[[], Sequence[int]]) -> Iterable[int]:
    for turn in itertools.count():
        found = targets()
        assert found, "there is nobody to dump"
        yield found[turn % len(found)]


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in listed for child in each.read_text().split()]


def children(pid: int) -> list[int]:
    """The children of a process with one thread, without the copy of a dump that just ended."""
    return [child for child in _children(pid) if _name(child) != COPY]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _descriptors(pid: int) -> Iterable[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed
            yield str(link.readlink())


def _is_undisturbed(pid: int) -> bool:
    """No tracer, no stop, no copy, nothing that watches its memory; so is a process that ended with
    the client whom it served."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        watched = WATCH in _descriptors(pid)
    except (FileNotFoundError, ProcessLookupError):
        return True
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    return (
        fields["TracerPid"] == "0"
        and fields["State"][0] in "RSD"
        and COPY not in map(_name, _children(pid))
        and not watched
    )


def _check_undisturbed(server: Server) -> None:
    """Wait until all are: the helper that reaps a copy ends soon after it."""
    end = time.monotonic() + DEADLINE
    while not all(map(_is_undisturbed, {server.program.pid, *server.targets()})):
        assert time.monotonic() < end, f"{server.name}: a dump left something behind"


def run_dumped(
    server: Server,
    method: coresnap.Method,
    scene: Scene,
    tally: Tally,
    *,
    seconds: int = REAL_SECONDS,
    nice: int | None = None,
) -> None:
    """One run of the load, with dumps."""
    begin = time.monotonic()
    client = Client(server.load, seconds, scene.directory)
    try:
        _dump_during(client, _in_turn(server.targets), method, scene.core, tally, nice)
    finally:
        served = client.finish()
    tally.seconds += time.monotonic() - begin
    tally.served.append(served)
    assert server.program.process.poll() is None, f"{server.name} ended: {server.program.said}"
    _check_undisturbed(server)


def _figures(server: Server, tally: Tally) -> dict[str, str]:
    quiet = tally.quiet
    ratio = median(a.rate / b.rate for a, b in zip(quiet, tally.served, strict=True))
    return {
        "program": server.name,
        "dumps": ", ".join(f"{n} by {method}" for method, n in sorted(tally.methods.items())),
        "a second": f"{len(tally.pauses_ns) / tally.seconds:.1f}",
        "core: MiB on disk": f"{max(tally.sizes) / 2**20:.0f}",
        "pause: ms": f"{median(tally.pauses_ns) / 1e6:.1f}",
        "longest": f"{max(tally.pauses_ns) / 1e6:.1f}",
        "slowest answer: ms": _slowest(tally.served),
        "slowest undisturbed": _slowest(quiet),
        "requests/s": f"{median(served.rate for served in tally.served):.0f}",
        "requests/s undisturbed": f"{median(served.rate for served in quiet):.0f}",
        "ratio": f"{ratio:.2f}",
    }


def _slowest(runs: list[Served]) -> str:
    told = [served.slowest_ms for served in runs if served.slowest_ms is not None]
    return f"{max(told):.0f}" if told else "not told"


def impossible() -> dict[coresnap.Method, str]:
    """The method that a kernel may not have, and why. A server that is refused by it fails."""
    checks = coresnap.doctor(os.getpid()).methods
    return {
        check.method: check.error.what
        for check in checks
        if check.error is not None and check.method is coresnap.Method.PRECOPY
    }


def survive(server: Server, scene: Scene, record: Record, check: Callable[[Path], None]) -> None:
    """Let the server's clients work undisturbed and while it is dumped by each method, in turn.

    ``check`` looks into one core of each. The loss of throughput is recorded, never judged:
    what else the machine does is in it. So is why there are no dumps by a method.
    """
    missing = impossible()
    for method, why in missing.items():
        record("figures", json.dumps({"program": server.name, "not by": method, "why": why}))
    tallies = {method: Tally() for method in METHODS if method not in missing}
    while short := {method: tally for method, tally in tallies.items() if tally.is_short()}:
        seconds = max(tally.run for tally in short.values())
        quiet = Client(server.load, seconds, scene.directory).finish()
        for method, tally in short.items():
            assert len(tally.served) < ROUNDS, f"{server.name}: too few dumps by {method}"
            tally.quiet.append(quiet)
            _run_checked(server, method, scene, tally, check)
    for tally in tallies.values():
        record("figures", json.dumps(_figures(server, tally)))


def _run_checked(
    server: Server,
    method: coresnap.Method,
    scene: Scene,
    tally: Tally,
    check: Callable[[Path], None],
) -> None:
    """One run of the load, longer than the last one if no dump went into that."""
    before = len(tally.pauses_ns)
    run_dumped(server, method, scene, tally, seconds=tally.run)
    if len(tally.pauses_ns) == before:
        tally.run = min(2 * tally.run, LONGEST)
    elif before == 0:
        check(scene.core)


def find(core: Path, *wanted: bytes) -> None:
    """See that the memory in a core has each of some bytes, by the reader of the Python package."""
    missing = set(wanted)
    overlap = max(map(len, wanted)) - 1
    with coresnap.Core(core) as file:
        for start, end in file.memory_ranges():
            for at in range(start, end, CHUNK):
                piece = file.read(at, min(CHUNK + overlap, end - at))
                missing = {text for text in missing if text not in piece}
                if not missing:
                    return
    raise AssertionError(f"the core has no {missing}")
