# SPDX-License-Identifier: BSD-3-Clause
"""What shows why a row failed: its cores, its guest's console, a report, and how to reopen it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from lab.matrix import Row

ROOT = Path(__file__).resolve().parent.parent.parent
FAILED = ROOT / "build" / "lab" / "failed"
"""Where failed rows keep their artefacts, each in a directory of its own."""
_KEPT = "row.json"
_REPORT = "report.txt"
# What a row's directory has for people; the rest are copies of programs.
_ARTEFACTS = ("*.core", "stderr", "console.log", "qemu.log", "record.json")
_COPY_DEADLINE = 120  # seconds


def file_name(cell: str) -> str:
    """A cell's or row's name as that of a file, without an ending."""
    return cell.replace("/", "-").replace(":", "-")


def command(row: Row) -> str:
    """The one command that brings a person to the row's process."""
    if row.guest is None:
        return f"CORESNAP_LAB_KEEP=1 pytest lab/tests -k {shlex.quote(row.name)}"
    return f"python -m lab reopen {shlex.quote(row.name)}"


def keep(row: Row, test: str, report: str, directory: Path | None, *, to: Path = FAILED) -> str:
    """Keep what a failed test of a row leaves, and say where it is and how to reopen the row.

    ``directory`` is the row's, None if there is none (a guest that was lost, a program that does
    not compile). Of an earlier run of the row nothing stays; the other tests of this run add to it.
    """
    kept = to / file_name(row.name)
    about = {"row": row.name, "run": os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))}
    text = json.dumps(about)
    if not (kept / _KEPT).exists() or (kept / _KEPT).read_text() != text:
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        (kept / _KEPT).write_text(text)
    with (kept / _REPORT).open("a", errors="backslashreplace") as file:
        file.write(f"== {test}\n\n{report.rstrip()}\n\n")
    if directory is not None:
        for artefact in (path for pattern in _ARTEFACTS for path in directory.glob(pattern)):
            _keep_file(artefact, kept / artefact.name)
    return f"kept: {kept}\nreopen: {command(row)}"


def _keep_file(file: Path, to: Path) -> None:
    """The same file under another name; a copy, holes and all, where that is another disk."""
    if to.exists():
        return
    try:
        os.link(file, to)
    except OSError:
        subprocess.run(
            ["cp", "--sparse=always", "--", str(file), str(to)], check=True, timeout=_COPY_DEADLINE
        )


def read(directory: Path) -> str | None:
    """The name of the row whose artefacts these are; None if it is no such directory."""
    try:
        name = json.loads((directory / _KEPT).read_text())["row"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(name)
