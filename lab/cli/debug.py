# SPDX-License-Identifier: BSD-3-Clause
"""``gdb``: a process in a guest, debugged by gdb on this machine.

gdbserver speaks gdb's protocol on its standard input and output, which the agent's channel carries;
on this side gdb finds it behind a unix socket in the guest's private directory. Nothing listens for
anybody else.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from lab import qemu_images
from lab.architectures import Architecture
from lab.cache import Cache
from lab.cli import sessions, talk
from lab.cli.sessions import SOURCE, Session
from lab.cli.talk import ExitCode, LabError
from lab.guest.terminal import Streams
from lab.inside import calls
from lab.matrix import Guest
from lab.qemu_images import tools

_SOCKET = "remote.sock"
_ROOT = "root"
_NOT_FOR_GDB = ("etc", "var", "usr/share", "usr/lib/python3", "usr/lib/python3.11")
# Seconds in which gdb connects after its start, and in which gdbserver answers: guests are slow.
_PATIENCE = 60.0
# In the guest's shell: what to do, and the program's words on our standard error.
_START = 'exec gdbserver --once --no-startup-with-shell - "$@"'
_ATTACH = 'exec gdbserver --once --attach - "$SCENARIO_PID"'


def find_gdb() -> str:
    """A gdb for all architectures. Raises LabError."""
    found = shutil.which("gdb-multiarch")
    if found is None:
        raise LabError(
            "Processes in guests are debugged by gdb-multiarch on this machine, which is not "
            "installed: apt-get install gdb-multiarch"
        )
    return found


def sysroot(architecture: Architecture) -> Path:
    """The programs and libraries of the guests' image, unpacked for gdb; made once per image.

    Raises what images raise.
    """
    image = qemu_images.image(architecture)
    purpose = f"Unpacking the image of {architecture.name} for gdb"

    def make(to: Path) -> None:
        program = tools.find("fsck.erofs", package="erofs-utils", purpose=purpose)
        argv = [program, f"--extract={to / _ROOT}", "--no-preserve", str(image.path)]
        tools.run(argv, purpose=purpose)
        for name in _NOT_FOR_GDB:
            shutil.rmtree(to / _ROOT / name, ignore_errors=True)

    key = {"image": image.key}
    return Cache.default().entry("sysroots", architecture.name, key, make, mebibytes=300) / _ROOT


def here(program: str, root: Path) -> Path | None:
    """The file of this machine that is the guest's program: in the checkout, or below ``root``."""
    if program.startswith(f"{SOURCE}/"):
        path = talk.ROOT / program.removeprefix(f"{SOURCE}/")
    else:
        path = root / program.removeprefix("/")
    return path if path.is_file() else None


def arguments(
    gdb: str, remote: Path, *, root: Path, program: Path | None, more: Sequence[str] = ()
) -> list[str]:
    """gdb's command line. It runs and fetches nothing of its own accord."""
    # fmt: off
    argv = [
        gdb, "-nx", "-q",
        "-iex", "set auto-load off",
        "-iex", "set debuginfod enabled off",
        "-iex", f"set sysroot {root}",
        "-iex", f"set remotetimeout {_PATIENCE:.0f}",
        "-iex", f"set substitute-path {SOURCE} {talk.ROOT}",
    ]
    # fmt: on
    if program is not None:
        argv.append(f"--se={program}")
    return [*argv, "-ex", f"target remote {remote}", *more]


@contextmanager
def _listening(directory: Path) -> Iterator[tuple[socket.socket, Path]]:
    path = directory / _SOCKET
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        yield listener, path


def debug(
    session: Session, server: Sequence[str], argv: Sequence[str], listener: socket.socket
) -> int:
    """Run gdb, and gdbserver in the guest once gdb connects; gdb's exit status."""
    # Interrupts are gdb's, which stops the program by them. A handler is not inherited by it.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    gdb = subprocess.Popen(argv)
    ended = os.pidfd_open(gdb.pid)
    try:
        ready, _, _ = select.select([listener.fileno(), ended], [], [], _PATIENCE)
        if listener.fileno() in ready:
            connection, _ = listener.accept()
            with connection:
                both = connection.fileno()
                session.stream(server, Streams(stdin=both, stdout=both, stderr=2))
        elif not ready:
            raise LabError(f"gdb did not connect to the guest in {_PATIENCE:.0f} s and was ended.")
        return gdb.wait()
    finally:
        os.close(ended)
        gdb.kill()
        gdb.wait()
        signal.signal(signal.SIGINT, before)


def _resolved(session: Session, command: Sequence[str]) -> list[str]:
    """The command with its program's path in the guest. Raises LabError."""
    find = ["sh", "-c", 'command -v -- "$1"', "sh", command[0]]
    found = session.vm.run(find, env=session.environment, check=False)
    path = found.stdout.decode(errors="surrogateescape").strip()
    if found.status != 0 or not path.startswith("/"):
        raise LabError(
            f"The guest {session.vm.name} has no program {command[0]!r}. Name one of its image, or "
            f"one of the checkout by its path below {SOURCE}."
        )
    return [path, *command[1:]]


@click.command()
@click.argument("architecture", metavar="ARCH", type=talk.OfArchitecture())
@click.argument("command", metavar="-- PROGRAM ARGS...", nargs=-1, type=click.UNPROCESSED)
@click.option("--row", metavar="ROW", help="Attach to the held scenario of this row instead.")
@click.option("--ex", "commands", metavar="COMMAND", multiple=True, help="A command for gdb.")
@click.option("--batch", is_flag=True, help="End gdb after these commands.")
@sessions.with_kernel
@sessions.with_build
def gdb(
    architecture: Architecture,
    *,
    command: tuple[str, ...],
    row: str | None,
    commands: tuple[str, ...],
    batch: bool,
    kernel: str,
    build: bool,
) -> int:
    """Debug a program in a fresh guest by gdb-multiarch on this machine.

    The program is stopped at its first instruction; what it prints is on standard error.
    """
    if bool(command) == (row is not None):
        raise click.UsageError("name a program, as in: gdb arm -- ls /, or a --row, and not both")
    with talk.told(ExitCode.LAB):
        found = sessions.find_row(row) if row else None
        machine = Guest(architecture=architecture.name, kernel=kernel)
        if found is not None and found.guest is not None:
            machine = found.guest
        if machine.architecture != architecture.name:
            raise LabError(
                f"The row {row} is held on {machine.architecture}, not {architecture.name}"
            )
        path = find_gdb()
        more = [word for each in commands for word in ("-ex", each)]
        more = ["-batch", *more] if batch else more
        with (
            sessions.opened(machine, row=found, build=build) as session,
            _listening(session.vm.directory) as (listener, remote),
        ):
            root = sysroot(architecture)
            if command:
                words = _resolved(session, command)
                server = ["sh", "-c", _START, "sh", *words]
                program = here(words[0], root)
            else:
                server = ["sh", "-c", _ATTACH]
                program = session.vm.directory / "scenario"
                session.vm.get(str(calls.PROGRAMS.scenario), program)
            argv = arguments(path, remote, root=root, program=program, more=more)
            return debug(session, server, argv, listener)
