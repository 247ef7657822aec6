# SPDX-License-Identifier: BSD-3-Clause
"""Measures what docs/benchmarks.md shows, and writes it there.

    tox -e bench [-- [PART …] [--write] [--rounds N] [--mebibytes N]]
    tox -e bench -- --draw

Without --write tables go to standard output. With it each part, when it is done, is kept as JSON in
docs/results, and tables, pictures and goals are made anew of the newest there is of each part: a
run that was cut off is completed by naming the parts that are missing. --draw does only that.

Wants an idle machine; eight times the memory that is named, for the largest process, and as much
again for files; twice that on the disk of $CORESNAP_BENCH_DIRECTORY, or else of $TMPDIR; gcc, gdb,
redis, zstd, lz4 and gzip. A goal that is missed is told in the table and is no failure: machines
differ, and a shared one is never idle.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from lab.bench.cells import UNIT
from lab.bench.parts import DOCS, PARTS, Amount, Book


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab.bench", description="what is promised of speed")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (default 5)")
    parser.add_argument(
        "--mebibytes", type=int, default=UNIT, help=f"of most processes (default {UNIT})"
    )
    parser.add_argument("--write", action="store_true", help="into docs")
    parser.add_argument("--draw", action="store_true", help="only make the documents anew")
    return parser


def _measure(book: Book, given: argparse.Namespace, build: Path) -> None:
    for name in given.parts or PARTS:
        with tempfile.TemporaryDirectory(
            prefix="coresnap-bench-", dir=os.environ.get("CORESNAP_BENCH_DIRECTORY")
        ) as directory:
            book.measure(name, Amount(build, Path(directory), given.mebibytes, given.rounds))
        if given.write:
            book.write()
        print(f"{name}: {book.section(name)}\n", flush=True)
    print(book.goals())


def main() -> None:
    """Command line."""
    parser = _parser()
    given = parser.parse_args()
    unknown = [name for name in given.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if given.draw:
        Book(DOCS).write()
        return
    build = os.environ.get("CORESNAP_BUILD")
    if not build:
        parser.error("set CORESNAP_BUILD to where meson built the library")
    if given.write:
        _measure(Book(DOCS), given, Path(build))
        return
    with tempfile.TemporaryDirectory() as nowhere:
        _measure(Book(Path(nowhere)), given, Path(build))


if __name__ == "__main__":
    main()
