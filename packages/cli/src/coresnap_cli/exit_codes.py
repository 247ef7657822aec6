# SPDX-License-Identifier: BSD-3-Clause
"""The exit codes of every command: the one table."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What a run ended with."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_PROCESS = 3
    NOT_PERMITTED = 4
    INCOMPLETE = 5
    NO_SPACE = 6
    TARGET_GONE = 7
    DEADLINE = 8
    INTERRUPTED = 130
    TERMINATED = 143


MEANING: dict[ExitCode, str] = {
    ExitCode.OK: "complete",
    ExitCode.FAILED: (
        "any other failure: unwritable place, file exists, closed pipe, not a core, truncated core"
    ),
    ExitCode.USAGE: "usage; also a name that matches several processes",
    ExitCode.NO_PROCESS: "no such process, a zombie, a kernel thread",
    ExitCode.NOT_PERMITTED: "not permitted: other user, setuid, traced, Yama, undumpable",
    ExitCode.INCOMPLETE: "dumped, but threads or pages are missing (they are listed)",
    ExitCode.NO_SPACE: "no space left for the core",
    ExitCode.TARGET_GONE: "the process exited or called execve during the dump",
    ExitCode.DEADLINE: "a deadline passed, nothing was written",
    ExitCode.INTERRUPTED: "interrupted (SIGINT), cleaned up",
    ExitCode.TERMINATED: "terminated (SIGTERM), cleaned up",
}


def table() -> list[tuple[str, str]]:
    """Rows for `coresnap --help` and the docs."""
    return [(str(int(code)), MEANING[code]) for code in ExitCode]
