# SPDX-License-Identifier: BSD-3-Clause
"""The exit codes of every command: the one table."""

from __future__ import annotations

import enum
import signal

from coresnap import Code


class ExitCode(enum.IntEnum):
    """What a run ended with: the library's codes, and one for SIGTERM."""

    OK = Code.OK
    FAILED = Code.FAILED
    USAGE = Code.USAGE
    NO_PROCESS = Code.NO_PROCESS
    NOT_PERMITTED = Code.NOT_PERMITTED
    INCOMPLETE = Code.INCOMPLETE
    NO_SPACE = Code.NO_SPACE
    TARGET_GONE = Code.TARGET_GONE
    DEADLINE = Code.DEADLINE
    PAUSE = Code.PAUSE
    INTERRUPTED = Code.CANCELLED
    TERMINATED = 128 + signal.SIGTERM


MEANING: dict[ExitCode, str] = {
    ExitCode.OK: "complete",
    ExitCode.FAILED: (
        "any other failure: unwritable place, file exists, closed pipe, not a core, truncated core"
    ),
    ExitCode.USAGE: "usage; also a name that matches several processes",
    ExitCode.NO_PROCESS: "no such process, a zombie, a kernel thread",
    ExitCode.NOT_PERMITTED: "not permitted: other user, setuid, traced, Yama, undumpable",
    ExitCode.INCOMPLETE: "dumped, but threads or pages are missing (they are listed)",
    ExitCode.NO_SPACE: "no space left for the core, or less than --min-free would be",
    ExitCode.TARGET_GONE: "the process exited or called execve during the dump",
    ExitCode.DEADLINE: "a deadline passed, nothing was written",
    ExitCode.PAUSE: "the process would stand still for longer than --max-pause allows",
    ExitCode.INTERRUPTED: "interrupted (SIGINT), cleaned up",
    ExitCode.TERMINATED: "terminated (SIGTERM), cleaned up",
}


def table() -> list[tuple[str, str]]:
    """Rows for `coresnap --help` and the docs."""
    return [(str(int(code)), MEANING[code]) for code in ExitCode]
