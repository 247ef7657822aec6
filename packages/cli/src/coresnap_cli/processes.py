# SPDX-License-Identifier: BSD-3-Clause
"""Find a running process by its name, and guess what a wrong PID was meant to be."""

from __future__ import annotations

import datetime
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from coresnap_cli.escape import printable, printable_args
from coresnap_cli.exit_codes import ExitCode
from coresnap_cli.paths import is_file
from coresnap_cli.tables import Table
from coresnap_cli.talk import CliError, die

# TASK_COMM_LEN in the kernel's include/linux/sched.h is 16, with the final NUL.
_COMM_LEN = 15


@dataclass(frozen=True)
class Process:
    """One process as it is listed to the user; text is raw, not yet escaped."""

    pid: int
    comm: str
    executable: str
    arguments: tuple[str, ...]
    started: float

    @property
    def when(self) -> str:
        """Local start time."""
        moment = datetime.datetime.fromtimestamp(self.started, datetime.UTC)
        return moment.astimezone().strftime("%F %T")


def running() -> list[Process]:
    """Every process that can be seen, except this one."""
    import psutil  # here, so that all else works where it is not installed

    found = []
    for process in psutil.process_iter(["pid", "name", "exe", "cmdline", "create_time"]):
        info = process.info
        if info["pid"] == os.getpid():
            continue
        # psutil completes a comm of 15 bytes from the command line; the kernel's comm is its start.
        comm = os.fsdecode(os.fsencode(info["name"] or "")[:_COMM_LEN])
        found.append(
            Process(
                pid=info["pid"],
                comm=comm,
                executable=info["exe"] or "",
                arguments=tuple(info["cmdline"] or ()),
                started=info["create_time"] or 0.0,
            )
        )
    return found


def matching(name: str, processes: list[Process]) -> list[Process]:
    """Those whose comm, or whose executable's path, is exactly `name`."""
    # A process without an executable, or one that may not be seen, has an empty path.
    return [p for p in processes if name and name in (p.comm, p.executable)]


def pid_of(name: str) -> int:
    """The one process called `name`.

    Ends the run with exit code 3 when there is none, with 2 and a list when there are several.
    """
    if not name:
        die("the name is empty", hint="give a name, or a PID", exit_code=ExitCode.USAGE)
    found = matching(name, running())
    if len(found) == 1:
        return found[0].pid
    if not found:
        hint = "give the exact comm (see /proc/PID/comm), the full path of the executable, or a PID"
        if "/" not in name and len(os.fsencode(name)) > _COMM_LEN:
            short = os.fsdecode(os.fsencode(name)[:_COMM_LEN])
            hint = (
                f"the kernel keeps {_COMM_LEN} bytes of a name: did you mean "
                f"`coresnap dump -n {printable(short)}`?"
            )
        die(f'no process is named "{printable(name)}"', hint=hint, exit_code=ExitCode.NO_PROCESS)
    _show_choices(found)
    raise CliError(
        f'{len(found)} processes are named "{printable(name)}"',
        hint="choose one of those listed and give its PID: coresnap dump PID",
        exit_code=ExitCode.USAGE,
    )


def _show_choices(processes: list[Process]) -> None:
    table = Table("PID", "STARTED", "COMMAND", right=("PID",))
    for process in processes:
        command = printable_args(process.arguments) or f"[{printable(process.comm)}]"
        table.add(process.pid, process.when, command)
    table.show(sys.stderr)


def parse_pid(text: str) -> int:
    """The process that a PID argument names; a near mistake is told as such."""
    if text.isascii() and text.isdigit() and 0 < int(text) < 2**31:
        return int(text)
    shown = printable(text)
    message = f'"{shown}" is not a process id'
    if matching(text, running()):
        hint = f"a process has this name: did you mean `coresnap dump -n {shown}`?"
    elif is_file(Path(text)):
        hint = f"this is a file: did you mean `coresnap info {shown}`?"
    else:
        hint = "give a number from ps(1), or -n NAME"
    raise CliError(message, hint=hint, exit_code=ExitCode.USAGE)


def thread_group(pid: int) -> int | None:
    """The process that the task `pid` belongs to, or None when it cannot be told."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith(b"Tgid:"):
            return int(line.split()[1])
    return None
