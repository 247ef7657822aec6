# SPDX-License-Identifier: BSD-3-Clause
"""Read what the command needs of an executable or library: build-id, symbols, bytes.

The file may be anything, also something hostile or cut short: every failure to understand it is
told as ElfError.
"""

from __future__ import annotations

import os
import stat
import struct
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from elftools.common.exceptions import ELFError
from elftools.construct.core import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from elftools.elf.segments import NoteSegment

_FUNCTION_TYPES = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
_SHN_UNDEF = 0
_EM_ARM = 40
_NAME_MAX = 4096
# What pyelftools raises on files that are not what they say.
_CONFUSED = (ELFError, ConstructError, OSError, ValueError, KeyError, IndexError, TypeError,
             AttributeError, struct.error, OverflowError, MemoryError)  # fmt: skip


class ElfError(Exception):
    """The file cannot be read as ELF; the message says why."""


@dataclass(frozen=True)
class Symbol:
    """A function: `start` is a link-time address, `size` may be 0."""

    name: bytes
    start: int
    size: int


def _open(path: Path) -> BinaryIO:
    """A regular file, without waiting on a FIFO or touching a device."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ElfError(f"{error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ElfError("it is not a regular file")
    return os.fdopen(fd, "rb")


class ElfFile:
    """An ELF file on this system, open until closed."""

    def __init__(self, path: Path) -> None:
        self._file = _open(path)
        try:
            self._elf = ELFFile(self._file)
            self.is_core = self._elf["e_type"] == "ET_CORE"
            self.segments = [
                (int(s["p_offset"]), int(s["p_vaddr"]), int(s["p_filesz"]))
                for s in self._elf.iter_segments("PT_LOAD")
            ]
        except _CONFUSED as error:
            self._file.close()
            raise ElfError("it is not an ELF file") from error
        self._symbols: list[Symbol] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def build_id(self) -> str | None:
        """The GNU build-id in hex, or None."""
        try:
            for segment in self._elf.iter_segments("PT_NOTE"):
                for note in segment.iter_notes() if isinstance(segment, NoteSegment) else ():
                    if note["n_type"] == "NT_GNU_BUILD_ID" and note["n_name"] == "GNU":
                        return bytes.fromhex(note["n_desc"]).hex()
        except _CONFUSED:
            return None
        return None

    def address_of(self, offset: int) -> int | None:
        """The link-time address of a file offset, or None if it is not loaded."""
        for start, vaddr, length in self.segments:
            if start <= offset < start + length:
                return vaddr + offset - start
        return None

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes at a file offset."""
        try:
            self._file.seek(offset)
            return self._file.read(length)
        except (OSError, ValueError):
            return b""

    def symbol_at(self, address: int) -> Symbol | None:
        """The function that covers a link-time address."""
        if self._symbols is None:
            self._symbols = self._load_symbols()
        at = bisect_right(self._symbols, address, key=lambda symbol: symbol.start) - 1
        while at >= 0 and self._symbols[at].start + max(self._symbols[at].size, 1) <= address:
            if self._symbols[at].size:
                return None
            at -= 1
        return self._symbols[at] if at >= 0 else None

    def has_symbols(self) -> bool:
        """Is there a full symbol table, not only the dynamic one?"""
        try:
            return self._elf.get_section_by_name(".symtab") is not None
        except _CONFUSED:
            return False

    def _load_symbols(self) -> list[Symbol]:
        found: dict[int, Symbol] = {}
        try:
            for section in self._elf.iter_sections():
                if isinstance(section, SymbolTableSection):
                    for symbol in self._functions(section):
                        found.setdefault(symbol.start, symbol)
        except _CONFUSED:
            pass  # what was found so far is still true
        return sorted(found.values(), key=lambda symbol: symbol.start)

    def _functions(self, section: SymbolTableSection) -> list[Symbol]:
        # Unpacked in one go: pyelftools takes seconds for the tables of a large program.
        wide = self._elf.elfclass == 64
        order = "<" if self._elf.little_endian else ">"
        layout = struct.Struct(order + ("IBBHQQ" if wide else "IIIBBH"))
        data = section.data()
        names: bytes = self._elf.get_section(section["sh_link"]).data()
        thumb_bit = 1 if self._elf["e_machine"] in ("EM_ARM", _EM_ARM) else 0
        functions = []
        for row in layout.iter_unpack(data[: len(data) // layout.size * layout.size]):
            if wide:
                name_at, info, _other, shndx, value, size = row
            else:
                name_at, value, size, info, _other, shndx = row
            if info & 0xF in _FUNCTION_TYPES and shndx != _SHN_UNDEF:
                end = names.find(b"\0", name_at, name_at + _NAME_MAX)
                if end > name_at:
                    functions.append(Symbol(names[name_at:end], value & ~thumb_bit, size))
        return functions
