# SPDX-License-Identifier: BSD-3-Clause
"""What the reader returns and raises: records of a core as values, and its errors."""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field
from typing import NamedTuple

from . import corelayout as layout
from ._exception import KeywordException


class CoreError(KeywordException):
    """A core could not be read: ``what`` happened to ``path``, and the ``remedy`` if there is one.

    Catch this class for everything the reader raises about a file.
    """

    def __init__(self, what: str, *, path: str = "", remedy: str = "") -> None:
        self.what = what
        self.path = path
        self.remedy = remedy
        text = f"{path}: {what}" if path else what
        super().__init__(f"{text}; {remedy}" if remedy else text)


class NotACore(CoreError):
    """The file is something else than an ELF core, or its ELF structure is damaged."""


class UnsupportedCore(CoreError):
    """An ELF core, but of an architecture or byte order that the reader does not know."""


class TruncatedCore(CoreError):
    """The file ends before the core does; at least ``missing`` bytes are gone."""

    def __init__(self, what: str, *, missing: int, path: str = "", remedy: str = "") -> None:
        super().__init__(what, path=path, remedy=remedy)
        self.missing = missing


class AddressMissing(CoreError, LookupError):
    """The core holds no byte for ``address``."""

    def __init__(self, what: str, *, address: int, path: str = "", remedy: str = "") -> None:
        super().__init__(what, path=path, remedy=remedy)
        self.address = address


class Segment(NamedTuple):
    """One program header as it stands in the file. ``type`` is PT_*, ``flags`` PF_*."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


class Section(NamedTuple):
    """One section header as it stands in the file."""

    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    addralign: int
    entsize: int


@dataclass(frozen=True)
class Header:
    """The ELF header as numbers, e_phnum and e_shnum as written."""

    ident: bytes
    type: int
    machine: int
    version: int
    entry: int
    phoff: int
    shoff: int
    flags: int
    ehsize: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int


@dataclass(frozen=True)
class Note:
    """One note. ``offset`` is where its header stands in the file."""

    owner: str
    type: int
    name: str
    desc: bytes = field(repr=False)
    offset: int


@dataclass(frozen=True)
class PrStatus:
    """NT_PRSTATUS: a thread's signals, ids, CPU times (ns) and registers in the kernel's order."""

    si_signo: int
    si_code: int
    si_errno: int
    cursig: int
    sigpend: int
    sighold: int
    pid: int
    ppid: int
    pgrp: int
    sid: int
    utime: int
    stime: int
    cutime: int
    cstime: int
    regs: MappingOf[str, int]
    fpvalid: int


@dataclass(frozen=True)
class PrPsInfo:
    """NT_PRPSINFO. ``sname`` is one character; ``fname`` and ``psargs`` end before their NUL."""

    state: int
    sname: str
    zomb: int
    nice: int
    flag: int
    uid: int
    gid: int
    pid: int
    ppid: int
    pgrp: int
    sid: int
    fname: bytes
    psargs: bytes


@dataclass(frozen=True)
class SigInfo:
    """NT_SIGINFO: the three members that every signal has, and the siginfo_t as bytes."""

    signo: int
    errno: int
    code: int
    raw: bytes = field(repr=False)


@dataclass(frozen=True)
class Thread:
    """One thread: its NT_PRSTATUS decoded, and all its notes in file order."""

    tid: int
    prstatus: PrStatus
    notes: tuple[Note, ...] = field(repr=False)

    @property
    def regs(self) -> MappingOf[str, int]:
        """The general registers by name, in the kernel's order."""
        return self.prstatus.regs

    @property
    def pc(self) -> int:
        """The program counter."""
        return next(value for name, value in self.regs.items() if name in layout.PC_NAMES)

    @property
    def sp(self) -> int:
        """The stack pointer."""
        return next(value for name, value in self.regs.items() if name in layout.SP_NAMES)

    def regset(self, number: int) -> bytes | None:
        """The bytes of this thread's note of that type (NT_*), or None if it has none."""
        return next((note.desc for note in self.notes if note.type == number), None)


@dataclass(frozen=True)
class MappedFile:
    """One entry of NT_FILE. ``offset`` is in bytes; ``path`` as the kernel wrote it."""

    start: int
    end: int
    offset: int
    path: bytes


@dataclass(frozen=True, slots=True)
class Mapping:
    """One PT_LOAD: memory [start, end), of which the first ``filesz`` bytes are in the file."""

    start: int
    end: int
    flags: int
    filesz: int
    offset: int
    path: bytes | None

    @property
    def perms(self) -> str:
        """The rights as in ``r-x``."""
        rights = ((layout.PF_R, "r"), (layout.PF_W, "w"), (layout.PF_X, "x"))
        return "".join(letter if self.flags & bit else "-" for bit, letter in rights)
