# SPDX-License-Identifier: BSD-3-Clause
"""QEMU's machine protocol, as much of it as the life of a guest needs."""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Any

Message = dict[str, Any]


class QmpFailed(Exception):
    """QEMU refused a command, ended, or said nothing in time."""


class Qmp:
    """A connected QMP socket. Each wait ends at a deadline, in seconds from the call."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""
        self._events: list[Message] = []
        self._greeted = False

    def execute(
        self,
        name: str,
        arguments: Message | None = None,
        *,
        descriptor: int | None = None,
        deadline: float,
    ) -> Any:
        """Run a command, with a descriptor for it if given; its result. Error: QmpFailed."""
        end = time.monotonic() + deadline
        if not self._greeted:
            self._message(end)
            self._greeted = True
            self.execute("qmp_capabilities", deadline=deadline)
        request: Message = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        line = json.dumps(request).encode() + b"\r\n"
        try:
            if descriptor is None:
                self._socket.sendall(line)
            else:
                socket.send_fds(self._socket, [line], [descriptor])
        except OSError as error:
            raise QmpFailed(f"QEMU does not take the command {name}: {error.strerror}") from None
        while True:
            message = self._message(end)
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise QmpFailed(f"QEMU refused the command {name}: {message['error'].get('desc')}")
            self._events.append(message)

    def wait_event(self, *names: str, deadline: float) -> Message:
        """The first event with one of the names, those that came earlier included."""
        end = time.monotonic() + deadline
        while True:
            for index, event in enumerate(self._events):
                if event.get("event") in names:
                    del self._events[: index + 1]
                    return event
            self._events.append(self._message(end))

    def _message(self, end: float) -> Message:
        while b"\n" not in self._buffer:
            remaining = end - time.monotonic()
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            if remaining <= 0 or not poll.poll(remaining * 1000):
                raise QmpFailed("QEMU did not answer in time")
            try:
                data = self._socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                raise QmpFailed("QEMU ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise QmpFailed(f"QEMU said {line!r}")
        return message
