# SPDX-License-Identifier: BSD-3-Clause
"""Measures what docs/benchmarks.md shows, and writes it there.

    tox -e bench [-- --write] [--rounds N] [--mebibytes N]

Without --write the tables go to standard output. Wants an idle machine; takes some minutes, four
times the memory that is named, and gcc, zstd, lz4 and gzip. A goal that is missed is told in the
table and is no failure: machines differ, and a shared one is never idle.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from lab.bench import compression, pause
from lab.measured import machine, write

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="lab.bench", description="what is promised of speed")
    parser.add_argument("--rounds", type=int, default=9, help="of each measurement (default 9)")
    parser.add_argument("--mebibytes", type=int, default=1024, help="a process has (default 1024)")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    given = parser.parse_args()
    named = os.environ.get("CORESNAP_BUILD")
    if not named:
        parser.error("set CORESNAP_BUILD to where meson built the library")
    sections = {"machine": f"{machine()}; {given.rounds} rounds."}
    parts: dict[str, Callable[[Path, Path, int, int], str]] = {
        "pause": pause.table_of,
        "compression": compression.table_of,
    }
    with tempfile.TemporaryDirectory(dir=os.environ.get("CORESNAP_BENCH_DIRECTORY")) as directory:
        for name, table_of in parts.items():
            sections[name] = table_of(Path(named), Path(directory), given.mebibytes, given.rounds)
    if given.write:
        write(DOCUMENT, sections)
    print("\n\n".join(sections.values()))


if __name__ == "__main__":
    main()
