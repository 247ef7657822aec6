# SPDX-License-Identifier: BSD-3-Clause
"""Damaged cores for the reader: made of good ones of each architecture, and the same for a number.

Most damage is to what tells the structure (headers, sizes and counts, the index of a compressed
file), since other bytes are only handed on.
"""

import contextlib
import importlib
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import elfwriter
from elfwriter import ARM64, PAGE, TARGETS, Load, Target

FRAME = 6000  # bytes of a core in a frame of a compressed one
NUMBERS: tuple[int, ...] = (
    0,
    1,
    2,
    3,
    4,
    7,
    12,
    255,
    4095,
    PAGE,
    0x10000,
    0xFFFE,
    0xFFFF,
    1 << 20,
    (1 << 26) + 1,
)
NUMBERS += tuple((1 << bits) - off for bits in (31, 32, 40, 63, 64) for off in (0, 1, 2, PAGE))


@dataclass
class Image:
    """A good core, and where what tells its structure lies: (offset, bytes) of each number."""

    data: bytes
    numbers: list[tuple[int, int]] = field(default_factory=list)
    telling: int = 0
    """The bytes of headers and notes, at the beginning."""


def _program(target: Target) -> bytes:
    """The first page of a mapped program: its headers and a build-id."""
    note = struct.pack("<III4s", 4, 20, 3, b"GNU\0") + bytes(range(20))
    wide = target.wide
    ehsize, phsize = (64, 56) if wide else (52, 32)
    ident = bytes((0x7F, 0x45, 0x4C, 0x46, 2 if wide else 1, 1, 1)).ljust(16, b"\0")
    shape = "<16sHHIQQQIHHHHHH" if wide else "<16sHHIIIIIHHHHHH"
    head = struct.pack(
        shape, ident, 3, target.machine, 1, 0, ehsize, 0, 0, ehsize, phsize, 1, 0, 0, 0
    )
    at, size = ehsize + phsize, len(note)
    if wide:
        return head + struct.pack("<IIQQQQQQ", 4, 4, at, at, at, size, size, 4) + note
    return head + struct.pack("<8I", 4, at, at, at, size, size, 4, 4) + note


def _notes(target: Target) -> list[bytes]:
    layout = b"".join(struct.pack("<4I", n, 16, 576 + 16 * n, 0) for n in (2, 9))
    return [
        *elfwriter.plain_notes(target, tids=(100, 101)),
        elfwriter.note(b"LINUX", 0x202, bytes(700)),
        elfwriter.note(b"LINUX", 0x205, layout),
        elfwriter.note(b"OWN", 7, b"text"),
    ]


def _counted_apart(data: bytes, target: Target) -> bytes:
    """The same core with the number of its segments in a section header (PN_XNUM)."""
    shape, fields = ("<IIQQQQIIQQ", (40, 56)) if target.wide else ("<10I", (32, 44))
    changed = bytearray(data)
    (count,) = struct.unpack_from("<H", data, fields[1])
    word = "<Q" if target.wide else "<I"
    struct.pack_into(word, changed, fields[0], len(data))
    struct.pack_into("<H", changed, fields[1], 0xFFFF)
    struct.pack_into("<HH", changed, fields[1] + 2, struct.calcsize(shape), 1)
    return bytes(changed) + struct.pack(shape, 0, 0, 0, 0, 0, 1, 0, count, 0, 0)


def _places(data: bytes, target: Target, notes: list[bytes], headers: int) -> Image:
    """Where the numbers are: of the ELF header, program headers, notes, and of NT_FILE."""
    wide = target.wide
    ehsize, phsize = (64, 56) if wide else (52, 32)
    numbers = [(16, 2), (18, 2), (20, 4), (4, 1), (5, 1)]
    numbers += [(at, 8 if wide else 4) for at in ((24, 32, 40) if wide else (24, 28, 32))]
    numbers += [(ehsize - 12 + 2 * n, 2) for n in range(6)]
    for header in range(headers):
        at = ehsize + header * phsize
        if wide:
            numbers += [(at, 4), (at + 4, 4), *((at + 8 * n, 8) for n in range(1, 7))]
        else:
            numbers += [(at + 4 * n, 4) for n in range(8)]
    at = ehsize + headers * phsize
    for note in notes:
        numbers += [(at + 4 * n, 4) for n in range(3)]
        if note[8:12] == b"ELIF":
            width = 8 if wide else 4
            numbers += [(at + 20 + n * width, width) for n in range(8)] * 2
        at += len(note)
    return Image(data, numbers, at)


def _write(target: Target, *, apart: bool) -> Image:
    loads = elfwriter.plain_loads()
    loads[0] = Load(0x10000, PAGE, PAGE, {0: _program(target)}, flags=5)
    if target is ARM64:
        loads.append(Load(0x20000, 0x3000, 96 * 4, {0: b"\x21" * 8}, kind=0x70000002))
    notes = _notes(target)
    with tempfile.TemporaryDirectory() as made:
        data = elfwriter.write(Path(made, "core"), target, notes=notes, loads=loads).read_bytes()
    image = _places(data, target, notes, len(loads) + 1)
    if apart:
        image.data = _counted_apart(data, target)
        width = 8 if target.wide else 4
        image.numbers += [(len(data) + (44 if target.wide else 28), 4)] * 4
        image.numbers += [(len(data) + 8, width)]
    return image


def _gzip_member(piece: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(piece) + packer.flush()
    size = 24 + len(body) + 8 - 4
    head = struct.pack("<4sIBBH2sHI", b"\x1f\x8b\x08\x04", 0, 0, 3, 8, b"CS", 4, size)
    return head + body + struct.pack("<II", zlib.crc32(piece), len(piece))


def packers() -> list[Callable[[bytes], bytes]]:
    """Each makes a frame; those of which there is a module here."""
    found: list[Callable[[bytes], bytes]] = [_gzip_member]
    for name in ("compression.zstd", "backports.zstd", "lz4.frame"):
        with contextlib.suppress(ImportError):
            found.append(importlib.import_module(name).compress)
    with contextlib.suppress(ImportError):
        found.append(importlib.import_module("zstandard").ZstdCompressor().compress)
    return found


def packed(data: bytes, packer: Callable[[bytes], bytes]) -> tuple[bytes, int]:
    """A compressed core, and how many bytes at its end are an index."""
    pieces = [data[at : at + FRAME] for at in range(0, len(data), FRAME)]
    frames = [packer(piece) for piece in pieces]
    if packer is _gzip_member:
        return b"".join(frames), 0
    table = b"".join(
        struct.pack("<II", len(f), len(p)) for f, p in zip(frames, pieces, strict=True)
    )
    foot = struct.pack("<IBI", len(frames), 0, 0x8F92EAB1)
    index = struct.pack("<II", 0x184D2A5E, len(table) + len(foot)) + table + foot
    return b"".join(frames) + index, len(index)


class Workshop:
    """Makes damaged cores by number."""

    def __init__(self) -> None:
        self.good = [_write(target, apart=apart) for target in TARGETS for apart in (False, True)]
        self._packers = packers()

    def core(self, number: int) -> bytes:
        """The damaged core of that number; the first ones are not damaged at all."""
        dice = random.Random(number)
        image = self.good[number % len(self.good)]
        data = bytearray(image.data)
        if number < len(self.good):
            return image.data
        pack = dice.random() < 0.2
        if not pack or dice.random() < 0.5:
            for _ in range(dice.choice((1, 1, 2, 3, 6))):
                _damage(dice, data, image.numbers, image.telling)
        if not pack:
            return bytes(data)
        result, index = packed(bytes(data), dice.choice(self._packers))
        return _damage_packed(dice, bytearray(result), index)


def _damage_packed(dice: random.Random, data: bytearray, index: int) -> bytes:
    begin = len(data) - index
    numbers = [(at, 4) for at in range(begin, len(data) - 9, 4)]
    if index:
        numbers += [(len(data) - 9, 4), (len(data) - 5, 1), (len(data) - 4, 4)]
    else:  # gzip: of the first member, and the end of the last
        numbers += [(0, 4), (10, 2), (12, 2), (14, 2), (16, 4), (len(data) - 4, 4)]
    for _ in range(dice.choice((0, 1, 1, 2))):
        _damage(dice, data, numbers, len(data))
    return bytes(data)


def _damage(
    dice: random.Random, data: bytearray, numbers: list[tuple[int, int]], telling: int
) -> None:
    """One damage, in place."""
    kind = dice.random()
    top = min(telling, len(data))
    if top < 2:
        return
    if kind < 0.5:
        at, width = dice.choice(numbers)
        old = int.from_bytes(data[at : at + width], "little")
        near = (old + dice.choice((-8, -4, -1, 1, 4, 8)), len(data) - dice.randrange(3), old << 8)
        value = dice.choice((*NUMBERS, *near)) % (1 << (8 * width))
        if at + width <= len(data):
            data[at : at + width] = value.to_bytes(width, "little")
    elif kind < 0.7:
        data[dice.randrange(top)] = dice.choice((0, 0xFF, dice.randrange(256)))
    elif kind < 0.85:
        size = dice.randrange(1, 64)
        to, since = dice.randrange(top), dice.randrange(top)
        piece = data[since : since + size]
        data[to : to + len(piece)] = piece
    elif kind < 0.95:
        del data[dice.choice((dice.randrange(top), dice.randrange(len(data)))) :]
    else:
        at = dice.randrange(top)
        del data[at : at + dice.choice((1, 2, 4, 8, 12))]
