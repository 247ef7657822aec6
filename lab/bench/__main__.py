# SPDX-License-Identifier: BSD-3-Clause
"""Measures what docs/benchmarks.md shows, and writes it there.

    tox -e bench [-- --write] [--rounds N] [--mebibytes N]

Without --write the tables go to standard output; with it also all numbers as JSON to docs/results,
and the pictures. Wants an idle machine; takes some minutes, four times the memory that is named,
and gcc, gdb, zstd, lz4 and gzip. A goal that is missed is told in the table and is no failure:
machines differ, and a shared one is never idle.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from lab.bench import compression, dumps, pause
from lab.host.outcomes import checked_out
from lab.measured import machine, write

DOCS = Path(__file__).resolve().parents[2] / "docs"
DOCUMENT = DOCS / "benchmarks.md"
RESULTS = DOCS / "results"
PICTURE = DOCS / "images" / "pauses.png"


def _keep(sections: dict[str, str], where: str, taken: list[dumps.Taken]) -> None:
    from lab.bench import plots  # wants matplotlib, which a look at numbers does not

    commit, changed = checked_out()
    write(DOCUMENT, sections)
    PICTURE.parent.mkdir(exist_ok=True)
    plots.pauses(taken, PICTURE)
    now = datetime.now(UTC)
    found = {
        "date": now.isoformat(timespec="seconds"),
        "commit": commit,
        "changed": changed,
        "where": where,
        "dumps": dumps.to_json(taken),
    }
    (RESULTS / f"{now:%Y-%m-%d}-bench.json").write_text(json.dumps(found, indent=1) + "\n")


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
    where = f"{machine()}; {given.rounds} rounds."
    with tempfile.TemporaryDirectory(dir=os.environ.get("CORESNAP_BENCH_DIRECTORY")) as directory:
        amount = (Path(named), Path(directory), given.mebibytes, given.rounds)
        taken = dumps.measure(Path(named) / "coresnap-dump", *amount[1:])
        sections = {
            "machine": where,
            "dumps": dumps.table_of(taken),
            "pause": pause.table_of(*amount),
            "compression": compression.table_of(*amount),
        }
    if given.write:
        _keep(sections, where, taken)
    print("\n\n".join(sections.values()))


if __name__ == "__main__":
    main()
