# SPDX-License-Identifier: BSD-3-Clause
"""A file whose reads hang: a server of /dev/fuse in a few lines, as guests have no library for it.

A thread that reads it sleeps uninterruptibly (state D) until the server answers or ends: it waits
for a page of the file. With FOPEN_DIRECT_IO it would wait for the answer itself: interruptibly at
first (Linux 6.1), and what is answered after a fork might not reach its memory (open(2), O_DIRECT).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import struct
import threading
from pathlib import Path
from types import TracebackType

import pytest

from lab.patience import DEADLINE

_DEVICE = Path("/dev/fuse")
# include/uapi/linux/fuse.h
_GETATTR, _OPEN, _READ, _INIT = 3, 14, 15, 26
_UNANSWERED = (2, 36, 42)  # FORGET, INTERRUPT, BATCH_FORGET
_MAJOR, _MINOR = 7, 22
_DIRECT_IO = 1  # of an open file
_ASYNC_READ = 1  # who reads waits for the page, not for the answer
_REQUEST = struct.Struct("<IIQQIIII")
_ANSWER = struct.Struct("<IiQ")
_BUFFER = 1 << 17
_REGULAR = 0o100444
_MNT_DETACH = 2


class HungFile:
    """A mounted file of which each read hangs until ``let_go`` answers it by "x".

    With ``direct`` each reaches the server, also those of one page.
    """

    def __init__(self, path: Path, *, direct: bool = False) -> None:
        self.path = path
        self._open_flags = _DIRECT_IO if direct else 0
        self._held: list[int] = []
        self._answers = False
        self._libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            pytest.skip(f"no {_DEVICE} here: {error.strerror}")
        path.touch()
        options = f"fd={self._device},rootmode={_REGULAR:o},user_id=0,group_id=0,allow_other"
        if self._libc.mount(b"hung", os.fsencode(path), b"fuse", 0, options.encode()):
            number = ctypes.get_errno()
            os.close(self._device)
            pytest.skip(f"fuse cannot be mounted here: {os.strerror(number)}")
        self._end, self._ended = os.pipe()
        self._server = threading.Thread(target=self._serve, daemon=True)
        self._server.start()

    def hanging(self) -> int:
        """How many reads hang."""
        return len(self._held)

    def let_go(self) -> None:
        """Answer what hangs, and whatever comes."""
        self._answers = True
        self._answer_held()

    def _answer_held(self) -> None:
        with contextlib.suppress(IndexError):  # the server may do so at the same time
            while True:
                self._answer(self._held.pop(), b"x")

    def _serve(self) -> None:
        while self._end not in select.select([self._device, self._end], [], [])[0]:
            try:
                request = os.read(self._device, _BUFFER)
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                raise
            _, operation, unique, *_ = _REQUEST.unpack_from(request)
            if operation == _READ:
                self._held.append(unique)
                if self._answers:
                    self._answer_held()
            elif operation == _INIT:
                init = struct.pack("<IIIIHHI", _MAJOR, _MINOR, 4096, _ASYNC_READ, 1, 1, 4096)
                self._answer(unique, init)
            elif operation == _GETATTR:
                attributes = struct.pack("<6Q10I", 1, 1, 1, 0, 0, 0, 0, 0, 0, _REGULAR, 1, *[0] * 5)
                self._answer(unique, struct.pack("<QII", 1 << 20, 0, 0) + attributes)
            elif operation == _OPEN:
                self._answer(unique, struct.pack("<QII", 0, self._open_flags, 0))
            elif operation not in _UNANSWERED:
                self._answer(unique, b"", -errno.ENOSYS)

    def _answer(self, unique: int, body: bytes, error: int = 0) -> None:
        os.write(self._device, _ANSWER.pack(_ANSWER.size + len(body), error, unique) + body)

    def __enter__(self) -> HungFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._libc.umount2(os.fsencode(self.path), _MNT_DETACH)
        os.close(self._ended)
        self._server.join(DEADLINE)
        os.close(self._end)
        # Whatever still hangs fails now.
        os.close(self._device)
