# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap demo`: a first look that needs nothing but this command."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import coresnap
from coresnap_cli import gdb, talk
from coresnap_cli.commands.debug import run_batch
from coresnap_cli.commands.dump import Job, result_fields, summary
from coresnap_cli.demo_target import THREADS
from coresnap_cli.elffile import ElfError, ElfFile
from coresnap_cli.escape import printable
from coresnap_cli.images import executable_of, images_of
from coresnap_cli.paths import is_directory
from coresnap_cli.subject import subject
from coresnap_cli.tables import Table

_FRAMES = 6


@click.command(
    epilog="""\b
Examples:
  coresnap demo
  coresnap demo -o demo.core      keep the core
"""
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path),
    help="Keep the core here.  [default: it is deleted at the end]",
)  # fmt: skip
@click.option(
    "--method",
    type=click.Choice(["auto", "precopy", "fork", "stop"]),
    default="auto",
    show_default=True,
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def demo(output: Path | None, method: str, as_json: bool) -> int:
    """Start a program of eight threads, dump it, show what came out.

    The program checks its own work and goes on working while its core is looked at.
    """
    with subject() as running, _place(output, running.pid) as path:
        before = running.counts_beyond(dict.fromkeys(running.counts(), 0))
        if not as_json:
            print(f"1. A program with {THREADS} threads runs: process {running.pid}.")
            print(f"2. $ coresnap dump {running.pid}")
        result = coresnap.dump(running.pid, path, method=method)
        job = Job(running.pid, path)
        if not as_json:
            # The core is still there for the next step only; "next" would promise too much.
            for line in summary(result, job, method):
                if output is not None or not line.startswith("next"):
                    print(f"     {line}")
        shown = _look(path, quiet=as_json)
        after = running.counts_beyond(before)
        against = running.traced_or_stopped()
        faults = running.finish()
        complaints = [*([against] if against else []), *faults, *shown["complaints"]]
    if as_json:
        talk.show_json(
            "demo",
            {
                "dump": {"pid": running.pid, **result_fields(result, job)},
                "threads": shown["threads"],
                "counters": {name: [before[name], after[name]] for name in before},
                "backtrace": shown["backtrace"],
                "complaints": [printable(text) for text in complaints],
            },
        )
    else:
        _tell_counters(before, after, complaints)
    if complaints:
        talk.die(
            "the demonstration found faults: " + printable("; ".join(complaints)),
            hint="run `coresnap selftest` to see what does not work here",
        )
    return 0


@contextlib.contextmanager
def _place(output: Path | None, pid: int) -> Iterator[Path]:
    if output is not None:
        yield output / f"core.{pid}" if is_directory(output) else output
        return
    with tempfile.TemporaryDirectory(prefix="coresnap-demo-") as directory:
        yield Path(directory) / f"core.{pid}"


def _look(path: Path, *, quiet: bool) -> dict[str, Any]:
    """Read the core back: its threads, and one backtrace by gdb."""
    complaints = []
    with coresnap.Core(path) as core, images_of(core, path) as images:
        listed = [
            {"tid": thread.tid, "at": images.place(thread.pc).text} for thread in core.threads
        ]
        image = executable_of(core, path, images.roots)
        arch = core.arch
    if len(listed) != THREADS:
        complaints.append(f"the core has {len(listed)} threads instead of {THREADS}")
    if not quiet:
        print("3. $ coresnap threads core")
        table = Table("TID", "AT", right=("TID",))
        for thread in listed:
            table.add(str(thread["tid"]), str(thread["at"]))
        table.show()
    backtrace: list[str] | None = None
    if shutil.which("gdb") is not None and image is not None:
        argv = gdb.arguments(
            gdb.find(arch), path, image.path, None,
            more=("-batch", "-ex", f"backtrace {_FRAMES}"),
        )  # fmt: skip
        status, output = run_batch(argv, echo=False)
        backtrace = frames(output)
        if status or not backtrace:
            complaints.append("gdb gave no backtrace: " + " ".join(output[-3:]))
        if not quiet:
            print(f"4. gdb: the main thread of {_stripped(image.path)}")
            for line in backtrace[:_FRAMES]:
                print(f"     {line[:110]}")
    elif not quiet and image is None:
        print("4. (no backtrace: the executable is not to be found with the core's build-id)")
    elif not quiet:
        print("4. (gdb is not installed: no backtrace; as root: apt install gdb)")
    return {"threads": listed, "backtrace": backtrace, "complaints": complaints}


def frames(output: list[str]) -> list[str]:
    """The frames of the last backtrace; gdb shows the innermost one also when it opens a core."""
    found = [line for line in output if line.startswith("#")]
    last = max((at for at, line in enumerate(found) if line.startswith("#0 ")), default=0)
    return found[last:]


def _stripped(path: Path) -> str:
    """The program's name, with a word on what gdb can know of it."""
    shown = printable(str(path))
    try:
        with ElfFile(path) as elf:
            return shown if elf.has_symbols() else f"{shown} (stripped: few names)"
    except ElfError:
        return shown


def _tell_counters(before: dict[str, int], after: dict[str, int], complaints: list[str]) -> None:
    print("5. The program went on meanwhile; steps done before the dump and by now:")
    table = Table("THREAD", "BEFORE", "NOW", right=("BEFORE", "NOW"))
    for name, count in before.items():
        table.add(name, count, after[name])
    table.show()
    if not complaints:
        print("6. It ended by its own check of its work: no faults.")
