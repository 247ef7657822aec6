# SPDX-License-Identifier: BSD-3-Clause
"""The host's end of the channel: requests, deadlines, and what becomes of one in vain.

Whoever waits here watches the guest's console too. A guest that is gone, panicked or does not
answer is told as GuestLost; only an answer with the request's id is a success.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from lab.guest.console import Console
from lab.guest.emulator import Emulator
from lab.guest.errors import BootFailed, GuestLost, Loss, RequestFailed
from lab.guest.qmp import QmpFailed
from lab.guest.wire import Channel, Closed, Garbled, Header

REQUEST = 60.0
"""Seconds for a request that is done at once."""

_LAST_WORDS = 5.0
_SLOWEST = 1 << 20  # bytes a second, for the deadline of transfers

Take = Callable[[Header, memoryview], None]


class Link:
    """Requests to one guest. ``loss`` is the error that losing it raises, ``told`` that it was."""

    def __init__(self, emulator: Emulator, *, guest: str, loss: type[GuestLost]) -> None:
        self.guest = guest
        self.loss = loss
        self.console = Console()
        self.told = False
        self._emulator = emulator
        self._doing = "starting"
        self._end = 0.0
        self._last_id = 0
        self._descriptor = emulator.channel.fileno()
        self._channel = Channel(self._descriptor, wait=self._await_channel)

    @contextlib.contextmanager
    def asked(self, doing: str, deadline: float) -> Iterator[None]:
        """While something is asked of the guest, for ``deadline`` seconds at most."""
        self._doing = doing
        self._end = time.monotonic() + deadline
        try:
            yield
        except Closed:
            how = self._emulator.ended()
            self.drain_console()
            trouble = self.console.trouble
            if trouble is None:
                raise self.lost(Loss.DIED, f"{how}.") from None
            raise self.lost(Loss.PANICKED, f"its console says '{trouble}', and {how}.") from None
        except Garbled as error:
            raise self.lost(Loss.CONFUSED, f"{error}.") from None
        except QmpFailed as error:
            said = self._emulator.said()
            raise self.lost(
                Loss.DIED, f"{error}." + (f" QEMU said: {said}" if said else "")
            ) from None

    def hello(self) -> Header:
        """Within ``asked``: the agent's first words."""
        return self._channel.receive()[0]

    def request(
        self,
        name: str,
        fields: Header | None = None,
        payload: bytes = b"",
        *,
        doing: str,
        deadline: float = REQUEST,
        take: Take | None = None,
    ) -> Header:
        """Ask and wait for the answer; data on the way to it goes to ``take``.

        Errors: GuestLost, RequestFailed; what ``take`` raises, once the guest has answered.
        """
        failure: list[Exception] = []

        wanted = take or _take_nothing

        def take_all(header: Header, view: memoryview) -> None:
            try:
                if not failure:
                    wanted(header, view)
            except Garbled:
                raise
            except Exception as error:  # noqa: BLE001 -- raised below
                failure.append(error)

        with self.asked(doing, deadline):
            request = self.start(name, fields or {}, payload)
            answer = None
            while answer is None:
                answer = self.answer(request, take_all)
        if failure:
            raise failure[0]
        return answer

    def send_file(
        self,
        name: str,
        fields: Header,
        pieces: Iterable[tuple[int, bytes | memoryview]],
        *,
        doing: str,
        size: int,
    ) -> None:
        """Ask to take ``size`` bytes, in pieces with their offsets. Errors as of ``request``."""
        with self.asked(doing, REQUEST + size / _SLOWEST):
            request = self.start(name, fields)
            try:
                for at, piece in pieces:
                    self.follow(request, {"at": at}, piece)
            finally:
                self.follow(request, {"end": True})
                self.answer(request, _take_nothing)

    def start(self, name: str, fields: Header, payload: bytes = b"") -> int:
        """Within ``asked``: send a request; its id."""
        self._last_id += 1
        self._channel.send({"op": name, "id": self._last_id} | fields, payload)
        return self._last_id

    def follow(self, request: int, fields: Header, data: bytes | memoryview = b"") -> None:
        """Within ``asked``: send data that belongs to a request."""
        self._channel.send({"id": request} | fields, data)

    def answer(self, request: int, take: Take) -> Header | None:
        """Within ``asked``: the answer, or None for data before it, which ``take`` has got.

        Error: RequestFailed.
        """
        header, view = self._channel.receive()
        if header.get("id") != request:
            raise Garbled(f"the answer to request {request} is {header}")
        if "ok" not in header:
            take(header, view)
            return None
        if header["ok"] is True:
            return header
        error = header["error"]
        raise RequestFailed(
            guest=self.guest,
            doing=self._doing,
            kind=error["type"],
            text=error["text"],
            errno=error["errno"],
        )

    def await_input(self, other: int | None) -> set[int]:
        """Within ``asked``: wait for the channel or another descriptor; which of them has input.

        The channel is told as -1.
        """
        wanted = {self._descriptor: select.POLLIN}
        if other is not None:
            wanted[other] = select.POLLIN
        return {-1 if each == self._descriptor else each for each in self._wait(wanted)}

    def lost(self, loss: Loss, why: str) -> GuestLost:
        """The error for a guest that was lost, with its console."""
        self.told = True
        self.drain_console()
        if self.console.silent:
            console = "Since QEMU was started it printed nothing on its console."
        else:
            console = f"The last lines of its console:\n{self.console.tail()}"
        return self.loss(guest=self.guest, loss=loss, doing=self._doing, why=why, console=console)

    def drain_console(self) -> bool:
        """Take what the console has. False: it is closed."""
        while True:
            try:
                data = self._emulator.console.recv(1 << 16)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            self.console.feed(data)

    def _await_channel(self, events: int) -> None:
        self._wait({self._descriptor: events})

    def _wait(self, wanted: Mapping[int, int]) -> set[int]:
        """Wait until one of the descriptors is ready, and keep the console empty meanwhile."""
        poll = select.poll()
        console = self._emulator.console.fileno()
        poll.register(console, select.POLLIN)
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        while True:
            remaining = self._end - time.monotonic()
            ready = {descriptor for descriptor, _ in poll.poll(max(0.0, remaining) * 1000)}
            if console in ready:
                well = self.console.trouble is None
                if not self.drain_console():
                    poll.unregister(console)
                if well and self.console.trouble is not None:
                    # The rest of the report, and QEMU's end, are due now.
                    self._end = min(self._end, time.monotonic() + _LAST_WORDS)
            if wanted.keys() & ready:
                return set(wanted.keys() & ready)
            if remaining <= 0:
                raise self._overdue()

    def _overdue(self) -> GuestLost:
        if self.console.trouble is not None:
            return self.lost(Loss.PANICKED, f"its console says '{self.console.trouble}'.")
        booting = self.loss is BootFailed
        loss = Loss.SILENT if booting and self.console.silent else Loss.HUNG
        return self.lost(
            loss,
            "it did not answer before the deadline. If the host is very busy, try again with "
            "less beside it; else its console may tell what it waits for.",
        )


def _take_nothing(header: Header, _view: memoryview) -> None:
    raise Garbled(f"it sent data that nobody asked for: {header}")
