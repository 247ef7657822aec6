# SPDX-License-Identifier: BSD-3-Clause
"""Waits for a child of the agent, and carries its streams to and from the host."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
import termios
import time

from lab.guest.wire import Channel, Garbled, Header

_PIPE = 1 << 16


class Supervision:
    """One child: its output, its input and its deadline (in seconds from now, or None).

    The child leads a process group. Descriptors stay the caller's to close.
    """

    def __init__(self, channel: Channel, request: int, pid: int, deadline: float | None) -> None:
        self._channel = channel
        self._request = request
        self._pid = pid
        self._end = None if deadline is None else time.monotonic() + deadline
        self._late = False
        self._outputs: dict[int, int] = {}
        self._input: int | None = None
        self._pending = b""
        self._close_input = False
        self._interactive = False
        self._terminal = False
        self._pidfd = os.pidfd_open(pid)
        self._poll = select.poll()
        self._poll.register(self._pidfd, select.POLLIN)

    def forward(self, descriptor: int, number: int) -> None:
        """Carry what comes from a descriptor to the host, under that number."""
        os.set_blocking(descriptor, False)
        self._outputs[descriptor] = number
        self._poll.register(descriptor, select.POLLIN)

    def feed(self, descriptor: int, data: bytes, *, then_close: bool) -> None:
        """Write data to a descriptor as it is taken."""
        os.set_blocking(descriptor, False)
        self._input = descriptor
        self._pending = data
        self._close_input = then_close
        self._watch_input()

    def interact(self, descriptor: int, *, terminal: bool) -> None:
        """Carry what the host types to a descriptor."""
        self._interactive = True
        self._terminal = terminal
        self.feed(descriptor, b"", then_close=False)

    def until_end(self) -> Header:
        """Carry it all until the child has ended. Its status is negative for a signal.

        What others write later, through descriptors that they inherited, is not waited for.
        """
        try:
            while not self._step():
                pass
        finally:
            os.close(self._pidfd)
        _, status = os.waitpid(self._pid, 0)
        for descriptor in list(self._outputs):
            while self._carry(descriptor):
                pass
        return {"status": os.waitstatus_to_exitcode(status), "late": self._late}

    def _step(self) -> bool:
        """Wait once. True: the child has ended."""
        ended = False
        for descriptor, _ in self._poll.poll(self._patience()):
            if descriptor == self._pidfd:
                ended = True
            elif descriptor == self._channel.descriptor:
                self._take_input()
            if descriptor in self._outputs:
                self._carry(descriptor)
            if descriptor == self._input:
                self._push()
        if not ended and self._end is not None and time.monotonic() >= self._end:
            self._late = True
            self._end = None
            # The group may be another one by now, the child is a zombie at worst.
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError):
                    kill(self._pid, signal.SIGKILL)
        return ended

    def _patience(self) -> float | None:
        if self._end is None:
            return None
        return max(0.0, self._end - time.monotonic()) * 1000

    def _carry(self, descriptor: int) -> bool:
        """Send what a descriptor has. False: nothing now, or nothing ever."""
        try:
            data = os.read(descriptor, _PIPE)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # how a terminal says that nobody has it open
                raise
            data = b""
        if data:
            header = {"id": self._request, "fd": self._outputs[descriptor]}
            self._channel.send(header, data)
            return True
        del self._outputs[descriptor]
        self._poll.unregister(descriptor)
        if descriptor == self._input:
            self._input = None
        return False

    def _take_input(self) -> None:
        header, view = self._channel.receive()
        if header.get("id") != self._request or "op" in header:
            raise Garbled(f"a frame that is not part of request {self._request}: {header}")
        if self._input is None:
            return
        if "rows" in header:
            if self._terminal:
                set_window(self._input, header["rows"], header["columns"])
            return
        self._pending += bytes(view)
        if header.get("end"):
            if self._terminal:
                self._pending += b"\x04"
            else:
                self._close_input = True
        self._watch_input()

    def _push(self) -> None:
        """Write what the input takes of what is pending."""
        if self._input is None or not self._pending:
            return
        try:
            count = os.write(self._input, self._pending[:_PIPE])
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self._pending = b""
            self._close_input = True
        else:
            self._pending = self._pending[count:]
        self._watch_input()

    def _watch_input(self) -> None:
        """Ask poll() for what can happen next: room if data waits, else more from the host."""
        if self._input is None:
            return
        if self._interactive:
            events = 0 if self._pending else select.POLLIN
            self._poll.register(self._channel.descriptor, events)
        events = select.POLLIN if self._input in self._outputs else 0
        if self._pending:
            events |= select.POLLOUT
        if events:
            self._poll.register(self._input, events)
        else:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._input)
        if self._close_input and not self._pending and not self._terminal:
            # The caller closes the descriptor; the pipe behind it is let go of now.
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, self._input, inheritable=False)
            os.close(null)
            self._input = None


def set_window(terminal: int, rows: int, columns: int) -> None:
    """Tell a terminal its size in characters."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
