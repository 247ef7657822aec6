# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap debug`: open a core in gdb with the right executable and libraries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

import coresnap
from coresnap_cli import gdb, talk
from coresnap_cli.cores import open_core
from coresnap_cli.escape import printable, printable_args, printable_line
from coresnap_cli.images import Image, executable_of, fitting, living_root, program_id


@dataclass(frozen=True)
class Choice:
    """What gdb is given; `executable` None when none fits."""

    executable: Image | None
    sysroot: Path | None
    pid: int | None  # the living process whose root is the sysroot
    named: bytes | None  # the executable as the core names it


@click.command(
    epilog="""\b
Examples:
  coresnap debug core.4242
  coresnap debug core.4242 --batch                 backtraces of all threads
  coresnap debug core.4242 -- -ex 'info registers'
""",
)
@click.argument("core", type=click.Path(path_type=Path))
@click.argument("gdb_args", metavar="[-- GDB ARGS]", nargs=-1, type=click.UNPROCESSED)
@click.option("--batch", is_flag=True, help="Print a backtrace of all threads and end.")
@click.option(
    "--exe", type=click.Path(path_type=Path), help="The executable, instead of what is found."
)
@click.option(
    "--sysroot", type=click.Path(path_type=Path), help="Where the libraries are looked for."
)
@click.option(
    "--json", "as_json", is_flag=True,
    help="Tell what would be run, without running it; with --batch, its output too.",
)  # fmt: skip
def debug(
    core: Path, gdb_args: tuple[str, ...], batch: bool, exe: Path | None, sysroot: Path | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Open a core in gdb.

    The executable is the one that the core names, checked by its build-id; that of a container is
    found through /proc/PID/root while the process lives. gdb reads no init files and no scripts
    that come with the program, and fetches nothing.
    """
    with open_core(core) as opened:
        program = gdb.find(opened.arch)
        choice = choose(opened, core, exe, sysroot)
        plain = decompressed(opened)
    readable = core if plain is None else Path(f"/proc/self/fd/{plain}")
    argv = gdb.arguments(
        program, readable, choice.executable.path if choice.executable else None, choice.sysroot,
        batch=batch, more=gdb_args,
    )  # fmt: skip
    if not as_json:
        for line in remarks(choice):
            talk.say(line)
        if plain is not None:
            talk.say(f"core        decompressed into a file of {talk.size(_held(plain))}")
    if batch:
        status, output = run_batch(argv, echo=not as_json, keep=() if plain is None else (plain,))
    elif as_json:
        status, output = 0, None
    else:
        _become(argv)
    if as_json:
        talk.show_json("debug", _fields(choice, argv, status, output))
    return 0 if status == 0 else 1


def choose(core: coresnap.Core, path: Path, exe: Path | None, sysroot: Path | None) -> Choice:
    """Executable and sysroot of a core; what the user gave is taken as it is."""
    living = None if sysroot else living_root(core, path)
    root = sysroot or (living[1] if living else None)
    roots = [root, Path("/")] if living and root else [root or Path("/")]
    if exe is None:
        image = executable_of(core, path, roots)
    else:
        image = fitting(exe, None)
        shown = printable(os.fsencode(exe))
        wanted = program_id(core)
        if image is None:
            talk.die(f"{shown} is not an executable", hint="name the program that was dumped")
        if wanted and image.build_id and wanted != image.build_id:
            talk.die(
                f"{shown} is another program than that of the core (build-id {image.build_id}, "
                f"the core has {wanted})",
                hint="leave --exe out, or name the file of that build",
            )
    return Choice(image, root, living[0] if living else None, core.executable)


def remarks(choice: Choice) -> list[str]:
    """What the user should know before gdb speaks."""
    lines = []
    if choice.executable is not None:
        proof = "same build-id" if choice.executable.verified else "not verified: no build-id"
        lines.append(f"executable  {printable(os.fsencode(choice.executable.path))} ({proof})")
    else:
        named = "" if choice.named is None else f" {printable(choice.named)}"
        lines.append(
            f"executable{named} is not here with the core's build-id: "
            "addresses will have no names; give it with --exe FILE"
        )
    if choice.sysroot is not None:
        whose = f" (root of process {choice.pid})" if choice.pid else ""
        lines.append(f"sysroot     {printable(os.fsencode(choice.sysroot))}{whose}")
    return lines


def decompressed(core: coresnap.Core) -> int | None:
    """A descriptor, to be inherited, of a file without a name that has a compressed core; gdb reads
    no other. None if the core is not compressed."""
    if not core.compressed:
        return None
    with tempfile.TemporaryFile(prefix="coresnap-") as file:
        core.copy_to(file)
        file.flush()
        descriptor = os.dup(file.fileno())
    os.set_inheritable(descriptor, True)
    return descriptor


def _held(descriptor: int) -> int:
    return os.fstat(descriptor).st_blocks * 512


def run_batch(argv: list[str], *, echo: bool, keep: tuple[int, ...] = ()) -> tuple[int, list[str]]:
    """Run gdb to its end; its output is shown line by line, made safe, and returned.

    gdb inherits the descriptors ``keep``.
    """
    lines = []
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=keep,
    ) as process:
        assert process.stdout is not None
        for raw in process.stdout:
            line = printable_line(raw.rstrip(b"\n"))
            lines.append(line)
            if echo:
                print(line)
    return process.returncode, lines


def _become(argv: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and execve keeps that
    os.execv(argv[0], argv)


def _fields(
    choice: Choice, argv: list[str], status: int, output: list[str] | None
) -> dict[str, Any]:
    image = choice.executable
    return {
        "executable": None if image is None else printable(os.fsencode(image.path)),
        "build_id_verified": image is not None and image.verified,
        "sysroot": None if choice.sysroot is None else printable(os.fsencode(choice.sysroot)),
        "command": printable_args([os.fsencode(word) for word in argv]),
        "exit_status": status,
        "output": output,
    }
