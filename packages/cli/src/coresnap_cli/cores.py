# SPDX-License-Identifier: BSD-3-Clause
"""Open the core that the user named; a near mistake is told as such."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import coresnap
from coresnap_cli.escape import printable
from coresnap_cli.paths import exists, is_file
from coresnap_cli.talk import die


def guess(path: Path) -> str:
    """What the user may have meant by a path that does not exist, or ""."""
    text = str(path)
    if not (text.isascii() and text.isdigit()):
        return ""
    named = Path(f"core.{text}")
    if is_file(named):
        return f"did you mean `coresnap … {named}`?"
    if Path(f"/proc/{text}").is_dir():
        return (
            f"{text} is a running process and this command wants a core: "
            f"dump it first with `coresnap dump {text}`"
        )
    return "this command wants a core file, not a process id"


@contextlib.contextmanager
def open_core(path: Path) -> Iterator[coresnap.Core]:
    """The core, closed at the end. Ends the run with exit code 1 if it is none."""
    shown = printable(os.fsencode(path))
    try:
        core = coresnap.Core(path)
    except coresnap.CoreError as error:
        hint = guess(path) if not exists(path) else ""
        die(f"{shown} {_joined(error.what)}", hint=hint or printable(error.remedy))
    with core:
        try:
            yield core
        except coresnap.CoreError as error:
            die(f"{shown} {_joined(error.what)}", hint=printable(error.remedy))


def _joined(what: str) -> str:
    """The reader's words behind the file name: "is empty", or ": the core is cut off"."""
    text = printable(what)
    verb = text.split(" ", 1)[0]
    return text if verb in ("is", "has", "holds", "cannot") else f"is damaged: {text}"


def process_of(core: coresnap.Core) -> coresnap.PrPsInfo | None:
    """NT_PRPSINFO, or None for a core without it."""
    try:
        return core.process
    except coresnap.CoreError:
        return None
