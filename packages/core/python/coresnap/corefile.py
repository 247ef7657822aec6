# SPDX-License-Identifier: BSD-3-Clause
"""The reader: one model of an ELF core file, of any of the supported architectures.

It shares nothing with the C writer. Addresses, offsets and sizes are in bytes, times in
nanoseconds. Bytes of the target (names, paths, arguments) stay bytes.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from types import TracebackType
from typing import IO, cast

from . import corelayout as layout
from .corebytes import FileSource, Source, source_of
from .coreelf import Structure, build_id, open_file, up4
from .corepacked import PackedSource, unpacked
from .corerecords import (
    AddressMissing,
    CoreError,
    Header,
    MappedFile,
    Mapping,
    NotACore,
    Note,
    PrPsInfo,
    PrStatus,
    Section,
    Segment,
    SigInfo,
    Thread,
    TruncatedCore,
    UnsupportedCore,
)
from .coretags import Tags

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

_PIECE = 1 << 22  # bytes to copy at a time


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
            self._source = FileSource(open_file(self.path), owned=True)
        else:
            self.path = str(getattr(source, "name", "core"))
            self._source = source_of(source)
        try:
            self._source = unpacked(self._source, self.path)
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

    @property
    def compressed(self) -> bool:
        """Whether the file is compressed; offsets and sizes are of what is in it."""
        return isinstance(self._source, PackedSource)

    def copy_to(self, file: IO[bytes]) -> None:
        """Write the core, not compressed, to an empty file; what it has no data for is a hole."""
        for start, end in self._source.extents(0, self.file_size):
            for at in range(start, end, _PIECE):
                file.seek(at)
                file.write(self._source.pread(at, min(_PIECE, end - at)))
        file.truncate(self.file_size)

    # -- opening ----------------------------------------------------------------------------

    def _load(self, *, allow_truncated: bool) -> None:
        self._structure = Structure(self._source, self.path)
        self.header = self._structure.header
        self.elf_class = self._structure.elf_class
        self.machine = self.header.machine
        self.layout = self._structure.arch
        self.arch = self.layout.name
        self.sections = self._structure.sections
        self.segments = self._structure.segments
        ends = (seg.offset + seg.filesz for seg in self.segments if seg.filesz)
        self.missing_bytes = max(0, max(ends, default=0) - self._source.size)
        notes_cut = any(
            seg.type == layout.PT_NOTE and seg.offset + seg.filesz > self._source.size
            for seg in self.segments
        )
        if self.missing_bytes and (notes_cut or not allow_truncated):
            raise self._structure.truncated("its segments", self.missing_bytes)
        self.notes = tuple(self._structure.notes())
        self.threads, self.process_notes = self._split_threads()

    def note_padding(self, note: Note) -> bytes:
        """The alignment bytes after a note's owner and after its contents; zero in a good core."""
        namesz = len(note.owner.encode("utf-8", "surrogateescape")) + 1
        name_end = note.offset + 12 + namesz
        desc_end = note.offset + 12 + up4(namesz) + len(note.desc)
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
            raise self._structure.damaged(
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
            raise self._structure.damaged("its NT_FILE is too short")
        count, page = struct.unpack_from("<2" + self.layout.word, note.desc)
        table_end = word * (2 + 3 * count)
        if table_end > len(note.desc):
            raise self._structure.damaged(
                f"its NT_FILE promises {count} files and has no room for them"
            )
        names = note.desc[table_end:].split(b"\0")
        # Each name ends in a NUL, so the split leaves one more, empty unless bytes follow.
        if len(names) < count + 1:
            raise self._structure.damaged(
                f"its NT_FILE promises {count} files and names {len(names) - 1}"
            )
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

    @cached_property
    def tags(self) -> Tags:
        """The allocation tags of memory; without segments where the architecture has none."""
        kind = self.layout.tag_segment
        segments = [seg for seg in self.segments if kind is not None and seg.type == kind]
        return Tags(self._source, segments, self.path)

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
        return build_id(_MappingSource(self, mapping))

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
