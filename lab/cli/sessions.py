# SPDX-License-Identifier: BSD-3-Clause
"""``shell``, ``run`` and ``reopen``: a fresh guest with the checkout and what was built for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from lab import guest, matrix
from lab.architectures import BY_NAME, Architecture
from lab.cli import talk
from lab.cli.talk import ExitCode, LabError
from lab.guest.terminal import Streams, own_terminal
from lab.host import guests, kept
from lab.inside import calls
from lab.matrix import Guest, Row

SOURCE = "/share"
"""Where the checkout is in a guest, read-only."""
_BIN = "/tmp/bin"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The package's own script is made at its installation, and here it is not installed.
_COMMAND = """#!/bin/sh
exec python3 -c 'from coresnap_cli.main import main; main()' "$@"
"""
_HELD = """\
The scenario of {row} is held, its process is $SCENARIO_PID, your directory is {place}.
  coresnap-dump $SCENARIO_PID -o mine.core --method stop      our core, or by fork
  kill -ABRT $SCENARIO_PID                                    the kernel's core, here
  echo verify >/proc/$SCENARIO_PID/fd/0; head -n 1 </proc/$SCENARIO_PID/fd/1
                                                              its own check: ok, or what is wrong
"""
_ITSELF = """\
This row dumps itself:
  echo dump-self stop mine.core >/proc/$SCENARIO_PID/fd/0; head -n 1 </proc/$SCENARIO_PID/fd/1
"""


@dataclass(frozen=True, kw_only=True)
class Session:
    """A guest that a command runs in: what stands before the command, and its environment."""

    vm: guest.Guest
    row: Row | None
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def stream(self, argv: Sequence[str], streams: Streams, **more: str) -> int:
        """The command with these streams; its exit status as shells tell it."""
        environment = {**self.environment, **more}
        status = self.vm.stream([*self.prefix, *argv], streams, env=environment)
        return 128 - status if status < 0 else status


def cross_build(architecture: Architecture) -> None:
    """Bring what runs in guests of the architecture up to date. Raises LabError."""
    script = talk.ROOT / "ci" / "cross"
    done = subprocess.run(
        [str(script), architecture.name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        raise LabError(
            f"coresnap cannot be built for {architecture.name}: ci/cross {architecture.name} ended "
            f"with {done.returncode}. Mend it, or take what was built before with --no-build. It "
            f"said:\n{done.stdout.rstrip()}"
        )


def _programs() -> Path:
    """Where scenarios are compiled to, and kept."""
    return Path(os.environ.get("CORESNAP_LAB_BUILD") or talk.ROOT / "build" / "lab" / "programs")


def find_row(name: str) -> Row:
    """The row of that name, or of a kept directory. Raises LabError."""
    directory = Path(name)
    if directory.is_dir():
        name = kept.read(directory) or name
    kernel = name.partition("/")[2].partition("/")[0]
    for each in matrix.ONCE:
        # Whatever the kernel: those of the long form have the same rows.
        row = replace(each, guest=replace(each.guest, kernel=kernel)) if each.guest else each
        if row.name != name:
            continue
        if row.guest is None:
            raise LabError(
                f"The row {name} is held on this machine, not in a guest. To see its cores: "
                f"CORESNAP_LAB_KEEP=1 pytest lab/tests -k '{name}'"
            )
        return row
    raise LabError(
        f"There is no row {name!r}. A row in a guest is ARCH/KERNEL/SCENARIO/WIDTH, as in "
        "arm/stock-6.1/fpu/arm; a failed test prints its own, and `pytest --collect-only -q "
        "--guests all lab/tests` lists them."
    )


@contextmanager
def opened(
    machine: Guest, *, row: Row | None = None, build: bool = True, writable: bool = False
) -> Iterator[Session]:
    """A fresh guest with the checkout mounted, and with a row, its programs and its scenario.

    Raises LabError and what guests raise.
    """
    if build and not os.environ.get("CORESNAP_CROSS"):
        cross_build(BY_NAME[machine.architecture])
    product = guests.product(machine.architecture)
    with ExitStack() as stack:
        vm = stack.enter_context(
            guests.ready(row, _programs(), share=talk.ROOT)
            if row
            else guests.fresh(machine, share=talk.ROOT)
        )
        vm.mount_share(SOURCE, read_only=not writable)
        if product.is_relative_to(talk.ROOT):
            place = f"{SOURCE}/{product.relative_to(talk.ROOT)}"
        else:
            place = "/tmp/product"
            vm.put_tree(place, product)
        vm.put({f"{_BIN}/coresnap": _COMMAND.encode()}, mode=0o755)
        environment = {
            "PATH": f"{_BIN}:{place}:{_PATH}",
            "PYTHONPATH": f"{place}/python:/run/lab",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": "/tmp",
            "PS1": f"{machine.name}:\\w\\$ ",
        }
        prefix = ("python3", "-m", "lab.inside.reopen", calls.pack(row)) if row else ()
        yield Session(vm=vm, row=row, prefix=prefix, environment=environment)


def _interactive(session: Session) -> int:
    """A shell: on the terminal if there is one, else it reads commands."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return session.stream(["bash", "--norc"], _own_streams())
    talk.say(
        f"{session.vm.name}: the checkout is at {SOURCE}, coresnap and coresnap-dump are on PATH, "
        "coresnap is on PYTHONPATH. Ctrl-D ends the guest and all that is in it."
    )
    if session.row is not None:
        talk.say(_HELD.format(row=session.row.name, place=calls.PLACE))
        if session.row.itself:
            talk.say(_ITSELF)
    with own_terminal() as (streams, environment):
        return session.stream(["bash", "--norc"], streams, **environment)


def _own_streams() -> Streams:
    sys.stdout.flush()
    return Streams(stdin=0, stdout=1, stderr=2)


with_kernel = click.option(
    "--kernel", metavar="NAME", default=matrix.STOCK, show_default=True, help="As `list` has them."
)
with_build = click.option(
    "--build/--no-build", default=True, help="Run ci/cross first; on unless told not to."
)
_writable = click.option(
    "--writable", is_flag=True, help=f"Mount the checkout at {SOURCE} to be written to."
)


@click.command()
@click.argument("architecture", metavar="ARCH", type=talk.OfArchitecture())
@with_kernel
@with_build
@_writable
def shell(architecture: Architecture, *, kernel: str, build: bool, writable: bool) -> int:
    """A shell in a fresh guest, with the checkout at /share and coresnap on PATH."""
    machine = Guest(architecture=architecture.name, kernel=kernel)
    with talk.told(ExitCode.LAB), opened(machine, build=build, writable=writable) as session:
        return _interactive(session)


@click.command()
@click.argument("architecture", metavar="ARCH", type=talk.OfArchitecture())
@click.argument("command", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED, required=True)
@with_kernel
@with_build
@_writable
def run(
    architecture: Architecture,
    *,
    command: tuple[str, ...],
    kernel: str,
    build: bool,
    writable: bool,
) -> int:
    """Run a command in a fresh guest; its output and its exit status are this command's.

    The two dashes keep options of the command from being taken for ours.
    """
    machine = Guest(architecture=architecture.name, kernel=kernel)
    with talk.told(ExitCode.LAB), opened(machine, build=build, writable=writable) as session:
        return session.stream(command, _own_streams())


@click.command()
@click.argument("row", metavar="ROW|DIRECTORY")
@with_build
@_writable
def reopen(row: str, *, build: bool, writable: bool) -> int:
    """A shell beside a row's scenario in the row's guest, as before the first dump.

    ROW is what a failed test prints, as arm/stock-6.1/fpu/arm; DIRECTORY one that it kept below
    build/lab/failed.
    """
    with talk.told(ExitCode.LAB):
        found = find_row(row)
        assert found.guest is not None
        with opened(found.guest, row=found, build=build, writable=writable) as session:
            return _interactive(session)
