# SPDX-License-Identifier: BSD-3-Clause
"""How long a program stands still for a core of itself, beside a bare fork of it."""

from __future__ import annotations

import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.measured import ms, spread, table

HERE = Path(__file__).resolve().parent
INCLUDE = HERE.parents[1] / "packages" / "core" / "include"
DEADLINE = 600.0
THREADS = (2, 50, 200)
# As coredumper's users know it: a fork, and for each thread to be stopped and read.
FORKS = 1.3
PER_THREAD = 40_000  # ns
_TIMES = ("fork", "pause", "felt")


@dataclass(frozen=True)
class Opened:
    """A core that was opened, and a bare fork just before. Times in ns."""

    threads: int
    mebibytes: int
    fork: int
    pause: int
    felt: int


def _program(build: Path, to: Path) -> Path:
    made = to / "self"
    subprocess.run(
        [
            *("gcc", "-O2", "-Wall", "-Werror", "-D_GNU_SOURCE", "-pthread", f"-I{INCLUDE}"),
            *("-o", made, HERE / "self.c", build / "libcoresnap.a"),
        ],
        check=True,
        timeout=DEADLINE,
    )
    return made


def _rounds(program: Path, threads: int, mebibytes: int, rounds: int) -> list[list[int]]:
    done = subprocess.run(
        [program, str(threads), str(mebibytes), str(rounds + 1)],
        check=True,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    # The first one warms up the machine.
    return [list(map(int, line.split())) for line in done.stdout.splitlines()[1:]]


def measure(build: Path, directory: Path, mebibytes: int, rounds: int) -> list[Opened]:
    """So many rounds for each number of threads."""
    program = _program(build, directory)
    return [
        Opened(threads, mebibytes, *one)
        for threads in THREADS
        for one in _rounds(program, threads, mebibytes, rounds)
    ]


def table_of(opened: list[Opened]) -> str:
    """A row for each number of threads."""
    rows = []
    for threads in dict.fromkeys(one.threads for one in opened):
        those = [one for one in opened if one.threads == threads]
        allowed = FORKS * statistics.median(one.fork for one in those) + PER_THREAD * threads
        reached = statistics.median(one.pause for one in those) / allowed
        rows.append(
            [
                str(threads),
                f"{those[0].mebibytes} MiB",
                *(spread([getattr(one, which) for one in those]) for which in _TIMES),
                ms(allowed),
                f"{reached:.2f}",
            ]
        )
    head = ["threads", "memory", "bare fork: ms", "pause: ms", "felt by a thread: ms",
            "allowed: ms", "pause / allowed"]  # fmt: skip
    return table(head, rows)
