# SPDX-License-Identifier: BSD-3-Clause
"""A guest: from its start to its end, and what can be asked of it in between."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.guest.agent import PROTOCOL, RESULT, STDERR, STDOUT
from lab.guest.console import TAIL_LINES
from lab.guest.emulator import Emulator
from lab.guest.errors import BootFailed, CallFailed, GuestLost, Loss, ProgramFailed, RestoreFailed
from lab.guest.link import REQUEST, Link
from lab.guest.machine import SHARE_TAG, Machine
from lab.guest.qmp import Qmp, QmpFailed
from lab.guest.sparse import pieces, write_at
from lab.guest.terminal import Streams, own_terminal, relay
from lab.guest.wire import CHUNK, Closed, Garbled, Header

BOOT = 300.0
"""Seconds from QEMU's start to the agent's hello; an idle host needs ten."""
RESTORE = 60.0
"""Seconds from QEMU's start to the first answer of a restored guest; an idle host needs one."""
PROGRAM = 180.0
"""Seconds for a program or a call in the guest, unless told otherwise."""
GRACE = 30.0
"""Seconds beyond its deadline in which the guest may still say that a program met it."""

# Seconds; poll(2) counts milliseconds in an int.
_FOREVER = float(1 << 21)

Output = Callable[[int, bytes], None]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A program that ended: exit status, negative for a signal, and what it printed."""

    status: int
    stdout: bytes
    stderr: bytes


class Guest:
    """A running guest. A context manager: at its end QEMU is gone, whatever happened.

    All methods raise GuestLost when the guest dies, panics, hangs or talks nonsense.
    """

    def __init__(self, machine: Machine, *, name: str, state: Path | None = None) -> None:
        """Start QEMU. Use ``boot`` or ``restore``, which also wait for the agent."""
        self.name = name
        self.machine = machine
        self._emulator = Emulator(machine, state=state)
        loss = BootFailed if state is None else RestoreFailed
        self._link = Link(self._emulator, guest=name, loss=loss)
        self._qmp = Qmp(self._emulator.qmp)

    @classmethod
    def boot(cls, machine: Machine, *, name: str, deadline: float = BOOT) -> Self:
        """Boot a guest and wait for its agent. Errors: QemuMissing, BootFailed."""
        guest = cls(machine, name=name)
        with guest._closed_on_error(), guest._link.asked("booting", deadline):
            hello = guest._link.hello()
            if hello.get("hello") != PROTOCOL:
                raise Garbled(f"its agent's first words are {hello}")
        guest._link.loss = GuestLost
        return guest

    @classmethod
    def restore(
        cls,
        machine: Machine,
        state: Path,
        *,
        name: str,
        reseed: bool = True,
        deadline: float = RESTORE,
    ) -> Self:
        """Wake a guest from a state file: clock set, and unless told not, CRNG reseeded.

        Errors: QemuMissing, RestoreFailed.
        """
        guest = cls(machine, name=name, state=state)
        doing = "waking from its state file"
        with guest._closed_on_error():
            with guest._link.asked(doing, deadline):
                # QEMU drops what comes before the devices have their state, so wait for that.
                status = guest._qmp.execute("query-status", deadline=deadline)["status"]
                if status == "inmigrate":
                    guest._qmp.wait_event("RESUME", deadline=deadline)
            guest._link.request(
                "wake",
                {"clock": time.time_ns()},
                os.urandom(64) if reseed else b"",
                doing=doing,
                deadline=deadline,
            )
        guest._link.loss = GuestLost
        return guest

    # Files

    def put(self, files: Mapping[str, bytes | Path], *, mode: int = 0o644) -> None:
        """Make files in the guest, by path, with their directories. Holes of a source stay holes.

        ``mode`` is the files' permissions. Error: RequestFailed.
        """
        for path, source in files.items():
            fields: Header = {"path": path, "mode": stat.S_IMODE(mode)}
            doing = f"taking the file {path}"
            if isinstance(source, bytes):
                fields["size"] = len(source)
                parts = _pieces_of_bytes(source)
                self._link.send_file("put", fields, parts, doing=doing, size=len(source))
                continue
            with source.open("rb") as file:
                status = os.fstat(file.fileno())
                fields["size"] = status.st_size
                parts = pieces(file.fileno(), status.st_size)
                data = 512 * status.st_blocks
                self._link.send_file("put", fields, parts, doing=doing, size=data)

    def put_tree(self, path: str, source: Path) -> None:
        """Copy the files below a directory into a directory of the guest. Error: RequestFailed."""
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
                archive.add(source, arcname=".", filter=_as_root)
            file.flush()
            size = file.tell()
            self._link.send_file(
                "unpack",
                {"path": path},
                pieces(file.fileno(), size),
                doing=f"taking the directory {path}",
                size=size,
            )

    def get(self, path: str, to: Path, *, deadline: float = PROGRAM) -> None:
        """Fetch a file; its holes stay holes and its mode is kept. Error: RequestFailed."""
        with to.open("wb") as file:
            answer = self._link.request(
                "get",
                {"path": path},
                doing=f"giving the file {path}",
                deadline=deadline,
                take=lambda header, view: write_at(file.fileno(), view, header["at"]),
            )
            os.ftruncate(file.fileno(), answer["size"])
            os.fchmod(file.fileno(), answer["mode"])

    def read(self, path: str, *, deadline: float = PROGRAM) -> bytes:
        """The contents of a file, those of /proc included. Error: RequestFailed."""
        contents = bytearray()

        def take(header: Header, view: memoryview) -> None:
            contents.extend(bytes(header["at"] - len(contents)))
            contents.extend(view)

        answer = self._link.request(
            "get",
            {"path": path},
            doing=f"giving the file {path}",
            deadline=deadline,
            take=take,
        )
        return bytes(contents.ljust(answer["size"], b"\0"))

    # Programs

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/tmp",
        uid: int | None = None,
        gid: int | None = None,
        stdin: bytes = b"",
        deadline: float = PROGRAM,
        check: bool = True,
        output: Output | None = None,
    ) -> Finished:
        """Run a program in the guest and wait for its end.

        ``env`` is added to a small environment. The program is killed in the guest at ``deadline``
        seconds. ``output(1 or 2, bytes)`` is called as it prints. Errors: RequestFailed if it
        cannot be started, ProgramFailed if it was late or, with ``check``, has a status but 0.
        """
        words = [str(word) for word in argv]
        fields = _program(words, env=env, cwd=cwd, deadline=deadline)
        fields |= {"uid": uid, "gid": uid if gid is None else gid}
        outputs, late, status = self._supervised("run", fields, stdin, f"running {words}", output)
        finished = Finished(
            status=status, stdout=bytes(outputs[STDOUT]), stderr=bytes(outputs[STDERR])
        )
        if late or (check and status != 0):
            raise self._failed(" ".join(words), fields, finished, late=late)
        return finished

    def call(
        self,
        function: str,
        /,
        *,
        deadline: float = PROGRAM,
        output: Output | None = None,
        **arguments: Any,
    ) -> Any:
        """Call ``module:function`` with keywords in a fork of the warm agent; its value.

        Arguments and value are JSON. The call is killed in the guest at ``deadline`` seconds, and
        ``output(1 or 2, bytes)`` gets what it prints. Errors: CallFailed if it raised,
        ProgramFailed if it died or was late.
        """
        fields: Header = {"function": function, "cwd": "/tmp", "deadline": deadline}
        outputs, late, status = self._supervised(
            "call",
            fields,
            json.dumps(arguments).encode(),
            f"calling {function}",
            output,
        )
        if late or status != 0 or not outputs[RESULT]:
            finished = Finished(
                status=status, stdout=bytes(outputs[STDOUT]), stderr=bytes(outputs[STDERR])
            )
            raise self._failed(function, fields, finished, late=late)
        result = json.loads(outputs[RESULT])
        if "error" not in result:
            return result["value"]
        error = result["error"]
        printed = (outputs[STDOUT] + outputs[STDERR]).decode(errors="backslashreplace")
        text = f"In the guest {self.name} {function} raised:\n{error['traceback'].rstrip()}"
        if printed.strip():
            text += f"\nIt had printed:\n{printed.rstrip()}"
        raise CallFailed(text, kind=error["type"], reason=error["text"], output=printed)

    def stream(
        self,
        argv: Sequence[str],
        streams: Streams,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/tmp",
        deadline: float | None = None,
    ) -> int:
        """Run a program with our descriptors as its streams; its status, negative for a signal.

        ``deadline`` is in seconds; None is for ever. Error: RequestFailed if it cannot be started.
        """
        words = [str(word) for word in argv]
        fields = _program(words, env=env, cwd=cwd, deadline=deadline)
        rows, columns = streams.size()
        fields |= {"uid": None, "gid": None, "rows": rows, "columns": columns}
        forever = _FOREVER if deadline is None else deadline + GRACE
        with self._link.asked(f"running {words}", forever):
            request = self._link.start("stream", fields)
            return int(relay(self._link, request, streams)["status"])

    def shell(self) -> int:
        """An interactive shell in the guest on this process's terminal; its status."""
        with own_terminal() as (streams, environment):
            return self.stream(["bash"], streams, env=environment, cwd="/")

    # The machine

    def ping(self, *, deadline: float = REQUEST) -> None:
        """Ask whether the guest is there."""
        self._link.request("ping", doing="asked whether it is there", deadline=deadline)

    def warm(self, modules: Sequence[str]) -> None:
        """Import modules into the agent, for all calls to come. Error: RequestFailed."""
        self._link.request("warm", {"modules": list(modules)}, doing="importing modules")

    def mount_share(self, path: str = "/share", *, read_only: bool = False) -> None:
        """Mount the host's shared directory; from then on no state can be taken.

        Error: RequestFailed.
        """
        fields = {"path": path, "tag": SHARE_TAG, "read_only": read_only}
        self._link.request("mount", fields, doing=f"mounting the share at {path}")

    def power_off(self, *, deadline: float = REQUEST) -> None:
        """Write everything out, let the guest power off and wait for QEMU's end."""
        doing = "powering off"
        self._link.request("end", doing=doing, deadline=deadline)
        with self._link.asked(doing, deadline), contextlib.suppress(Closed):
            raise Garbled(f"after its last words it said {self._link.hello()}")
        self._emulator.ended()

    def save_state(self, path: Path, *, deadline: float = RESTORE) -> None:
        """Write the guest's state to a new file. The guest does not run on after it."""
        with self._link.asked("its state was saved", deadline), path.open("xb") as file:

            def execute(name: str, arguments: dict[str, Any]) -> None:
                self._qmp.execute(name, arguments, deadline=deadline)

            # QEMU's default is 128 MiB/s, as for a network.
            execute("migrate-set-parameters", {"max-bandwidth": 1 << 40})
            events = {"capability": "events", "state": True}
            execute("migrate-set-capabilities", {"capabilities": [events]})
            self._qmp.execute(
                "getfd", {"fdname": "state"}, descriptor=file.fileno(), deadline=deadline
            )
            execute("migrate", {"uri": "fd:state"})
            status = ""
            while status != "completed":
                event = self._qmp.wait_event("MIGRATION", deadline=deadline)
                status = event["data"]["status"]
                if status in ("failed", "cancelled"):
                    raise QmpFailed(f"Writing its state {status}")

    def qmp(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Run a command of QEMU's own. Error: QmpFailed."""
        return self._qmp.execute(name, dict(arguments or {}), deadline=REQUEST)

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._emulator.process.pid

    @property
    def directory(self) -> Path:
        """QEMU's private directory; it goes with the guest."""
        return self._emulator.directory

    @property
    def argv(self) -> list[str]:
        """QEMU's command line."""
        return list(self._emulator.argv)

    def console_tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of the console, safe to print."""
        self._link.drain_console()
        return self._link.console.tail(lines)

    def keep(self, directory: Path) -> None:
        """Copy what QEMU and the console said into a directory."""
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("console.log", "qemu.log"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(self.directory / name, directory / name)

    def check_console(self) -> None:
        """Raise GuestLost if the guest's kernel reported a bug of its own."""
        self._link.drain_console()
        trouble = self._link.console.trouble
        if trouble is not None:
            raise self._link.lost(Loss.PANICKED, f"its console says '{trouble}'.")

    def close(self) -> None:
        """Kill QEMU and remove what it left."""
        self._emulator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None and not self._link.told:
                self.check_console()
        finally:
            self.close()

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _supervised(
        self, name: str, fields: Header, payload: bytes, doing: str, output: Output | None
    ) -> tuple[dict[int, bytearray], bool, int]:
        """What a program printed by number, whether it was late, and its status."""
        outputs = {number: bytearray() for number in (STDOUT, STDERR, RESULT)}

        def take(header: Header, view: memoryview) -> None:
            outputs[header["fd"]] += view
            if output is not None and header["fd"] != RESULT:
                output(header["fd"], bytes(view))

        deadline = fields["deadline"] + GRACE
        answer = self._link.request(
            name, fields, payload, doing=doing, deadline=deadline, take=take
        )
        return outputs, answer["late"], answer["status"]

    def _failed(
        self, what: str, fields: Header, finished: Finished, *, late: bool
    ) -> ProgramFailed:
        if late:
            how = f"did not end within {fields['deadline']:g} s and was killed"
        elif finished.status < 0:
            how = f"was killed by signal {-finished.status}"
        else:
            how = f"ended with status {finished.status}"
        text = f"In the guest {self.name} {what} {how}."
        for name, said in (("stdout", finished.stdout), ("stderr", finished.stderr)):
            if said.strip():
                text += f"\n{name}:\n{said.decode(errors='backslashreplace').rstrip()}"
        return ProgramFailed(
            text,
            status=finished.status,
            late=late,
            stdout=finished.stdout,
            stderr=finished.stderr,
        )


def _program(
    argv: list[str], *, env: Mapping[str, str] | None, cwd: str, deadline: float | None
) -> Header:
    return {"argv": argv, "env": dict(env or {}), "cwd": cwd, "deadline": deadline}


def _pieces_of_bytes(data: bytes) -> Iterator[tuple[int, memoryview]]:
    view = memoryview(data)
    for at in range(0, len(data), CHUNK):
        yield at, view[at : at + CHUNK]


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
