# SPDX-License-Identifier: BSD-3-Clause
"""Frames on the one channel between the host and a guest's agent; both ends run this file.

A frame is a prefix (magic, length of the header, length of the payload; little endian), a header of
JSON, and a payload of raw bytes. Standard library only: this file goes into the guest.

Requests are frames with an "op" and an "id"; all frames that answer carry that id. What belongs to
a request but may be long (a file's contents, a program's output) comes in frames of its own, of at
most CHUNK bytes, before the answer that ends it. So an error can be told in the middle, and neither
side holds more than a chunk.
"""

from __future__ import annotations

import json
import os
import select
import struct
from collections.abc import Callable
from typing import Any

Header = dict[str, Any]

CHUNK = 1 << 20
_PREFIX = struct.Struct("<4sIQ")
_MAGIC = b"lab\x01"
_MAX_HEADER = 4 << 20
_MAX_PAYLOAD = 64 << 20
# The driver of virtio-serial gives at most one page for each segment of a readv(), but goes on with
# the next segment while pages are full (drivers/char/virtio_console.c, port_fops_read).
_SEGMENT = 4096
_SEGMENTS = 256


class Closed(Exception):
    """The other end of the channel is gone."""


class Garbled(Exception):
    """What came is no frame, or no frame that may come now."""


class Channel:
    """Frames over a descriptor that is read and written.

    ``wait`` is called with poll()'s events before each read and write, and may raise; without it
    the descriptor blocks. With ``paged`` reads are made for virtio-serial in a guest.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        wait: Callable[[int], None] | None = None,
        paged: bool = False,
    ) -> None:
        self.descriptor = descriptor
        self._wait = wait
        self._paged = paged
        self._buffer = bytearray(CHUNK)

    def send(self, header: Header, payload: bytes | bytearray | memoryview = b"") -> None:
        """Send one frame. Errors: Closed, and what ``wait`` raises."""
        text = json.dumps(header, separators=(",", ":")).encode()
        body = memoryview(payload).cast("B")
        if len(text) > _MAX_HEADER or len(body) > _MAX_PAYLOAD:
            raise ValueError(f"a frame of {len(text)} + {len(body)} bytes is too long to be sent")
        first = memoryview(_PREFIX.pack(_MAGIC, len(text), len(body)) + text)
        while first or body:
            parts = [part for part in (first, body) if part]
            sent = self._write(parts)
            body = body[max(0, sent - len(first)) :]
            first = first[sent:]

    def receive(self) -> tuple[Header, memoryview]:
        """Wait for one frame. The payload is valid until the next call.

        Errors: Closed; Garbled; what ``wait`` raises.
        """
        magic, header_length, length = _PREFIX.unpack(self._read(_PREFIX.size))
        if magic != _MAGIC or header_length > _MAX_HEADER or length > _MAX_PAYLOAD:
            raise Garbled(f"this is no frame: {magic!r}, {header_length} + {length} bytes")
        try:
            header = json.loads(bytes(self._read(header_length)))
        except ValueError as error:
            raise Garbled(f"a frame's header is not JSON: {error}") from None
        if not isinstance(header, dict):
            raise Garbled(f"a frame's header is no object: {header!r}")
        return header, self._read(length)

    def _read(self, length: int) -> memoryview:
        """Read exactly so many bytes into the buffer that all reads share."""
        if length > len(self._buffer):
            self._buffer = bytearray(length)
        whole = memoryview(self._buffer)[:length]
        rest = whole
        while rest:
            rest = rest[self._read_some(rest) :]
        return whole

    def _read_some(self, view: memoryview) -> int:
        parts = [view]
        if self._paged:
            end = min(len(view), _SEGMENT * _SEGMENTS)
            parts = [view[at : min(at + _SEGMENT, end)] for at in range(0, end, _SEGMENT)]
        while True:
            if self._wait is not None:
                self._wait(select.POLLIN)
            try:
                count = os.readv(self.descriptor, parts)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                count = 0
            if count == 0:
                raise Closed
            return count

    def _write(self, parts: list[memoryview]) -> int:
        while True:
            if self._wait is not None:
                self._wait(select.POLLOUT)
            try:
                return os.writev(self.descriptor, parts)
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                raise Closed from None
