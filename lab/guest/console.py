# SPDX-License-Identifier: BSD-3-Clause
"""A guest's console: kept, and watched for what no guest recovers from."""

from __future__ import annotations

import re

TAIL_LINES = 40
_KEPT = 1 << 20
# What the kernel says when it dies or has found a bug of its own, and what the guest's init says.
_TROUBLE = re.compile(
    rb"Kernel panic - not syncing[^\r\n]*"
    rb"|(?:Internal error: )?\bOops\b[^\r\n]*"
    rb"|\bBUG: [^\r\n]*"
    rb"|\bkernel BUG at [^\r\n]*"
    rb"|LAB-INIT FAILED[^\r\n]*"
)
_OVERLAP = 512


class Console:
    """The last of what a guest printed, and the first trouble in it."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._seen = 0
        self._trouble: str | None = None

    def feed(self, data: bytes) -> None:
        """Take what the guest printed."""
        self._text += data
        if self._trouble is None:
            found = _TROUBLE.search(self._text, max(0, self._seen - _OVERLAP))
            if found is not None:
                self._trouble = printable(found.group())
        if len(self._text) > 2 * _KEPT:
            del self._text[:-_KEPT]
        self._seen = len(self._text)

    @property
    def trouble(self) -> str | None:
        """The first line that says the guest's kernel or init failed."""
        return self._trouble

    @property
    def silent(self) -> bool:
        """Nothing was printed at all."""
        return not self._text

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines, with each control character as its escape."""
        last = bytes(self._text).replace(b"\r", b"").rstrip(b"\n").split(b"\n")[-lines:]
        return "\n".join(printable(line) for line in last)


def printable(line: bytes) -> str:
    """One line as text that does nothing to a terminal."""
    text = line.decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode()
        for char in text
    )
