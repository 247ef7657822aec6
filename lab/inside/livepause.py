# SPDX-License-Identifier: BSD-3-Clause
"""How long a process stands still for /proc/PID/livedump, as it sees it itself (gaps.c)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab.inside.livefile import EMPTY, attempt, directory, expect, subject

GAPS = Path("/run/gaps")
"""Where the host puts gaps.c's program."""


def ask(process: subprocess.Popen[bytes], command: bytes) -> list[int]:
    """What gaps.c's program answers to a command."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(command)
    return list(map(int, process.stdout.readline().split()))


def measure(*, threads: int, mebibytes: int, rounds: int) -> dict[str, list[int]]:
    """In ns, a number for each round: a ``fork`` of its own, the longest time that it was kept from
    running by a ``dump``, and that in a try that is ``refused``, when only the writer works."""
    times: dict[str, list[int]] = {"fork": [], "refused": [], "dump": []}
    with (
        directory() as where,
        subject(where, argv=(str(GAPS), str(threads), str(mebibytes))) as process,
    ):
        for _ in range(rounds):
            times["fork"] += ask(process, b"f")
            for name, text, said in (("refused", "x", "EINVAL"), ("dump", EMPTY, "ok")):
                ask(process, b"r")
                expect(said, attempt(process.pid, text))
                times[name].append(ask(process, b"m")[0])
    return times
