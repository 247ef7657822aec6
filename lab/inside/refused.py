# SPDX-License-Identifier: BSD-3-Clause
"""Dumps of a row's process by a dumper to which the kernel refuses a request of ptrace(2)."""

from __future__ import annotations

from pathlib import Path

from lab.inside.dumper import Dump, dump
from lab.inside.take import Programs, started
from lab.matrix import METHODS, Row

WHOLE = "whole"
REFUSED = "refused"


def dumps(row: Row, programs: Programs, where: Path, *, denied: Path, request: int) -> list[Dump]:
    """By each method with and without the request, into files METHOD-whole and METHOD-refused.

    ``denied`` is the program of denied.c. Raises what started() raises, and DumpFailed.
    """
    made = []
    with started(row, programs, where) as process:
        for method in METHODS:
            for kind, before in ((WHOLE, ()), (REFUSED, (str(denied), str(request)))):
                core = where / f"{method}-{kind}"
                made.append(dump(programs.dumper, process.pid, core, method=method, before=before))
                process.settle()
        answer = process.ask("verify")
    assert answer == "ok", answer
    return made
