# SPDX-License-Identifier: BSD-3-Clause
"""What all commands share: exit codes, errors told as one paragraph, names, durations, sizes."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from lab.architectures import ARCHITECTURES, BY_NAME, Architecture
from lab.cache import CacheError
from lab.guest.errors import GuestError
from lab.guest.machine import BadMachine
from lab.host.build import NotBuildable
from lab.kernels.errors import KernelError
from lab.qemu_images.recipe import BadRecipe
from lab.qemu_images.tools import MissingTool, ToolFailed

ROOT = Path(__file__).resolve().parent.parent.parent
CROSS = ROOT / "build" / "cross"
# Wide enough that nothing in a pipe is ever folded or cut.
_PIPE_WIDTH = 100_000


class ExitCode(IntEnum):
    """How commands end. ``run`` ends as its command did, so failures of the lab have a number that
    commands seldom have."""

    OK = 0
    FAILED = 1
    USAGE = 2
    LAB = 125
    INTERRUPTED = 130
    TERMINATED = 143


class LabError(Exception):
    """What was asked cannot be done; the text is one paragraph: what, on what, why, what to do."""


EXPECTED = (
    LabError,
    BadMachine,
    GuestError,
    KernelError,
    CacheError,
    BadRecipe,
    MissingTool,
    ToolFailed,
    NotBuildable,
    OSError,
    subprocess.SubprocessError,
)
"""What can go wrong without being a mistake of the lab: told by its text, without a traceback."""


class OfArchitecture(click.ParamType[Architecture]):
    """An architecture by the name that users see; other people's names get a hint."""

    name = "arch"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Architecture:
        """The row of that name."""
        if isinstance(value, Architecture):
            return value
        name = str(value)
        if name in BY_NAME:
            return BY_NAME[name]
        text = f"no architecture is called {name!r}; there are {', '.join(BY_NAME)}"
        for each in ARCHITECTURES:
            if name in (each.debian, each.kernel, each.multiarch, each.compiler.rstrip("-")):
                text = f"the architecture that others call {name!r} is {each.name!r} here"
        return self.fail(text, param, ctx)


def paragraph(error: BaseException) -> str:
    """An expected error for people."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"There is no room left on a disk: {error}. Make room and try again: "
            "`coresnap-lab list` shows what the lab's cache holds, `coresnap-lab prune --days 7` "
            "removes what was not used for a week, and CORESNAP_LAB_CACHE names another directory."
        )
    if isinstance(error, subprocess.CalledProcessError):
        words = error.cmd if isinstance(error.cmd, str) else " ".join(map(str, error.cmd))
        said = error.stderr or error.stdout or b""
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        return f"This command failed ({error.returncode}): {words}\n{text}".rstrip()
    return str(error).strip() or type(error).__name__


def console(*, stderr: bool = False) -> Console:
    """A console that takes text as it is; in a pipe nothing is folded."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def say(line: str, *, style: str = "") -> None:
    """One line of talk, on standard error."""
    console(stderr=True).print(Text(line, style=style), soft_wrap=True)


def complain(text: str) -> None:
    """One error on standard error."""
    said = Text("coresnap-lab: ", style="bold")
    said.append(text, style="red")
    console(stderr=True).print(said, soft_wrap=True)


@contextmanager
def told(code: ExitCode = ExitCode.FAILED) -> Iterator[None]:
    """Expected errors end the command with that code, and are told."""
    try:
        yield
    except BrokenPipeError:
        raise
    except BadMachine as error:
        complain(paragraph(error))
        raise click.exceptions.Exit(ExitCode.USAGE) from None
    except EXPECTED as error:
        complain(paragraph(error))
        raise click.exceptions.Exit(code) from None


def size(count: int) -> str:
    """Bytes for people: "0 B", "12.5 MiB"."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
