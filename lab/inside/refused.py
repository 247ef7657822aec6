# SPDX-License-Identifier: BSD-3-Clause
"""Dumps of a row's process, one of them by a dumper to which a request of ptrace(2) is refused."""

from __future__ import annotations

from pathlib import Path

from lab.inside.dumper import Dump, dump
from lab.inside.take import Programs, started
from lab.matrix import METHODS, Row

WHOLE = "whole"
GENTLE = "gentle"
REFUSED = "refused"
_PRIORITIES = ("--nice", "7", "--io-prio", "6", "--oom-adj", "3")


def dumps(row: Row, programs: Programs, where: Path, *, denied: Path, request: int) -> list[Dump]:
    """By each method, also at priorities and without the request, into files METHOD-whole etc.

    ``denied`` is the program of denied.c. Raises what started() raises, and DumpFailed.
    """
    made = []
    with started(row, programs, where) as process:
        for method in METHODS:
            for kind, before, options in (
                (WHOLE, (), ()),
                (GENTLE, (), _PRIORITIES),
                (REFUSED, (str(denied), str(request)), ()),
            ):
                core = where / f"{method}-{kind}"
                made.append(
                    dump(
                        programs.dumper, process.pid, core,
                        method=method, before=before, options=options,
                    )
                )  # fmt: skip
                process.settle()
        answer = process.ask("verify")
    assert answer == "ok", answer
    return made
