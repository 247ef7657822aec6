# SPDX-License-Identifier: BSD-3-Clause
"""Cores that are less than all of the process, or not as they are: limited and compressed ones."""

from __future__ import annotations

from pathlib import Path

from lab.inside.dumper import Dump, dump
from lab.inside.take import Programs, started
from lab.matrix import METHODS, Row

LIMIT = 200_000
"""Bytes: more than the notes of twenty threads take, less than all of any row's process."""
LIMITED = {
    "cut": ("--max-size", str(LIMIT)),
    "small-first": ("--max-size", str(LIMIT), "--keep", "small-first"),
    "core-limit": ("--core-limit", str(LIMIT)),
}
COMPRESSED = {name: ("--compress", name) for name in ("zstd", "lz4", "gzip")}
VARIANTS = LIMITED | COMPRESSED


def dumps(row: Row, programs: Programs, where: Path) -> list[Dump]:
    """Of one process, each by one of the methods, into files of the variants' names.

    Raises what started() raises, and DumpFailed.
    """
    made = []
    with started(row, programs, where) as process:
        for number, (name, options) in enumerate(VARIANTS.items()):
            method = METHODS[number % len(METHODS)]
            core = where / name
            made.append(dump(programs.dumper, process.pid, core, method=method, options=options))
            process.settle()
        answer = process.ask("verify")
    assert answer == "ok", answer
    return made
