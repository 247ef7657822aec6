# SPDX-License-Identifier: BSD-3-Clause
"""Where the reader's bytes come from: random access to a file, with its holes."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Iterator
from typing import IO, Protocol


class Source(Protocol):
    """Random access to the bytes of a file.

    What a damaged core says of itself is asked for as well: where there is no byte, and be it
    further than a file can reach, there are none.
    """

    size: int

    def pread(self, offset: int, size: int) -> bytes: ...

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int]]: ...

    def close(self) -> None: ...


class FileSource:
    """A regular file by descriptor: positioned reads, holes found by SEEK_DATA."""

    def __init__(self, fd: int, *, owned: bool) -> None:
        self._fd = fd
        self._owned = owned
        self.size = os.fstat(fd).st_size

    def pread(self, offset: int, size: int) -> bytes:
        if not 0 <= offset < self.size:
            return b""
        size = min(size, self.size - offset)
        data = os.pread(self._fd, size, offset)
        if len(data) == size or not data:
            return data
        pieces = [data]
        got = len(data)
        while got < size and (data := os.pread(self._fd, size - got, offset + got)):
            pieces.append(data)
            got += len(data)
        return b"".join(pieces)

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        # A file system that keeps no track of holes calls the whole file data, which is right too.
        while start < end:
            try:
                data = os.lseek(self._fd, start, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            if data >= end:
                return
            hole = min(os.lseek(self._fd, data, os.SEEK_HOLE), end)
            yield data, hole
            start = hole

    def close(self) -> None:
        if self._owned and self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class ObjectSource:
    """A seekable binary file object without a descriptor; everything counts as data."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self.size = stream.seek(0, io.SEEK_END)

    def pread(self, offset: int, size: int) -> bytes:
        if not 0 <= offset < self.size:
            return b""
        with self._lock:
            self._stream.seek(offset)
            return self._stream.read(min(size, self.size - offset))

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        end = min(end, self.size)
        if start < end:
            yield start, end

    def close(self) -> None:
        """The object belongs to the caller."""


def source_of(stream: IO[bytes]) -> Source:
    """A file object by its descriptor if it stands for a regular file, else by its methods."""
    try:
        fd = stream.fileno()
    except (AttributeError, OSError):
        return ObjectSource(stream)
    # Compressed file objects have the descriptor of the compressed file.
    raw = getattr(stream, "raw", stream)
    if isinstance(raw, io.FileIO) and stat.S_ISREG(os.fstat(fd).st_mode):
        return FileSource(fd, owned=False)
    return ObjectSource(stream)
