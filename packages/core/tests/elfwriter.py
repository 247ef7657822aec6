# SPDX-License-Identifier: BSD-3-Clause
"""Writes small ELF cores for tests, of any architecture and also wrong ones.

The layouts are spelled here once more as format strings, so that the reader's tables are checked
against something other than themselves.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAGE = 4096


@dataclass(frozen=True)
class Target:
    """What distinguishes the architectures in a core."""

    name: str
    machine: int
    wide: bool
    registers: int
    prstatus_size: int
    prpsinfo_size: int


X86_64 = Target("x86-64", 62, True, 27, 336, 136)
X86_32 = Target("x86-32", 3, False, 17, 144, 124)
ARM = Target("arm", 40, False, 18, 148, 124)
ARM64 = Target("arm64", 183, True, 34, 392, 136)
TARGETS = (X86_64, X86_32, ARM, ARM64)


@dataclass(frozen=True)
class Load:
    """A PT_LOAD, or another kind; ``data`` by offset, the rest of ``filesz`` is a hole."""

    vaddr: int
    memsz: int
    filesz: int
    data: Mapping[int, bytes] = field(default_factory=dict)
    flags: int = 6
    align: int = PAGE
    paddr: int = 0
    kind: int = 1


def note(owner: bytes, number: int, desc: bytes) -> bytes:
    name = owner + b"\0"
    head = struct.pack("<III", len(name), len(desc), number)
    return head + _pad4(name) + _pad4(desc)


def _pad4(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def prstatus(target: Target, tid: int, regs: Sequence[int] = ()) -> bytes:
    """si_signo 11, code 12, errno 13, cursig 14, sigpend 15, sighold 16, ids tid, 22, 23, 24,
    times 1.000002, 3.000004, 5.000006 and 7.000008 s, fpvalid 1."""
    values = list(regs) + [0] * (target.registers - len(regs))
    long = "q" if target.wide else "i"
    desc = struct.pack(
        f"<iiihxx{long.upper()}{long.upper()}iiii8{long}{target.registers}{long.upper()}i",
        *(11, 12, 13, 14, 15, 16, tid, 22, 23, 24, 1, 2, 3, 4, 5, 6, 7, 8),
        *values,
        1,
    )
    desc += bytes(4 if target.wide else 0)
    assert len(desc) == target.prstatus_size
    return note(b"CORE", 1, desc)


def prpsinfo(target: Target, pid: int, fname: bytes, psargs: bytes) -> bytes:
    """state 1, sname S, zomb 0, nice -5, flag 0x400100, uid 31, gid 32, ids pid, 34, 35, 36."""
    shape = "<bcbbxxxxQIIiiii16s80s" if target.wide else "<bcbbIHHiiii16s80s"
    values = (1, b"S", 0, -5, 0x400100, 31, 32, pid, 34, 35, 36, fname, psargs)
    desc = struct.pack(shape, *values)
    assert len(desc) == target.prpsinfo_size
    return note(b"CORE", 3, desc)


def siginfo(signo: int, code: int) -> bytes:
    return note(b"CORE", 0x53494749, struct.pack("<iii", signo, 0, code).ljust(128, b"\x5a"))


def auxv(target: Target, pairs: Iterable[tuple[int, int]]) -> bytes:
    word = "Q" if target.wide else "I"
    return note(b"CORE", 6, b"".join(struct.pack("<2" + word, *p) for p in (*pairs, (0, 0))))


def nt_file(target: Target, files: Sequence[tuple[int, int, int, bytes]]) -> bytes:
    """``files`` are (start, end, offset in pages, path)."""
    word = "Q" if target.wide else "I"
    desc = struct.pack("<2" + word, len(files), PAGE)
    desc += b"".join(struct.pack("<3" + word, *entry[:3]) for entry in files)
    desc += b"".join(entry[3] + b"\0" for entry in files)
    return note(b"CORE", 0x46494C45, desc)


def plain_notes(target: Target, tids: Sequence[int] = (100,)) -> list[bytes]:
    """The notes of an ordinary process, in the kernel's order."""
    regs = [0x1000 + i for i in range(target.registers)]
    fpregs = note(b"CORE", 2, bytes(range(108)))
    return [
        prstatus(target, tids[0], regs),
        prpsinfo(target, tids[0], b"name", b"name -x"),
        siginfo(6, -6),
        auxv(target, [(6, PAGE), (3, 0x10040), (9, 0x10400), (25, 0x7000)]),
        nt_file(target, [(0x10000, 0x12000, 0, b"/bin/na\xffme"), (0x20000, 0x21000, 5, b"/b")]),
        fpregs,
        *(part for tid in tids[1:] for part in (prstatus(target, tid, regs), fpregs)),
    ]


def plain_loads() -> list[Load]:
    return [
        Load(0x10000, 0x1000, 0x1000, {0: b"\x7fELF"}, flags=5),
        Load(0x11000, 0x1000, 0, flags=4),
        Load(0x20000, 0x3000, 0x3000, {0x1000: bytes(range(256)) * 16}),
    ]


def write(
    path: Path,
    target: Target,
    *,
    notes: Sequence[bytes] | None = None,
    loads: Sequence[Load] | None = None,
    machine: int | None = None,
    etype: int = 4,
    ident: bytes | None = None,
    gap: int = 0,
) -> Path:
    """Write a core as the kernel lays it out; above 65534 segments with PN_XNUM.

    ``gap`` puts that many unclaimed bytes between the notes and the first page of memory.
    """
    blob = b"".join(plain_notes(target) if notes is None else notes)
    segments = plain_loads() if loads is None else list(loads)
    count = len(segments) + 1
    ehsize, phentsize, shentsize = (64, 56, 64) if target.wide else (52, 32, 40)
    at = ehsize + count * phentsize
    headers = [_phdr(target, 4, 0, at, 0, 0, len(blob), 0, 4)]
    notes_at = at
    at = (at + len(blob) + gap + PAGE - 1) // PAGE * PAGE
    places = []
    for load in segments:
        headers.append(
            _phdr(
                *(target, load.kind, load.flags, at, load.vaddr, load.paddr),
                *(load.filesz, load.memsz, load.align),
            )
        )
        places.append(at)
        at += load.filesz
    extended = count >= 0xFFFF
    ehdr = struct.pack(
        "<16sHHIQQQIHHHHHH" if target.wide else "<16sHHIIIIIHHHHHH",
        *(
            ident
            or bytes((0x7F, 0x45, 0x4C, 0x46, 2 if target.wide else 1, 1, 1)).ljust(16, b"\0"),
        ),
        *(etype, target.machine if machine is None else machine, 1, 0, ehsize),
        *(at if extended else 0, 0, ehsize, phentsize, 0xFFFF if extended else count),
        *((shentsize, 1, 0) if extended else (0, 0, 0)),
    )
    with path.open("wb") as file:
        file.write(ehdr + b"".join(headers))
        file.seek(notes_at)
        file.write(blob)
        for load, place in zip(segments, places, strict=True):
            for offset, data in load.data.items():
                file.seek(place + offset)
                file.write(data)
        file.truncate(at)
        if extended:
            file.seek(at)
            shape = "<IIQQQQIIQQ" if target.wide else "<10I"
            file.write(struct.pack(shape, 0, 0, 0, 0, 0, 1, 0, count, 0, 0))
    return path


def _phdr(
    target: Target,
    kind: int,
    flags: int,
    offset: int,
    vaddr: int,
    paddr: int,
    filesz: int,
    memsz: int,
    align: int,
) -> bytes:
    if target.wide:
        return struct.pack("<IIQQQQQQ", kind, flags, offset, vaddr, paddr, filesz, memsz, align)
    return struct.pack("<8I", kind, offset, vaddr, paddr, filesz, memsz, flags, align)
