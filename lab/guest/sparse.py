# SPDX-License-Identifier: BSD-3-Clause
"""Files with holes, in pieces; for both ends of the channel."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from lab.guest.wire import CHUNK


def extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data: (start, end). All of it where the file system cannot tell."""
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            if error.errno not in (errno.EINVAL, errno.ESPIPE):
                raise
            start, end = at, size
        yield start, min(end, size)
        at = end


def pieces(descriptor: int, size: int) -> Iterator[tuple[int, memoryview]]:
    """The data of a file: (offset, bytes); each is valid until the next. Holes are left out."""
    buffer = memoryview(bytearray(CHUNK))
    for start, end in extents(descriptor, size):
        at = start
        while at < end:
            count = os.preadv(descriptor, [buffer[: min(CHUNK, end - at)]], at)
            if count == 0:  # it has been truncated meanwhile
                return
            yield at, buffer[:count]
            at += count


def write_at(descriptor: int, view: memoryview, at: int) -> None:
    """Write all of a view at an offset."""
    while view:
        count = os.pwrite(descriptor, view, at)
        view, at = view[count:], at + count
