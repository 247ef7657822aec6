# SPDX-License-Identifier: BSD-3-Clause
"""Everything the command says: results on stdout, talk on stderr, errors as one paragraph.

No function here interprets rich markup: text of a target stays text.
"""

from __future__ import annotations

import json
import sys
from typing import IO, Any, NoReturn

from rich.console import Console
from rich.text import Text

from coresnap_cli.exit_codes import ExitCode

SCHEMA = 1
# Wide enough that nothing in a pipe is ever folded or cut.
_PIPE_WIDTH = 100_000


class CliError(Exception):
    """A failure that is told in one paragraph and ends the run with `exit_code`."""

    def __init__(self, message: str, *, hint: str = "", exit_code: int = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = int(exit_code)

    def as_dict(self) -> dict[str, Any]:
        """The fields for --json."""
        return {"what": self.message, "remedy": self.hint, "exit_code": self.exit_code}


def die(message: str, *, hint: str = "", exit_code: int = ExitCode.FAILED) -> NoReturn:
    """End the run: what failed, on what, why; `hint` says what to do."""
    raise CliError(message, hint=hint, exit_code=exit_code)


def interrupted(pid: int) -> NoReturn:
    """End a run in which a dump was left by Ctrl-C."""
    die(
        f"interrupted; process {pid} goes on, and its core was given up",
        exit_code=ExitCode.INTERRUPTED,
    )


def console(file: IO[str]) -> Console:
    """A console that takes text as it is; rich reads NO_COLOR and TERM by itself."""
    width = None if file.isatty() else _PIPE_WIDTH
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False)


def err() -> Console:
    """The console for talk."""
    return console(sys.stderr)


def say(line: str, *, style: str = "", file: IO[str] | None = None) -> None:
    """One line of talk on stderr (or `file`)."""
    console(file or sys.stderr).print(Text(line, style=style), soft_wrap=True)


def complain(message: str, hint: str = "") -> None:
    """One error paragraph on stderr."""
    text = Text("coresnap: ", style="bold")
    text.append(message if message.endswith((".", "?")) else message + ".", style="red")
    if hint:
        text.append("\n  ")
        text.append(hint[0].upper() + hint[1:])
        if not hint.endswith((".", "?")):
            text.append(".")
    err().print(text, soft_wrap=True)


def show_json(command: str, fields: dict[str, Any], *, file: IO[str] | None = None) -> None:
    """The run's one JSON object, on stdout unless `file` says otherwise."""
    document = {"schema": SCHEMA, "command": command, **fields}
    stream = file or sys.stdout
    stream.write(json.dumps(document, indent=2) + "\n")
    stream.flush()


def size(count: int) -> str:
    """A number of bytes for people: "0 B", "12.5 MiB"."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def milliseconds(nanoseconds: int) -> str:
    """A duration for people, in ms."""
    return f"{nanoseconds / 1e6:.2f} ms" if nanoseconds < 1e8 else f"{nanoseconds / 1e6:.0f} ms"
