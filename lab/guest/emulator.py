# SPDX-License-Identifier: BSD-3-Clause
"""A QEMU process, its private directory, and the promise that it does not outlive us."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from lab.architectures import Architecture
from lab.guest.errors import QemuMissing
from lab.guest.machine import BOARDS, SHARE_DIRECTORY, Machine, Wires, command

_PREFIX = "coresnap-guest-"
_DEATH = 10.0
# The signal at the parent's death is lost if the parent died before it was asked for; then the
# parent is somebody else already.
_UNLESS_ORPHAN = 'test "$PPID" = "$0" && exec "$@"'


class Emulator:
    """A running QEMU with its three connections: console, channel to the agent, QMP."""

    def __init__(self, machine: Machine, *, state: Path | None = None) -> None:
        """Start QEMU; with a state file it wakes up from that. Error: QemuMissing."""
        require(machine.architecture)
        self.machine = machine
        self._resources = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            self.directory = undo.enter_context(private_directory())
            (self.directory / SHARE_DIRECTORY).mkdir()
            self.console, console = _pair(undo)
            self.channel, channel = _pair(undo)
            self.qmp, qmp = _pair(undo)
            inherited = [console.fileno(), channel.fileno(), qmp.fileno()]
            opened = None
            if state is not None:
                opened = undo.enter_context(state.open("rb")).fileno()
                inherited.append(opened)
            wires = Wires(
                console=console.fileno(),
                channel=channel.fileno(),
                qmp=qmp.fileno(),
                state=opened,
            )
            self.argv = command(machine, wires)
            self.process = _start(self.argv, inherited, self.directory)
            for ours in (console, channel, qmp):
                ours.close()
            self._resources = undo.pop_all()

    def said(self) -> str:
        """What QEMU itself said on its standard error."""
        return (self.directory / "qemu.log").read_text(errors="backslashreplace").strip()

    def ended(self) -> str:
        """Wait for QEMU's end, by force if need be, and say how it was."""
        try:
            status = self.process.wait(_DEATH)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(_DEATH)
            return "QEMU closed its connections and did not end"
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended ({status})"
        said = self.said()
        return f"QEMU {how}" + (f" and said: {said}" if said else "")

    def close(self) -> None:
        """Kill QEMU, if it still runs, and remove its directory."""
        with self._resources:
            self.process.kill()
            self.process.wait(_DEATH)


@cache
def require(architecture: Architecture) -> str:
    """The version of QEMU for an architecture. Error: QemuMissing, which names the package."""
    package = BOARDS[architecture.name].package
    mend = f"On Debian, 'apt-get install {package}' installs it."
    try:
        said = subprocess.run(
            [architecture.qemu, "--version"], capture_output=True, check=True, timeout=60, text=True
        )
    except FileNotFoundError:
        raise QemuMissing(
            f"The guest for {architecture.name} needs the emulator {architecture.qemu}, which is "
            f"not installed. {mend}"
        ) from None
    except (OSError, subprocess.SubprocessError) as error:
        raise QemuMissing(
            f"The emulator {architecture.qemu}, which the guest for {architecture.name} needs, "
            f"does not even tell its version: {error}. {mend}"
        ) from None
    return said.stdout.splitlines()[0]


@contextlib.contextmanager
def private_directory() -> Iterator[Path]:
    """A directory that nobody else can enter; it is locked for as long as it is used."""
    directory, lock = _locked_directory()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _locked_directory() -> tuple[Path, int]:
    """A new one and its lock; another one if prune() came before the lock."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if os.fstat(lock).st_nlink:
                return directory, lock
            os.close(lock)


def prune() -> int:
    """Remove the directories of users that were killed; how many there were."""
    count = 0
    for directory in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(directory)
                    count += 1
            finally:
                os.close(lock)
    return count


def _pair(stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    """Our end, which does not block, and QEMU's."""
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    stack.enter_context(theirs)
    ours.setblocking(False)
    return ours, theirs


def _start(argv: list[str], inherited: list[int], directory: Path) -> subprocess.Popen[bytes]:
    """Start QEMU so that the kernel kills it when we end, however that comes about."""
    # fmt: off
    safe = [
        "setpriv", "--pdeathsig", "KILL",
        "sh", "-c", _UNLESS_ORPHAN, str(os.getpid()),
        *argv,
    ]
    # fmt: on

    def start() -> subprocess.Popen[bytes]:
        with (directory / "qemu.log").open("wb") as log:
            return subprocess.Popen(
                safe,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory,
                pass_fds=inherited,
                start_new_session=True,
            )

    return _starter(os.getpid()).submit(start).result()


@cache
def _starter(pid: int) -> ThreadPoolExecutor:  # noqa: ARG001 -- a fork needs a thread of its own
    """The thread that starts all QEMUs: the signal comes when the thread that forked ends."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="qemu-starter")
