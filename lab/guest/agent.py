# SPDX-License-Identifier: BSD-3-Clause
"""The agent: serves the host's requests inside a guest, one after the other.

Standard library only. It imports what calls will need before the guest's state is taken, so that a
call in a restored guest is a fork of a warm process.

Each request ends in one answer with the request's id and "ok"; an exception is an answer as well.
Frames that carry a request's data, and what the host types into a program, have no "op".
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import importlib
import json
import os
import pty
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn, cast

from lab.guest.sparse import pieces, write_at
from lab.guest.supervision import Supervision, set_window
from lab.guest.wire import CHUNK, Channel, Closed, Garbled, Header

PROTOCOL = 1
STDOUT, STDERR, RESULT = 1, 2, 3
"""The numbers under which a program's output and a call's result go out."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207


class Refused(Exception):
    """A request that this agent does not serve."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request: its id, its header and the header's payload."""

    id: int
    fields: Header
    payload: bytes

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


def serve(channel: Channel, *, owns_machine: bool = False) -> None:
    """Say hello, then serve requests until the host asks for the end or is gone.

    Only with ``owns_machine`` may requests change the machine: its clock and its mounts.
    """
    with contextlib.suppress(Closed):
        channel.send({"hello": PROTOCOL, "python": sys.version.split()[0], "pid": os.getpid()})
        agent = Agent(channel, owns_machine=owns_machine)
        while agent.serve_one():
            pass


class Agent:
    """The requests, by name: a method takes a Request and returns what the answer carries."""

    def __init__(self, channel: Channel, *, owns_machine: bool) -> None:
        self._channel = channel
        self._owns_machine = owns_machine
        self._ended = False
        self._operations: dict[str, Callable[[Request], Header]] = {
            "ping": self._ping,
            "warm": self._warm,
            "wake": self._wake,
            "mount": self._mount,
            "end": self._end,
            "put": self._put,
            "unpack": self._unpack,
            "get": self._get,
            "run": self._run,
            "stream": self._stream,
            "call": self._call,
        }

    def serve_one(self) -> bool:
        """Serve one request. False: it was the last."""
        header, payload = self._channel.receive()
        if "op" not in header:  # typed for a program that has ended meanwhile
            return True
        request = Request(id=header["id"], fields=header, payload=bytes(payload))
        answer: Header = {"id": request.id, "ok": True}
        try:
            operation = self._operations.get(request["op"])
            if operation is None:
                raise Refused(f"there is no operation {request['op']!r}")
            answer |= operation(request)
        except (Closed, Garbled):
            raise
        except Exception as error:  # noqa: BLE001 -- whatever it is, the host is told
            answer = {"id": request.id, "ok": False, "error": described(error)}
        self._channel.send(answer)
        return not self._ended

    def _must_own_machine(self) -> None:
        if not self._owns_machine:
            raise Refused("this agent does not own the machine that it runs on")

    # The machine

    def _ping(self, _request: Request) -> Header:
        """Answer."""
        return {"clock": time.time_ns()}

    def _warm(self, request: Request) -> Header:
        """Import ``modules`` and keep the collector away from what is there by now."""
        for name in request["modules"]:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()
        return {}

    def _wake(self, request: Request) -> Header:
        """Set the clock to ``clock`` (ns since 1970); the payload, if any, reseeds the CRNG."""
        self._must_own_machine()
        time.clock_settime_ns(time.CLOCK_REALTIME, request["clock"])
        if request.payload:
            size = len(request.payload)
            with open("/dev/urandom", "wb", buffering=0) as random:
                entropy = struct.pack("ii", 8 * size, size) + request.payload
                fcntl.ioctl(random, _RNDADDENTROPY, entropy)
                fcntl.ioctl(random, _RNDRESEEDCRNG)
        return {}

    def _mount(self, request: Request) -> Header:
        """Mount the 9p share ``tag`` at ``path``."""
        self._must_own_machine()
        Path(request["path"]).mkdir(parents=True, exist_ok=True)
        mode = "ro" if request["read_only"] else "rw"
        options = f"trans=virtio,version=9p2000.L,msize=512000,access=any,{mode}"
        argv = ["mount", "-t", "9p", "-o", options, request["tag"], request["path"]]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode != 0:
            raise OSError(errno.EIO, done.stderr.decode(errors="replace").strip())
        return {}

    def _end(self, _request: Request) -> Header:
        """Write everything out and end; in a guest the init then powers off."""
        os.sync()
        self._ended = True
        return {}

    # Files

    def _put(self, request: Request) -> Header:
        """Make the file ``path`` of ``size`` bytes and ``mode`` of the frames that follow."""
        with self._following(request) as frames:
            path = Path(request["path"])
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(path, flags, request["mode"])
            try:
                os.fchmod(descriptor, request["mode"])
                os.ftruncate(descriptor, request["size"])
                for header, view in frames:
                    write_at(descriptor, view, header["at"])
            finally:
                os.close(descriptor)
        return {}

    def _unpack(self, request: Request) -> Header:
        """Unpack the tar archive in the frames that follow below the directory ``path``."""
        with self._following(request) as frames:
            Path(request["path"]).mkdir(parents=True, exist_ok=True)
            reader = cast(IO[bytes], _Reader(frames))
            with tarfile.open(fileobj=reader, mode="r|") as archive:
                archive.extractall(request["path"])
        return {}

    def _get(self, request: Request) -> Header:
        """Send the data of the file ``path`` in frames, without its holes. Answer: size, mode."""
        descriptor = os.open(request["path"], os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), request["path"])
            size = status.st_size
            if size:
                for at, piece in pieces(descriptor, size):
                    self._channel.send({"id": request.id, "at": at}, piece)
            else:  # files of /proc have no size, and say more than that
                size = self._send_to_end(request.id, descriptor)
        finally:
            os.close(descriptor)
        return {"size": size, "mode": stat.S_IMODE(status.st_mode)}

    def _send_to_end(self, request_id: int, descriptor: int) -> int:
        buffer = memoryview(bytearray(CHUNK))
        at = 0
        while count := os.readv(descriptor, [buffer]):
            self._channel.send({"id": request_id, "at": at}, buffer[:count])
            at += count
        return at

    @contextlib.contextmanager
    def _following(self, request: Request) -> Iterator[Iterator[tuple[Header, memoryview]]]:
        """The frames that follow a request. All are taken, whatever becomes of the first."""

        def frames() -> Iterator[tuple[Header, memoryview]]:
            while True:
                header, view = self._channel.receive()
                if header.get("id") != request.id or "op" in header:
                    raise Garbled(f"a frame that is not part of request {request.id}: {header}")
                if header.get("end"):
                    return
                yield header, view

        following = frames()
        try:
            yield following
        finally:
            for _ in following:
                pass

    # Programs

    def _run(self, request: Request) -> Header:
        """Run ``argv``; its output goes out in frames. Answer: status, late.

        The program leads a session of its own, with ``env`` added to a small environment. Its
        process group is killed after ``deadline`` seconds.
        """
        with self._spawned(request, stdin=bool(request.payload)) as (supervision, stdin):
            if stdin is not None:
                supervision.feed(stdin, request.payload, then_close=True)
            return supervision.until_end()

    def _stream(self, request: Request) -> Header:
        """Run ``argv`` with the host at its streams, on a terminal if ``rows`` is not 0."""
        if request["rows"]:
            return self._on_terminal(request)
        with self._spawned(request, stdin=True) as (supervision, stdin):
            if stdin is not None:
                supervision.interact(stdin, terminal=False)
            return supervision.until_end()

    @contextlib.contextmanager
    def _spawned(
        self, request: Request, *, stdin: bool
    ) -> Iterator[tuple[Supervision, int | None]]:
        """A program and the descriptor of its input, its output on the way to the host."""
        argv = request["argv"]
        uid, gid = request["uid"], request["gid"]
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=request["cwd"],
                env=environment(request["env"]),
                user=uid,
                group=gid,
                extra_groups=None if uid is None else [],
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            # Without a name a working directory that is missing looks like a missing program.
            raise OSError(error.errno, error.strerror, error.filename or argv[0]) from None
        supervision = Supervision(self._channel, request.id, child.pid, request["deadline"])
        for number, stream in ((STDOUT, child.stdout), (STDERR, child.stderr)):
            if stream is not None:
                supervision.forward(stream.fileno(), number)
        try:
            yield supervision, None if child.stdin is None else child.stdin.fileno()
        finally:
            # Supervision has waited for it; Popen must not wait for that pid again.
            child.returncode = 0
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()

    def _on_terminal(self, request: Request) -> Header:
        pid, terminal = pty.fork()
        if pid == 0:
            argv = request["argv"]
            try:
                os.chdir(request["cwd"])
                os.execvpe(argv[0], argv, environment(request["env"]))
            except OSError as error:
                os.write(2, f"{argv[0]}: {error.strerror}\r\n".encode())
            finally:
                os._exit(127)
        os.set_inheritable(terminal, False)
        set_window(terminal, request["rows"], request["columns"])
        supervision = Supervision(self._channel, request.id, pid, request["deadline"])
        supervision.forward(terminal, STDOUT)
        supervision.interact(terminal, terminal=True)
        try:
            return supervision.until_end()
        finally:
            os.close(terminal)

    def _call(self, request: Request) -> Header:
        """Call ``function`` ("module:name") with keywords from the payload, in a forked child.

        Its output goes out in frames like a program's. Answer: status and late as of a program; the
        value or the error goes before it, as JSON in frames of the number RESULT.
        """
        pipes = {number: os.pipe() for number in (STDOUT, STDERR, RESULT)}
        pid = os.fork()
        if pid == 0:
            self._be_called(request, {number: pipe[1] for number, pipe in pipes.items()})
        supervision = Supervision(self._channel, request.id, pid, request["deadline"])
        for number, (mine, other) in pipes.items():
            os.close(other)
            supervision.forward(mine, number)
        try:
            return supervision.until_end()
        finally:
            for mine, _ in pipes.values():
                os.close(mine)

    def _be_called(self, request: Request, streams: dict[int, int]) -> NoReturn:
        status = 70
        try:
            os.setsid()
            os.close(self._channel.descriptor)
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            for descriptor, number in ((null, 0), (streams[STDOUT], 1), (streams[STDERR], 2)):
                os.dup2(descriptor, number)
            # Python ignores these two; programs that are started from here must not.
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            answer = json.dumps(_answer_of_call(request)).encode()
            sys.stdout.flush()
            sys.stderr.flush()
            rest = memoryview(answer)
            while rest:
                rest = rest[os.write(streams[RESULT], rest) :]
            status = 0
        finally:
            # Whatever happens, this process must not go on as a second agent.
            os._exit(status)


class _Reader:
    """The frames of a request as a file to read from, for tarfile."""

    def __init__(self, frames: Iterator[tuple[Header, memoryview]]) -> None:
        self._frames = frames
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """So many bytes, or less at the end."""
        taken = bytearray()
        while len(taken) < size:
            if not self._rest:
                frame = next(self._frames, None)
                if frame is None:
                    break
                self._rest = frame[1]
            part = self._rest[: size - len(taken)]
            self._rest = self._rest[len(part) :]
            taken += part
        return bytes(taken)


def _answer_of_call(request: Request) -> Header:
    try:
        os.chdir(request["cwd"])
        module, _, name = request["function"].partition(":")
        function: Any = importlib.import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
        value = function(**json.loads(request.payload))
        json.dumps(value)
        return {"value": value}
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- it is the host's to judge
        return {"error": described(error)}


def environment(added: dict[str, str]) -> dict[str, str]:
    """What programs get to see: a small environment, and what the host added."""
    return {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"} | added


def described(error: BaseException) -> Header:
    """An exception as JSON."""
    return {
        "type": type(error).__name__,
        "text": str(error),
        "errno": error.errno if isinstance(error, OSError) else None,
        "traceback": "".join(traceback.format_exception(error)),
    }
