# SPDX-License-Identifier: BSD-3-Clause
"""Where the kernel puts a core: the words of core_pattern (core(5); Linux fs/coredump.c)."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_PATTERN = Path("/proc/sys/kernel/core_pattern")
_USES_PID = Path("/proc/sys/kernel/core_uses_pid")
_HOSTNAME = Path("/proc/sys/kernel/hostname")
_WORD = re.compile(rb"%(.?)", re.DOTALL)
_CATCH = re.compile(rb"\|(?:[^ ]*)/coresnap-catch %P %c(?: +|$)")
UNKNOWN = b"\0"
"""Stands for a number that is not known here; core_pattern holds no zero byte."""
# Numbers that are not known before, or that nobody needs to know.
_NUMBERS = frozenset(b"PiIugdstc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What a process brings into the name of its core; bytes as the kernel has them.

    ``pid`` is its number as it sees it itself.
    """

    pid: int
    comm: bytes
    executable: bytes
    hostname: bytes

    @classmethod
    def of(cls, pid: int) -> "Naming":
        """That of a running process. Raises OSError if it cannot be read."""
        place = Path("/proc") / str(pid)
        status = (place / "status").read_bytes()
        numbers = re.search(rb"^NSpid:\s*(.*)$", status, re.MULTILINE)
        try:
            executable = os.readlink(os.fsencode(place / "exe"))
        except FileNotFoundError:  # a kernel thread, which the kernel will refuse to dump
            executable = b""
        return cls(
            pid=int(numbers[1].split()[-1]) if numbers else pid,
            comm=(place / "comm").read_bytes().removesuffix(b"\n"),
            executable=executable.removesuffix(b" (deleted)"),
            hostname=_HOSTNAME.read_bytes().strip(),
        )

    def word(self, letter: bytes) -> bytes | None:
        """What the kernel writes for a ``%`` and this letter; None for a number not known here."""
        if letter in (b"", b"%"):
            return letter
        if letter[0] in _NUMBERS:
            return None
        known = {
            b"p": b"%d" % self.pid,
            b"e": _escaped(self.comm),
            b"f": _escaped(self.executable.rpartition(b"/")[2]),
            b"E": _escaped(self.executable),
            b"h": _escaped(self.hostname),
        }
        return known.get(letter, b"")


def _escaped(text: bytes) -> bytes:
    """As cn_esc_printf() does it, so that no name leads to another directory."""
    if text in (b".", b".."):
        text = b"!" + text[1:]
    return text.replace(b"/", b"!") or b"!"


@dataclass(frozen=True, slots=True)
class CorePattern:
    """The system's core_pattern, as the kernel has it: up to 127 bytes of anything."""

    text: bytes
    uses_pid: bool

    @classmethod
    def current(cls) -> "CorePattern":
        """That of this system. Raises OSError if the kernel writes no cores."""
        return cls(
            text=_PATTERN.read_bytes().removesuffix(b"\n"),
            uses_pid=_USES_PID.read_bytes().strip() != b"0",
        )

    @property
    def handler(self) -> str | None:
        """The program that gets the core, with its arguments; None if it goes to a file."""
        return os.fsdecode(self.text[1:]) if self.text.startswith(b"|") else None

    @property
    def is_catch(self) -> bool:
        """Is it coresnap-catch, as its manual has it (src/livedump_setup.c)?"""
        return _CATCH.match(self.text) is not None

    @property
    def crash_handler(self) -> str | None:
        """The program that gets the core of a crash, also by way of coresnap-catch."""
        if not self.is_catch:
            return self.handler
        return os.fsdecode(_CATCH.sub(b"", self.text)) or None

    def path(self, naming: Naming) -> bytes:
        """Of a core of this process, if it goes to a file, with UNKNOWN for each unknown number."""

        def word(found: re.Match[bytes]) -> bytes:
            known = naming.word(found[1])
            return UNKNOWN if known is None else known

        path = _WORD.sub(word, self.text)
        if self.uses_pid and b"%p" not in self.text.replace(b"%%", b""):
            path += b".%d" % naming.pid
        return path

    def name(self, naming: Naming) -> re.Pattern[bytes]:
        """What the path of a core of this process matches as a whole, if it goes to a file."""
        return _matching(self.path(naming))


def _matching(path: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\d+".join(map(re.escape, path.split(UNKNOWN))))


def files(path: bytes, pid: int) -> list[Path]:
    """The files that a core of the process could be, by CorePattern.path(), those there are now.

    They are found by way of the process, so its root and working directory are the right ones. A
    path whose directory holds a number that is not known here has none.
    """
    directory, _, last = path.rpartition(b"/")
    if UNKNOWN in directory:
        return []
    root = Path("/proc", str(pid), "root" if path.startswith(b"/") else "cwd")
    where = root / os.fsdecode(directory).lstrip("/")
    wanted = _matching(last)
    try:
        found = [entry for entry in os.listdir(os.fsencode(where)) if wanted.fullmatch(entry)]
    except OSError:
        return []
    return sorted(where / os.fsdecode(entry) for entry in found)
