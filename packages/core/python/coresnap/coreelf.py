# SPDX-License-Identifier: BSD-3-Clause
"""The ELF structure of a core: its header, program and section headers, and notes.

pyelftools decodes the ELF header; program headers and notes are decoded here, because

* pyelftools makes a Python object of each program header, which takes seconds for the 70,000
  segments that a core may have,
* its note iterator fails on notes it does not expect (eliben/pyelftools#656) and forgives sizes
  that a core must get right, and
* before its version 0.30 it looks for sections as soon as it opens a file, which a core that is
  cut off, and the pages of an executable in a core, lack.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterator
from collections.abc import Mapping as MappingOf
from pathlib import Path

from elftools.elf.enums import ENUM_E_MACHINE, ENUM_E_TYPE, ENUM_E_VERSION
from elftools.elf.structs import ELFStructs

from . import corelayout as layout
from .corebytes import Source
from .corerecords import (
    CoreError,
    Header,
    NotACore,
    Note,
    Section,
    Segment,
    TruncatedCore,
    UnsupportedCore,
)

_ET_CORE = 4
_PHDR = {64: struct.Struct("<IIQQQQQQ"), 32: struct.Struct("<8I")}
# 64 Ki threads with AMX state need 700 MiB; beyond this a PT_NOTE is damage, not notes.
_NOTES_MAX = 1 << 30
_BUILD_ID_NOTES_MAX = 1 << 20


def _structs(header: bytes) -> ELFStructs | None:
    """pyelftools' description of a file's ELF header, or None if that is none."""
    elf_class, order = header[4], header[5]
    if elf_class not in (1, 2) or order not in (1, 2):
        return None
    structs = ELFStructs(little_endian=order == 1, elfclass=32 * elf_class)
    structs.create_basic_structs()
    return structs


def _segments(headers: bytes, elf_class: int) -> tuple[Segment, ...]:
    rows = _PHDR[elf_class].iter_unpack(headers)
    if elf_class == 64:
        return tuple(map(Segment._make, rows))
    # Elf32_Phdr has p_flags behind the sizes.
    return tuple(Segment(t, fl, o, v, p, fs, ms, a) for t, o, v, p, fs, ms, fl, a in rows)


def _number(names: MappingOf[str, int], value: str | int) -> int:
    """The number behind a name that pyelftools gave it."""
    return names[value] if isinstance(value, str) else value


def open_file(path: str) -> int:
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


# Those with an index are read as they are.
_NO_INDEX = " and has no index: another program compressed it, or its end is missing"
# First bytes of what people mistake for a core, or keep cores in.
_MAGICS = (
    (b"\x28\xb5\x2f\xfd", f"is compressed by zstd{_NO_INDEX}", "decompress it first: zstd -d"),
    (b"\x1f\x8b", f"is compressed by gzip{_NO_INDEX}", "decompress it first: gunzip"),
    (b"\x04\x22\x4d\x18", f"is compressed by lz4{_NO_INDEX}", "decompress it first: lz4 -d"),
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


class Structure:
    """The headers of an ELF core, decoded and checked.

    Raises NotACore, UnsupportedCore, or TruncatedCore when the headers themselves are cut off.
    ``path`` is for messages.
    """

    def __init__(self, source: Source, path: str) -> None:
        self._source = source
        self._path = path
        self._identify()
        self.arch = self._find_arch()
        self.sections = self._read_sections()
        self.segments = self._read_segments()

    def truncated(self, what: str, missing: int) -> TruncatedCore:
        """The error that says that the file ends within ``what``."""
        return TruncatedCore(
            f"the core is cut off within {what}: at least {missing} bytes are missing",
            path=self._path,
            missing=missing,
            remedy="the disk was full, a limit (ulimit -c) was reached or a copy broke off",
        )

    def damaged(self, what: str) -> NotACore:
        """The error that says that the file contradicts itself."""
        return NotACore(what, path=self._path, remedy="the file is damaged or no core")

    def _identify(self) -> None:
        start = self._source.pread(0, 64)
        if not start:
            raise NotACore("is empty", path=self._path, remedy="name a core file")
        if start[:4] != b"\x7fELF":
            for magic, what, remedy in _MAGICS:
                if start.startswith(magic):
                    raise NotACore(what, path=self._path, remedy=remedy)
            raise NotACore("is not an ELF file", path=self._path, remedy="name a core file")
        need = 52 if start[4:5] == b"\x01" else 64
        if len(start) < need:
            raise self.truncated("the ELF header", need - len(start))
        structs = _structs(start)
        if structs is None:
            raise self.damaged("the ELF header makes no sense (unknown class or byte order)")
        head = structs.Elf_Ehdr.parse(start)
        self.elf_class = structs.elfclass
        self.header = Header(
            ident=start[:16],
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
        if self.header.type != _ET_CORE:
            what = _TYPES.get(self.header.type, f"has ELF type {self.header.type:#x}, not a core")
            raise NotACore(what, path=self._path, remedy="name the core that the program left")
        if not structs.little_endian:
            raise self._unsupported("a big-endian machine")

    def _unsupported(self, what: str) -> UnsupportedCore:
        known = ", ".join(arch.name for arch in layout.ARCHES)
        return UnsupportedCore(
            f"is a core of {what}", path=self._path, remedy=f"supported are {known}"
        )

    def _find_arch(self) -> layout.Arch:
        for arch in layout.ARCHES:
            if (arch.machine, arch.elf_class) == (self.header.machine, self.elf_class):
                return arch
        names = {number: name for name, number in ENUM_E_MACHINE.items()}
        name = names.get(self.header.machine, f"machine {self.header.machine}")
        raise self._unsupported(f"{name}, {self.elf_class} bits")

    def _read_segments(self) -> tuple[Segment, ...]:
        header = self.header
        size = _PHDR[self.elf_class].size
        if header.phnum == 0:
            raise self.damaged("has no program headers")
        if header.phentsize != size:
            raise self.damaged(f"has program headers of {header.phentsize} bytes")
        count = self._count_segments()
        # The offset in the header is the target's word; a sum past the file's end is truncation.
        missing = header.phoff + count * size - self._source.size
        if missing > 0:
            raise self.truncated("the program headers", missing)
        return _segments(self._source.pread(header.phoff, count * size), self.elf_class)

    def _count_segments(self) -> int:
        """The number of segments; above 65534 it is sh_info of section header 0 (PN_XNUM)."""
        header = self.header
        if header.phnum != layout.PN_XNUM:
            return header.phnum
        if not header.shoff:
            raise self.damaged("has more than 65534 segments and no section header to count them")
        if not self.sections:
            missing = header.shoff + header.shentsize - self._source.size
            if missing > 0:
                raise self.truncated("the section header that counts its segments", missing)
            raise self.damaged(f"has section headers of {header.shentsize} bytes")
        return self.sections[0].info

    def _read_sections(self) -> tuple[Section, ...]:
        header = self.header
        decoder = struct.Struct("<IIQQQQIIQQ" if self.elf_class == 64 else "<10I")
        if header.shoff == 0 or header.shnum == 0 or header.shentsize != decoder.size:
            return ()
        data = self._source.pread(header.shoff, header.shnum * decoder.size)
        whole = len(data) - len(data) % decoder.size
        return tuple(map(Section._make, decoder.iter_unpack(data[:whole])))

    def notes(self) -> Iterator[Note]:
        """Every note in file order. Raises NotACore where they are damaged."""
        for seg in self.segments:
            if seg.type != layout.PT_NOTE:
                continue
            if seg.filesz > _NOTES_MAX:
                raise self.damaged(f"has notes of {seg.filesz} bytes")
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
                raise self.damaged(f"{where} has no room for its header")
            namesz, descsz, number = struct.unpack_from("<III", data, at)
            start = at + 12 + up4(namesz)
            end = start + descsz
            if end > len(data):
                raise self.damaged(f"{where} runs past the end of its segment")
            name = data[at + 12 : at + 12 + namesz]
            if not name or name.find(b"\0") != namesz - 1:
                raise self.damaged(f"{where} has an owner that is no terminated string")
            yield at, name[:-1].decode("utf-8", "surrogateescape"), number, start, end
            at = start + up4(descsz)


def up4(size: int) -> int:
    """The next multiple of 4, to which notes are aligned."""
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


def build_id(source: Source) -> bytes | None:
    """The GNU build-id of an ELF file of which at least the first page is there, or None."""
    try:
        return _build_id(source)
    except CoreError:
        return None


def _build_id(source: Source) -> bytes | None:
    start = source.pread(0, 64)
    structs = _structs(start) if start[:4] == b"\x7fELF" and len(start) == 64 else None
    if structs is None or not structs.little_endian:
        return None
    head = structs.Elf_Ehdr.parse(start)
    phdr = _PHDR[structs.elfclass].size
    size = head["e_phnum"] * phdr
    if head["e_phentsize"] != phdr or head["e_phoff"] + size > source.size:
        return None
    for segment in _segments(source.pread(head["e_phoff"], size), structs.elfclass):
        if segment.type != layout.PT_NOTE or segment.offset > source.size:
            continue
        data = source.pread(segment.offset, min(segment.filesz, _BUILD_ID_NOTES_MAX))
        found = _find_build_id(data, align=8 if segment.align == 8 else 4)
        if found is not None:
            return found
    return None
