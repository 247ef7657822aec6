# SPDX-License-Identifier: BSD-3-Clause
"""What a dump takes and how its process feels it: our methods, gdb's gcore, the kernel's own."""

from __future__ import annotations

import os
import resource
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.host import build
from lab.inside import livefile
from lab.inside.livepause import ask
from lab.inside.system import why_no_core
from lab.measured import ms, spread, table

DEADLINE = 600.0
# Threads, and the part of the memory that the benchmark was given.
SIZES = ((2, 1 / 4), (50, 1), (500, 1))
# What fork is allowed: so much of a bare fork, and ns for each thread.
FORKS = 1.3
PER_THREAD = 40_000
_PIECE = bytes(1 << 20)
_UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """One dump. Times in ns; ``felt`` is the longest that a thread of the process did not get on,
    ``memory`` the most that the dumper had resident, in bytes. ``fork`` and ``write`` are what a
    fork() of the process itself and a write(2) of as many bytes took at the same time."""

    method: str
    threads: int
    mebibytes: int
    felt: int
    wall: int
    size: int
    memory: int
    fork: int
    write: int


def _run(argv: Sequence[str | Path]) -> tuple[int, int]:
    """ns until its end, and its memory, or that of a child of its."""
    begin = time.perf_counter_ns()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter_ns() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(map(str, argv)))
    return took, usage.ru_maxrss * 1024


def _write(to: Path, size: int) -> int:
    """ns that a plain write of so many bytes takes."""
    begin = time.perf_counter_ns()
    with to.open("wb", buffering=0) as file:
        for left in range(size, 0, -len(_PIECE)):
            file.write(_PIECE[:left])
    took = time.perf_counter_ns() - begin
    to.unlink()
    return took


def _by_us(
    subject: subprocess.Popen[bytes], dump: Path, method: str, core: Path
) -> tuple[int, int]:
    return _run([dump, "-q", "--method", method, "-o", core, str(subject.pid)])


def _by_gcore(subject: subprocess.Popen[bytes], core: Path) -> tuple[int, int]:
    pid = str(subject.pid)
    taken = _run(["gcore", "-o", core, pid])
    core.with_name(f"{core.name}.{pid}").rename(core)
    return taken


def _by_kernel(subject: subprocess.Popen[bytes], core: Path) -> tuple[int, int]:
    """The process dies of it. The kernel needs no memory of its own to speak of."""
    begin = time.perf_counter_ns()
    subject.send_signal(signal.SIGABRT)
    subject.wait(timeout=DEADLINE)
    took = time.perf_counter_ns() - begin
    (made,) = core.parent.glob("core*")
    made.rename(core)
    return took, 0


def _dumps(
    subject: subprocess.Popen[bytes], dump: Path, core: Path
) -> Iterator[tuple[str, int, int, int]]:
    """Method, ns felt, ns until its end, bytes of the dumper; the core is there meanwhile."""
    for method in ("fork", "stop", "gcore"):
        ask(subject, b"r")
        if method == "gcore":
            wall, memory = _by_gcore(subject, core)
        else:
            wall, memory = _by_us(subject, dump, method, core)
        yield method, ask(subject, b"m"), wall, memory
    if not why_no_core():
        wall, memory = _by_kernel(subject, core)
        yield "kernel", wall, wall, memory


def measure(dump: Path, directory: Path, mebibytes: int, rounds: int) -> list[Taken]:
    """Each method for each size, by turns."""
    program = build.helper("gaps", directory)
    taken = []
    for threads, part in SIZES:
        size = max(int(mebibytes * part), 1)
        for _ in range(rounds):
            argv = (str(program), str(threads), str(size))
            with livefile.subject(directory, core=_UNLIMITED, argv=argv) as subject:
                # The first one warms up the machine.
                ask(subject, b"f")
                fork = ask(subject, b"f")
                made = directory / "the.core"
                for method, felt, wall, memory in _dumps(subject, dump, made):
                    bytes_ = made.stat().st_size
                    made.unlink()
                    taken.append(
                        Taken(
                            method=method,
                            threads=threads,
                            mebibytes=size,
                            felt=felt,
                            wall=wall,
                            size=bytes_,
                            memory=memory,
                            fork=fork,
                            write=_write(directory / "plain", bytes_),
                        )
                    )
    return taken


def grouped(taken: list[Taken]) -> dict[tuple[int, int, str], list[Taken]]:
    """By threads, memory and method."""
    found: dict[tuple[int, int, str], list[Taken]] = {}
    for one in taken:
        found.setdefault((one.threads, one.mebibytes, one.method), []).append(one)
    return found


def table_of(taken: list[Taken]) -> str:
    """A row for each size and method."""
    rows = []
    for (threads, mebibytes, method), those in grouped(taken).items():
        fork = statistics.median(one.fork for one in those)
        allowed = FORKS * fork + PER_THREAD * threads
        felt = statistics.median(one.felt for one in those)
        speed = statistics.median(one.write / one.wall for one in those)
        rows.append(
            [
                str(threads),
                f"{mebibytes} MiB",
                method,
                "all of it" if method == "kernel" else spread([one.felt for one in those]),
                f"{felt / allowed:.2f} of {ms(allowed)}" if method == "fork" else "",
                spread([one.wall for one in those]),
                f"{speed:.2f}",
                f"{max(one.memory for one in those) / 2**20:.0f} MiB" if those[0].memory else "",
            ]
        )
    head = ["threads", "memory", "dump", "felt by a thread: ms", "of what is allowed",
            "all of the dump: ms", "speed, of a plain write", "dumper's memory"]  # fmt: skip
    return table(head, rows)


def to_json(taken: list[Taken]) -> list[dict[str, object]]:
    """Every dump, for docs/results."""
    return [asdict(one) for one in taken]
