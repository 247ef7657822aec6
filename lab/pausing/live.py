# SPDX-License-Identifier: BSD-3-Clause
"""How long a process stands still for /proc/PID/livedump, against a fork() of its own: a table.

``python -m lab.pausing.live x86-64``. The guest is emulated, so compare the columns, no more.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from lab.architectures import ARM, X86_64
from lab.host import build, guests
from lab.inside import livepause
from lab.matrix import OWN, Guest

THREADS = (1, 50, 500)
MEBIBYTES = (4, 64)


def _cell(times: list[int]) -> str:
    return f"{statistics.median(times) / 1e6:.1f} ({min(times) / 1e6:.1f})"


def main() -> None:
    """Measure, and print the table's rows as they come."""
    parser = argparse.ArgumentParser(prog="python -m lab.pausing.live", description=__doc__)
    parser.add_argument("architecture", choices=[X86_64.name, ARM.name])
    parser.add_argument("--rounds", type=int, default=20, help="dumps for each row")
    arguments = parser.parse_args()
    machine = Guest(architecture=arguments.architecture, kernel=OWN)
    with tempfile.TemporaryDirectory() as directory, guests.fresh(machine, memory=512) as vm:
        program = build.helper("gaps", Path(directory), width=arguments.architecture)
        vm.put({str(livepause.GAPS): program}, mode=0o755)
        print("Milliseconds: the median, and the shortest in parentheses.\n")
        print("| threads | MiB | fork() | kept by a refused write | kept by a dump |")
        print("|---|---|---|---|---|")
        for mebibytes in MEBIBYTES:
            for threads in THREADS:
                times = vm.call(
                    "lab.inside.livepause:measure",
                    threads=threads,
                    mebibytes=mebibytes,
                    rounds=arguments.rounds,
                    deadline=3600.0,
                )
                cells = [_cell(times[name]) for name in ("fork", "refused", "dump")]
                print(f"| {threads} | {mebibytes} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
