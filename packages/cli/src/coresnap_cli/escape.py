# SPDX-License-Identifier: BSD-3-Clause
"""Make text of a target or a core safe to show.

Names, arguments and paths of a process are bytes that somebody else chose. They may hold terminal
escape sequences, line breaks, bidirectional overrides or invalid UTF-8. Everything that is not
plainly printable is shown as a backslash escape, in tables and in JSON alike.
"""

from __future__ import annotations

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def text_of(value: str | bytes) -> str:
    """The characters of `value`; bytes that are not UTF-8 become lone surrogates."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value


def _escape_char(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # what surrogateescape made of an invalid byte
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def printable(value: str | bytes) -> str:
    """`value` on one line, reversible: a backslash in it is doubled.

    str.isprintable() is false for controls, format characters (bidirectional overrides among
    them), surrogates, private use, unassigned code points and all separators but the space.
    """
    return "".join(
        "\\\\" if char == "\\" else char if char.isprintable() else _escape_char(char)
        for char in text_of(value)
    )


def printable_line(value: str | bytes) -> str:
    """A line of another program's output with only the dangerous characters escaped.

    Unlike printable() this leaves backslashes alone: the text was escaped once already by the
    program that wrote it. Tabs become spaces.
    """
    return "".join(
        char if char.isprintable() else _escape_char(char) for char in text_of(value).expandtabs()
    )


def printable_args(args: list[bytes] | tuple[bytes, ...] | list[str] | tuple[str, ...]) -> str:
    """An argument vector on one line; arguments with spaces or quotes are quoted."""
    shown = []
    for arg in args:
        text = printable(arg)
        if not text or any(char in text for char in " \"'"):
            text = '"' + text.replace('"', '\\"') + '"'
        shown.append(text)
    return " ".join(shown)
