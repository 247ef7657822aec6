# SPDX-License-Identifier: BSD-3-Clause
"""Programs in a guest with a human or another program at their streams."""

from __future__ import annotations

import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lab.guest.agent import STDERR
from lab.guest.errors import GuestError
from lab.guest.link import Link
from lab.guest.wire import Header

_PIECE = 1 << 14
_ROWS, _COLUMNS = 24, 80

Window = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Streams:
    """Our descriptors that become a program's streams.

    Without ``stderr`` both outputs go to ``stdout``, as they do on a terminal. ``window`` tells
    rows and columns, if it is to run on one; it is asked again whenever something has happened.
    """

    stdin: int
    stdout: int
    stderr: int | None = None
    window: Callable[[], Window | None] = lambda: None

    def size(self) -> Window:
        """Rows and columns for the guest; (0, 0) is no terminal."""
        window = self.window()
        if window is None:
            return 0, 0
        # A terminal that does not know its size says 0.
        return window[0] or _ROWS, window[1] or _COLUMNS


def relay(link: Link, request: int, streams: Streams) -> Header:
    """Within ``asked``: carry a program's streams until it ends; the answer.

    What is typed goes out in small pieces, and only while the channel has room for one, so that
    host and guest never both wait for the other to read.
    """
    stdin: int | None = streams.stdin
    size = streams.size()

    def take(header: Header, view: memoryview) -> None:
        output = streams.stdout
        if header["fd"] == STDERR and streams.stderr is not None:
            output = streams.stderr
        while view:
            view = view[os.write(output, view) :]

    while True:
        ready = link.await_input(stdin)
        if streams.size() != size:
            size = streams.size()
            link.follow(request, {"rows": size[0], "columns": size[1]})
        if stdin is not None and stdin in ready:
            typed = _read(stdin)
            link.follow(request, {} if typed else {"end": True}, typed)
            if not typed:
                stdin = None
        if -1 in ready:
            answer = link.answer(request, take)
            if answer is not None:
                return answer


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _PIECE)
    except OSError:  # a terminal or socket that was closed
        return b""


@contextlib.contextmanager
def own_terminal() -> Iterator[tuple[Streams, dict[str, str]]]:
    """This process's terminal, raw, for a shell in a guest; with the environment it needs.

    Error: GuestError if this process has none.
    """
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    if not (os.isatty(stdin) and os.isatty(stdout)):
        raise GuestError(
            "A shell in a guest needs a terminal, and this process's input or output is none. Run "
            "it from a terminal, or run one command instead of a shell."
        )

    def window() -> Window:
        columns, rows = os.get_terminal_size(stdout)
        return rows or 24, columns or 80  # a serial line tells no size

    before = termios.tcgetattr(stdin)
    try:
        tty.setraw(stdin)
        environment = {"TERM": os.environ.get("TERM", "dumb")}
        yield Streams(stdin=stdin, stdout=stdout, window=window), environment
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
