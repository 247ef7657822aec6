# SPDX-License-Identifier: BSD-3-Clause
"""A core that is read while it is written.

R: the thread that reads   W: the thread that dumps   pipe: W writes, R reads

R: makes the pipe, starts W, waits until there is a byte or the end of file
W: dumps into the pipe; keeps the result or the exception; then closes its end
R: at the end of file: joins W, raises what it kept
R: closes early: cancels the dump, joins W, closes the pipe (so W never sees EPIPE)
"""

import contextlib
import fcntl
import io
import os
import select
import threading
import weakref
from types import TracebackType

from ._ffi import Dump, Options, Output
from .errors import Cancelled, CoresnapError, Incomplete
from .result import DumpResult

BUFFER_SIZE = 1 << 20


class _Job:
    # What R and W share. It knows nothing of the stream object, so that a forgotten one can be
    # collected, which cancels the dump.

    def __init__(self, pid: int | None, options: Options, dump: Dump) -> None:
        self.dump = dump
        self.result: DumpResult | None = None
        self.error: BaseException | None = None
        self.read_fd, write_fd = os.pipe()
        # Fewer switches between the two threads; beyond the user's limit the default has to do.
        with contextlib.suppress(OSError):
            fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, BUFFER_SIZE)
        # A daemon, so that an unclosed stream cannot hold up the end of the program: then
        # weakref.finalize() calls abandon() first.
        self.thread = threading.Thread(
            target=self._run, args=(pid, options, write_fd), name="coresnap", daemon=True
        )
        try:
            self.thread.start()
        except BaseException:
            os.close(write_fd)
            os.close(self.read_fd)
            raise

    def _run(self, pid: int | None, options: Options, write_fd: int) -> None:
        try:
            self.result = self.dump.run(pid, Output(fd=write_fd), options)
        except Incomplete as incomplete:
            self.result = incomplete.result
            self.error = incomplete
        except BaseException as error:  # noqa: BLE001 (raised again by the reading thread)
            self.error = error
        finally:
            os.close(write_fd)

    def wait_for_output(self) -> bool:
        # Until there is a byte to read, or W has ended without one.
        poll = select.poll()
        poll.register(self.read_fd, select.POLLIN)
        [(_, events)] = poll.poll()
        return bool(events & select.POLLIN)

    def abandon(self) -> None:
        self.dump.cancel()
        self.thread.join()
        os.close(self.read_fd)


class _Raw(io.RawIOBase):
    def __init__(self, job: _Job) -> None:
        self.job = job
        self.raised: BaseException | None = None
        self._abandon = weakref.finalize(self, job.abandon)

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        self._check_open()
        return self.job.read_fd

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        self._check_open()
        n = os.readv(self.job.read_fd, [buffer])
        if n == 0 and len(buffer) > 0:
            self.check_end()
        return n

    def check_end(self) -> None:
        self.job.thread.join()
        # An incomplete core is read to its end like any other; close() tells.
        if self.job.error is not None and not isinstance(self.job.error, Incomplete):
            self.raised = self.job.error
            raise self.job.error

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        self._abandon()
        error = self.job.error
        if error is not None and error is not self.raised and not isinstance(error, Cancelled):
            raise error

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed stream")


class DumpStream(io.BufferedReader):
    """The bytes of a core, as a binary file object to read from; made by open_stream().

    A dump that fails raises at the read that would report the end, so that a torn core is never
    taken for a whole one. One that is only incomplete ends like any other, and close() raises
    Incomplete then. Closing early cancels the dump and waits until it is undone: the target runs
    on. close() also raises an error that no read has raised yet; at the end of a ``with`` block
    that is left by an exception it raises nothing.

    ``fileno()`` is the reading end of a pipe, fit for ``subprocess`` as long as nothing was read
    from the stream itself; then only close() tells whether the dump succeeded, so close after the
    other program has ended.

    Not for use by several threads at once.
    """

    def __init__(self, pid: int | None, options: Options, dump: Dump) -> None:
        self._dump_raw = _Raw(_Job(pid, options, dump))
        super().__init__(self._dump_raw, BUFFER_SIZE)
        try:
            # Nothing is read yet: what would be in the buffer would be missing in fileno().
            if not self._dump_raw.job.wait_for_output():
                self._dump_raw.check_end()
        except BaseException:
            with contextlib.suppress(CoresnapError):
                self.close()
            raise

    @property
    def result(self) -> DumpResult | None:
        """What the dump did, once it has ended well; None before, and when it failed."""
        return self._dump_raw.job.result

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if raised is None:
            self.close()
            return
        with contextlib.suppress(CoresnapError):
            self.close()
