# SPDX-License-Identifier: BSD-3-Clause
"""The reader: one model of an ELF core file, of any of the supported architectures.

It shares nothing with the C writer. pyelftools reads the ELF header, section header 0 and the
pages of executables; program headers and notes are decoded here, because

* pyelftools makes a Python object of each program header, which takes seconds for the 70,000
  segments that a core may have, and
* its note iterator fails on notes it does not expect (eliben/pyelftools#656) and forgives sizes
  that a core must get right.

Addresses, offsets and sizes are in bytes, times in nanoseconds. Bytes of the target (names,
paths, arguments) stay bytes.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from bisect import bisect_right
from collections.abc import Iterator
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, cast

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE, ENUM_E_TYPE, ENUM_E_VERSION

from . import corelayout as layout
from .corebytes import FileSource, Source, Window, source_of

__all__ = [
    "AddressMissing",
    "Core",
    "CoreError",
    "Header",
    "MappedFile",
    "Mapping",
    "NotACore",
    "Note",
    "PrPsInfo",
    "PrStatus",
    "Segment",
    "SigInfo",
    "Thread",
    "TruncatedCore",
    "UnsupportedCore",
    "auxv_name",
]

auxv_name = layout.auxv_name

_ET_CORE = 4
# 64 Ki threads with AMX state need 700 MiB; beyond this a PT_NOTE is damage, not notes.
_NOTES_MAX = 1 << 30
_PIECE = 1 << 20


class CoreError(Exception):
    """A core could not be read: ``what`` happened to ``path``, and the ``remedy`` if there is one.

    Catch this class for everything the reader raises about a file.
    """

    def __init__(self, what: str, *, path: str = "", remedy: str = "") -> None:
        self.what = what
        self.path = path
        self.remedy = remedy
        text = f"{path}: {what}" if path else what
        super().__init__(f"{text}; {remedy}" if remedy else text)

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own way calls the class with args alone, which lacks the keyword arguments.
        return (_rebuild, (type(self), self.args), self.__dict__)


def _rebuild(cls: type[CoreError], args: tuple[object, ...]) -> CoreError:
    error = cls.__new__(cls)
    error.args = args
    return error


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


class _MappingSource:
    """The memory of one mapping of a core, as if it were the file that is mapped there."""

    def __init__(self, core: Core, mapping: Mapping) -> None:
        self._core = core
        self._start = mapping.start
        self.size = mapping.filesz

    def pread(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        return self._core.read(self._start + offset, size) if size > 0 else b""

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        yield start, end

    def close(self) -> None:
        """Nothing is held."""


def _elf(source: Source) -> ELFFile:
    """pyelftools on a source.

    The errors of its parsers are of many kinds when a file is damaged, so all become ELFError.
    """
    try:
        return ELFFile(cast(IO[bytes], Window(source)))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ELFError(str(error)) from error


def _number(names: MappingOf[str, int], value: str | int) -> int:
    """The number behind a name that pyelftools gave it."""
    return names[value] if isinstance(value, str) else value


def _open(path: str) -> int:
    """Open a regular file for reading, without waiting on a FIFO or touching a device."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise CoreError(
            f"cannot be opened: {error.strerror}",
            path=path,
            remedy=_open_remedy(path, error),
        ) from error
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise NotACore("is a directory, not a core", path=path, remedy="name a file in it")
    raise NotACore(
        "is not a regular file", path=path, remedy="write the core to a regular file first"
    )


def _open_remedy(path: str, error: OSError) -> str:
    if error.errno == errno.ENOENT and Path(path).name == path and path.isdecimal():
        return "this looks like a process id; a core of the process must be dumped first"
    if error.errno == errno.EACCES:
        return "cores are private to their owner (mode 0600); ask for read permission"
    return "check the name"


# First bytes of what people mistake for a core, or keep cores in.
_MAGICS = (
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd", "decompress it first: zstd -d"),
    (b"\x1f\x8b", "is compressed by gzip", "decompress it first: gunzip"),
    (b"\x04\x22\x4d\x18", "is compressed by lz4", "decompress it first: lz4 -d"),
    (b"\xfd7zXZ\x00", "is compressed by xz", "decompress it first: xz -d"),
    (b"BZh", "is compressed by bzip2", "decompress it first: bunzip2"),
    (b"KDUMP", "is a kernel dump, not the core of a process", "use crash or drgn for it"),
    (b"MDMP", "is a minidump, not an ELF core", "convert it first: minidump-2-core"),
)
_TYPES = {
    0: "has no ELF type",
    1: "is an object file, not a core",
    2: "is an executable, not a core",
    3: "is a program or shared library, not a core",
}


class Core:
    """An ELF core file, opened for reading; a context manager.

    ``source`` is a path or a seekable binary file object (whose position is then moved, and which
    the caller closes). Opening reads the headers and the notes; memory is read on demand, so a
    core of many TiB of holes costs no more than its data.

    Raises NotACore, UnsupportedCore, TruncatedCore, or CoreError if the file cannot be opened.
    With ``allow_truncated`` a core whose headers and notes are whole is opened although memory is
    cut off; ``missing_bytes`` says how much, and reading there raises AddressMissing.
    """

    path: str
    arch: str
    elf_class: int
    machine: int
    header: Header
    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]
    notes: tuple[Note, ...]
    threads: tuple[Thread, ...]
    process_notes: tuple[Note, ...]
    missing_bytes: int

    def __init__(
        self, source: str | os.PathLike[str] | IO[bytes], *, allow_truncated: bool = False
    ) -> None:
        self._source: Source
        if isinstance(source, (str, os.PathLike)):
            self.path = os.fspath(source)
            self._source = FileSource(_open(self.path), owned=True)
        else:
            self.path = str(getattr(source, "name", "core"))
            self._source = source_of(source)
        try:
            self._load(allow_truncated=allow_truncated)
        except BaseException:
            self._source.close()
            raise

    def __enter__(self) -> Core:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Core {self.path!r} {self.arch} {len(self.threads)} threads>"

    def close(self) -> None:
        """Close the file. Notes and threads stay usable, memory does not."""
        self._source.close()

    # -- opening ----------------------------------------------------------------------------

    def _load(self, *, allow_truncated: bool) -> None:
        self._identify()
        self.layout = self._find_arch()
        self.arch = self.layout.name
        self.sections = self._read_sections()
        self.segments = self._read_segments()
        ends = (seg.offset + seg.filesz for seg in self.segments if seg.filesz)
        self.missing_bytes = max(0, max(ends, default=0) - self._source.size)
        notes_cut = any(
            seg.type == layout.PT_NOTE and seg.offset + seg.filesz > self._source.size
            for seg in self.segments
        )
        if self.missing_bytes and (notes_cut or not allow_truncated):
            raise self._truncated("its segments", self.missing_bytes)
        self.notes = tuple(self._read_notes())
        self.threads, self.process_notes = self._split_threads()

    def _truncated(self, what: str, missing: int) -> TruncatedCore:
        return TruncatedCore(
            f"the core is cut off within {what}: at least {missing} bytes are missing",
            path=self.path,
            missing=missing,
            remedy="the disk was full, a limit (ulimit -c) was reached or a copy broke off",
        )

    def _damaged(self, what: str) -> NotACore:
        return NotACore(what, path=self.path, remedy="the file is damaged or no core")

    def _identify(self) -> None:
        start = self._source.pread(0, 64)
        if not start:
            raise NotACore("is empty", path=self.path, remedy="name a core file")
        if start[:4] != b"\x7fELF":
            for magic, what, remedy in _MAGICS:
                if start.startswith(magic):
                    raise NotACore(what, path=self.path, remedy=remedy)
            raise NotACore("is not an ELF file", path=self.path, remedy="name a core file")
        need = 52 if start[4:5] == b"\x01" else 64
        if len(start) < need:
            raise self._truncated("the ELF header", need - len(start))
        try:
            elf = _elf(self._source)
        except ELFError as error:
            raise self._damaged(f"the ELF header makes no sense ({error})") from error
        head = elf.header
        self.elf_class = elf.elfclass
        self.header = Header(
            ident=elf.e_ident_raw,
            type=_number(ENUM_E_TYPE, head["e_type"]),
            machine=_number(ENUM_E_MACHINE, head["e_machine"]),
            version=_number(ENUM_E_VERSION, head["e_version"]),
            entry=head["e_entry"],
            phoff=head["e_phoff"],
            shoff=head["e_shoff"],
            flags=head["e_flags"],
            ehsize=head["e_ehsize"],
            phentsize=head["e_phentsize"],
            phnum=head["e_phnum"],
            shentsize=head["e_shentsize"],
            shnum=head["e_shnum"],
            shstrndx=head["e_shstrndx"],
        )
        self.machine = self.header.machine
        if self.header.type != _ET_CORE:
            what = _TYPES.get(self.header.type, f"has ELF type {self.header.type:#x}, not a core")
            raise NotACore(what, path=self.path, remedy="name the core that the program left")
        if not elf.little_endian:
            raise self._unsupported("a big-endian machine")

    def _unsupported(self, what: str) -> UnsupportedCore:
        known = ", ".join(arch.name for arch in layout.ARCHES)
        return UnsupportedCore(
            f"is a core of {what}", path=self.path, remedy=f"supported are {known}"
        )

    def _find_arch(self) -> layout.Arch:
        for arch in layout.ARCHES:
            if (arch.machine, arch.elf_class) == (self.machine, self.elf_class):
                return arch
        names = {number: name for name, number in ENUM_E_MACHINE.items()}
        name = names.get(self.machine, f"machine {self.machine}")
        raise self._unsupported(f"{name}, {self.elf_class} bits")

    def _read_segments(self) -> tuple[Segment, ...]:
        wide = self.elf_class == 64
        decoder = struct.Struct("<IIQQQQQQ" if wide else "<8I")
        header = self.header
        if header.phnum == 0:
            raise self._damaged("has no program headers")
        if header.phentsize != decoder.size:
            raise self._damaged(f"has program headers of {header.phentsize} bytes")
        count = self._count_segments()
        # The offset in the header is the target's word; a sum past the file's end is truncation.
        missing = header.phoff + count * decoder.size - self._source.size
        if missing > 0:
            raise self._truncated("the program headers", missing)
        rows = decoder.iter_unpack(self._source.pread(header.phoff, count * decoder.size))
        if wide:
            return tuple(map(Segment._make, rows))
        # Elf32_Phdr has p_flags behind the sizes.
        return tuple(Segment(t, fl, o, v, p, fs, ms, a) for t, o, v, p, fs, ms, fl, a in rows)

    def _count_segments(self) -> int:
        """The number of segments; above 65534 it is sh_info of section header 0 (PN_XNUM)."""
        header = self.header
        if header.phnum != layout.PN_XNUM:
            return header.phnum
        if not header.shoff:
            raise self._damaged("has more than 65534 segments and no section header to count them")
        if not self.sections:
            missing = header.shoff + header.shentsize - self._source.size
            if missing > 0:
                raise self._truncated("the section header that counts its segments", missing)
            raise self._damaged(f"has section headers of {header.shentsize} bytes")
        return self.sections[0].info

    def _read_sections(self) -> tuple[Section, ...]:
        header = self.header
        decoder = struct.Struct("<IIQQQQIIQQ" if self.elf_class == 64 else "<10I")
        if header.shoff == 0 or header.shnum == 0 or header.shentsize != decoder.size:
            return ()
        data = self._source.pread(header.shoff, header.shnum * decoder.size)
        whole = len(data) - len(data) % decoder.size
        return tuple(map(Section._make, decoder.iter_unpack(data[:whole])))

    def _read_notes(self) -> Iterator[Note]:
        for seg in self.segments:
            if seg.type != layout.PT_NOTE:
                continue
            if seg.filesz > _NOTES_MAX:
                raise self._damaged(f"has notes of {seg.filesz} bytes")
            yield from self._decode_notes(self._source.pread(seg.offset, seg.filesz), seg.offset)

    def _decode_notes(self, data: bytes, base: int) -> Iterator[Note]:
        # Notes of cores are aligned to 4 in both classes, whatever p_align says (gdb writes 1).
        for at, owner, number, start, end in self._walk_notes(data, base):
            yield Note(
                owner=owner,
                type=number,
                name=layout.note_name(owner, number),
                desc=data[start:end],
                offset=base + at,
            )

    def _walk_notes(self, data: bytes, base: int) -> Iterator[tuple[int, str, int, int, int]]:
        at = 0
        while at < len(data):
            where = f"the note at offset {base + at:#x}"
            if len(data) - at < 12:
                raise self._damaged(f"{where} has no room for its header")
            namesz, descsz, number = struct.unpack_from("<III", data, at)
            start = at + 12 + _up4(namesz)
            end = start + descsz
            if end > len(data):
                raise self._damaged(f"{where} runs past the end of its segment")
            name = data[at + 12 : at + 12 + namesz]
            if not name or name.find(b"\0") != namesz - 1:
                raise self._damaged(f"{where} has an owner that is no terminated string")
            yield at, name[:-1].decode("utf-8", "surrogateescape"), number, start, end
            at = start + _up4(descsz)

    def note_padding(self, note: Note) -> bytes:
        """The alignment bytes after a note's owner and after its contents; zero in a good core."""
        namesz = len(note.owner.encode("utf-8", "surrogateescape")) + 1
        name_end = note.offset + 12 + namesz
        desc_end = note.offset + 12 + _up4(namesz) + len(note.desc)
        return self._source.pread(name_end, -namesz % 4) + self._source.pread(
            desc_end, -len(note.desc) % 4
        )

    def _split_threads(self) -> tuple[tuple[Thread, ...], tuple[Note, ...]]:
        """Give each note to the thread of the last NT_PRSTATUS before it, or to the process.

        The first NT_SIGINFO is the process's (the kernel writes one, gdb one after each thread's
        registers), and so is every note of an owner other than the kernel's two.
        """
        groups: list[list[Note]] = []
        process: list[Note] = []
        have_siginfo = False
        for note in self.notes:
            key = (note.owner, note.type)
            first_siginfo = key == ("CORE", layout.NT_SIGINFO) and not have_siginfo
            have_siginfo = have_siginfo or first_siginfo
            if key == ("CORE", layout.NT_PRSTATUS):
                groups.append([note])
            elif (
                not groups
                or first_siginfo
                or key in layout.PROCESS_NOTES
                or note.owner not in ("CORE", "LINUX")
            ):
                process.append(note)
            else:
                groups[-1].append(note)
        return tuple(map(self._thread, groups)), tuple(process)

    def _thread(self, notes: list[Note]) -> Thread:
        values = self._decode(self.layout.prstatus, notes[0])
        regs = {name: int(values[name]) for name in self.layout.registers}
        own = {
            item.name.removeprefix("pr_"): int(values[item.name])
            for item in self.layout.prstatus.fields
            if item.name not in regs
        }
        status = PrStatus(regs=regs, **own)
        return Thread(tid=status.pid, prstatus=status, notes=tuple(notes))

    def _decode(self, shape: layout.Layout, note: Note) -> dict[str, int | bytes]:
        if len(note.desc) != shape.size:
            raise self._damaged(
                f"the {note.name} at offset {note.offset:#x} has {len(note.desc)} bytes, "
                f"{self.arch} has {shape.size}"
            )
        return shape.decode(note.desc)

    # -- the process ------------------------------------------------------------------------

    def process_note(self, number: int, *, owner: str = "CORE") -> Note | None:
        """The process's first note of that type, or None."""
        key = (owner, number)
        return next((note for note in self.process_notes if (note.owner, note.type) == key), None)

    @cached_property
    def process(self) -> PrPsInfo:
        """NT_PRPSINFO. Raises CoreError if the core has none."""
        note = self.process_note(layout.NT_PRPSINFO)
        if note is None:
            raise CoreError(
                "has no NT_PRPSINFO",
                path=self.path,
                remedy="the program that wrote it left it out",
            )
        values = self._decode(self.layout.prpsinfo, note)
        numbers = {
            name.removeprefix("pr_"): value
            for name, value in values.items()
            if isinstance(value, int)
        }
        return PrPsInfo(
            sname=cast(bytes, values["pr_sname"]).decode("latin-1"),
            fname=cast(bytes, values["pr_fname"]).partition(b"\0")[0],
            psargs=cast(bytes, values["pr_psargs"]).partition(b"\0")[0],
            **numbers,
        )

    @cached_property
    def siginfo(self) -> SigInfo | None:
        """NT_SIGINFO of the process, or None."""
        note = self.process_note(layout.NT_SIGINFO)
        if note is None or len(note.desc) < 12:
            return None
        signo, error, code = struct.unpack_from("<iii", note.desc)
        return SigInfo(signo=signo, errno=error, code=code, raw=note.desc)

    @cached_property
    def auxv(self) -> tuple[tuple[int, int], ...]:
        """The auxiliary vector as (AT_* number, value), without the AT_NULL at its end."""
        pairs = []
        for key, value in self.auxv_entries():
            if key == layout.AT_NULL:
                break
            pairs.append((key, value))
        return tuple(pairs)

    def auxv_entries(self) -> Iterator[tuple[int, int]]:
        """Every pair of NT_AUXV, AT_NULL and what follows it included."""
        note = self.process_note(layout.NT_AUXV)
        if note is None:
            return
        decoder = struct.Struct("<2" + self.layout.word)
        whole = len(note.desc) - len(note.desc) % decoder.size
        for pair in decoder.iter_unpack(note.desc[:whole]):
            yield cast(tuple[int, int], pair)

    @staticmethod
    def auxv_name(key: int) -> str:
        """The kernel's name of an auxiliary vector entry."""
        return layout.auxv_name(key)

    @cached_property
    def files(self) -> tuple[MappedFile, ...]:
        """The mapped files of NT_FILE, in its order; empty if the core has none.

        Raises NotACore if the note contradicts itself.
        """
        note = self.process_note(layout.NT_FILE)
        if note is None:
            return ()
        word = struct.calcsize("<" + self.layout.word)
        if len(note.desc) < 2 * word:
            raise self._damaged("its NT_FILE is too short")
        count, page = struct.unpack_from("<2" + self.layout.word, note.desc)
        table_end = word * (2 + 3 * count)
        if table_end > len(note.desc):
            raise self._damaged(f"its NT_FILE promises {count} files and has no room for them")
        names = note.desc[table_end:].split(b"\0")
        # Each name ends in a NUL, so the split leaves one more, empty unless bytes follow.
        if len(names) < count + 1:
            raise self._damaged(f"its NT_FILE promises {count} files and names {len(names) - 1}")
        rows = struct.iter_unpack("<3" + self.layout.word, note.desc[2 * word : table_end])
        return tuple(
            MappedFile(start=start, end=end, offset=offset * page, path=path)
            for (start, end, offset), path in zip(rows, names, strict=False)
        )

    @cached_property
    def _file_index(self) -> tuple[list[int], list[MappedFile]]:
        ordered = sorted(self.files, key=lambda entry: entry.start)
        return [entry.start for entry in ordered], ordered

    def file_at(self, address: int) -> MappedFile | None:
        """The entry of NT_FILE that covers an address, or None."""
        starts, ordered = self._file_index
        at = bisect_right(starts, address) - 1
        return ordered[at] if at >= 0 and address < ordered[at].end else None

    @cached_property
    def executable(self) -> bytes | None:
        """The path of the program: the mapped file that holds its program headers.

        None without NT_FILE or auxiliary vector, or when they do not meet.
        """
        vector = dict(self.auxv)
        for key in (layout.AT_PHDR, layout.AT_ENTRY):
            entry = self.file_at(vector[key]) if key in vector else None
            if entry is not None:
                return entry.path
        return None

    # -- memory -----------------------------------------------------------------------------

    @cached_property
    def maps(self) -> tuple[Mapping, ...]:
        """Every PT_LOAD in file order, which is address order in a core of the kernel."""
        mappings = []
        for seg in self.segments:
            if seg.type != layout.PT_LOAD:
                continue
            entry = self.file_at(seg.vaddr)
            mappings.append(
                Mapping(
                    start=seg.vaddr,
                    end=seg.vaddr + seg.memsz,
                    flags=seg.flags,
                    filesz=seg.filesz,
                    offset=seg.offset,
                    path=None if entry is None else entry.path,
                )
            )
        return tuple(mappings)

    @cached_property
    def _map_index(self) -> tuple[list[int], list[Mapping]]:
        ordered = sorted(self.maps, key=lambda mapping: mapping.start)
        return [mapping.start for mapping in ordered], ordered

    def mapping_at(self, address: int) -> Mapping | None:
        """The mapping that covers an address, or None."""
        starts, ordered = self._map_index
        at = bisect_right(starts, address) - 1
        return ordered[at] if at >= 0 and address < ordered[at].end else None

    def read(self, address: int, size: int) -> bytes:
        """The memory at ``address``; it may cross mappings, and holes are zeros.

        Raises AddressMissing (with the first such address) where the core holds no bytes, and
        TruncatedCore never: what a truncated core lost counts as missing.
        """
        if size < 0:
            raise ValueError("a negative size")
        pieces = []
        end = address + size
        while address < end:
            mapping = self.mapping_at(address)
            left = 0 if mapping is None else mapping.start + mapping.filesz - address
            want = min(left, end - address)
            data = b""
            if mapping is not None and want > 0:
                data = self._source.pread(mapping.offset + address - mapping.start, want)
            if len(data) < want or want <= 0:
                raise self._missing(address + len(data), mapping)
            pieces.append(data)
            address += want
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _missing(self, address: int, mapping: Mapping | None) -> AddressMissing:
        if mapping is None:
            why = "nothing was mapped there"
            remedy = ""
        elif address < mapping.start + mapping.filesz:
            why = "the file is cut off before it"
            remedy = "take the core again with room for it"
        else:
            why = "the mapping's bytes were left out of the core"
            remedy = "the coredump_filter of the process says what is kept"
        return AddressMissing(
            f"holds no memory at {address:#x}: {why}",
            path=self.path,
            address=address,
            remedy=remedy,
        )

    def extents(self, mapping: Mapping) -> Iterator[tuple[int, int]]:
        """The address ranges (start, end) of a mapping that have data in the file.

        The rest of its ``filesz`` bytes are holes, which read as zeros. A file object without a
        descriptor has no holes.
        """
        shift = mapping.start - mapping.offset
        end = min(mapping.offset + mapping.filesz, self._source.size)
        for start, stop in self._source.extents(mapping.offset, end):
            yield start + shift, stop + shift

    def memory_ranges(self) -> Iterator[tuple[int, int]]:
        """The address ranges (start, end) that have data, in order, neighbours merged."""
        last: tuple[int, int] | None = None
        for mapping in self._map_index[1]:
            for start, end in self.extents(mapping):
                if last is not None and start <= last[1]:
                    last = (last[0], max(end, last[1]))
                    continue
                if last is not None:
                    yield last
                last = (start, end)
        if last is not None:
            yield last

    def pread(self, offset: int, size: int) -> bytes:
        """Bytes of the file by offset; fewer than ``size`` only at its end."""
        return self._source.pread(offset, size)

    @property
    def file_size(self) -> int:
        """The length of the file in bytes, holes included."""
        return self._source.size

    def file_extents(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The (start, end) offsets within [start, end) of the file that are data, not holes."""
        return self._source.extents(start, min(end, self._source.size))

    # -- details ----------------------------------------------------------------------------

    def build_id(self, mapping_start: int) -> bytes | None:
        """The GNU build-id of the ELF file mapped at ``mapping_start``, or None.

        It is read from the header pages in the core (the kernel keeps the first page of every
        mapped ELF file), so the file itself is not needed. ``mapping_start`` is the start of the
        mapping of the file's first byte. None also when the core does not hold these pages.
        """
        mapping = self.mapping_at(mapping_start)
        if mapping is None or mapping.start != mapping_start or mapping.filesz < 52:
            return None
        source = _MappingSource(self, mapping)
        try:
            elf = _elf(source)
            count, size = elf["e_phnum"], elf["e_phentsize"]
            if elf["e_phoff"] + count * size > mapping.filesz:
                return None
            # get_segment() would follow PT_DYNAMIC into sections, which no core has.
            headers = [
                struct_parse(elf.structs.Elf_Phdr, elf.stream, elf["e_phoff"] + i * size)
                for i in range(count)
            ]
        except (ELFError, CoreError, AttributeError, KeyError, TypeError, ValueError):
            return None
        for header in headers:
            if header["p_type"] != "PT_NOTE" or header["p_offset"] > mapping.filesz:
                continue
            data = source.pread(header["p_offset"], min(header["p_filesz"], _PIECE))
            found = _find_build_id(data, align=8 if header["p_align"] == 8 else 4)
            if found is not None:
                return found
        return None

    def xstate_component(self, thread: Thread, number: int) -> bytes | None:
        """One component of a thread's x86 extended state (Intel SDM vol. 1, 13.1), or None.

        0 is x87, 1 SSE, 2 AVX (the upper halves of ymm0 to ymm15), 5 to 7 AVX-512, 9 PKRU. Where a
        component stands depends on the processor: NT_X86_XSAVE_LAYOUT says it; without that note
        (kernels before 6.12) only 0, 1 and 2 have places that never change.
        """
        state = thread.regset(layout.NT_X86_XSTATE)
        place = self._xsave_layout.get(number)
        if state is None or place is None or sum(place) > len(state):
            return None
        return state[place[0] : sum(place)]

    @cached_property
    def _xsave_layout(self) -> dict[int, tuple[int, int]]:
        """(offset, size) of each component."""
        note = self.process_note(layout.NT_X86_XSAVE_LAYOUT, owner="LINUX")
        places = dict(layout.XSAVE_FIXED)
        if note is not None:
            # struct x86_xfeat_component {type, size, offset, flags}, uapi/asm/elf.h
            whole = note.desc[: len(note.desc) - len(note.desc) % 16]
            for number, size, offset, _ in struct.iter_unpack("<4I", whole):
                places[number] = (offset, size)
        return places


def _up4(size: int) -> int:
    return (size + 3) & ~3


def _find_build_id(data: bytes, *, align: int) -> bytes | None:
    """The build-id among the notes of an executable, whose desc is aligned to 4 or 8."""
    at = 0
    while at + 12 <= len(data):
        namesz, descsz, number = struct.unpack_from("<III", data, at)
        start = at + (12 + namesz + align - 1) // align * align
        end = start + descsz
        if end > len(data):
            return None
        if number == layout.NT_GNU_BUILD_ID and data[at + 12 : at + 16] == b"GNU\0":
            return data[start:end]
        at += (end - at + align - 1) // align * align
    return None
