# SPDX-License-Identifier: BSD-3-Clause
"""Compressed cores as the library writes them: many frames, any of which can be read alone.

zstd and lz4: behind the frames an index of them, in a skippable frame (zstd's seekable format).
gzip: every member tells its own size in an extra field.

Files of other programs have no index: their one frame would have to be decompressed from its
beginning, so they are not read here.
"""

from __future__ import annotations

import enum
import importlib
import struct
import threading
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from .corebytes import Source
from .corerecords import CoreError

_CACHED = 8  # frames, of 4 MiB at most
_FRAME_MAX = 1 << 26
_SKIPPABLE = 0x184D2A5E
_SEEKABLE = 0x8F92EAB1
_FOOT = struct.Struct("<IBI")
_GZIP_HEAD = struct.Struct("<4sIBBH2sHI")
_GZIP_EXTRA = (b"\x1f\x8b\x08\x04", 8, b"CS", 4)
# A frame of 4 MiB of zeros takes less than this part of it.
_ZEROS_PART = 200


class Kind(enum.Enum):
    """How a core is compressed, by the first bytes of the file."""

    ZSTD = b"\x28\xb5\x2f\xfd"
    LZ4 = b"\x04\x22\x4d\x18"
    GZIP = b"\x1f\x8b\x08\x04"


# Modules that know each kind, the first one that is there, and what to install otherwise.
_MODULES = {
    Kind.ZSTD: (("compression.zstd", "backports.zstd", "zstandard"), "backports.zstd"),
    Kind.LZ4: (("lz4.frame",), "lz4"),
    Kind.GZIP: (("zlib",), "zlib"),
}


def _module(kind: Kind) -> Any:
    names, package = _MODULES[kind]
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            pass
    raise CoreError(
        f"is compressed by {kind.name.lower()}, for which there is no Python module",
        remedy=f"install it: pip install {package}",
    )


def _decompressed(kind: Kind, packed: bytes, size: int) -> bytes:
    """At most ``size`` bytes of a frame, whatever it says of itself."""
    module = _module(kind)
    if module.__name__ == "zstandard":
        data: bytes = module.ZstdDecompressor().stream_reader(packed).read(size)
    elif kind is Kind.ZSTD:
        data = module.ZstdDecompressor().decompress(packed, size)
    elif kind is Kind.LZ4:
        data = module.LZ4FrameDecompressor().decompress(packed, size)
    else:
        data = module.decompressobj(zlib.MAX_WBITS + 16).decompress(packed, size)
    return data


class _Frame(NamedTuple):
    start: int  # in the core
    size: int
    at: int  # in the file
    packed: int


def index(source: Source, kind: Kind) -> list[_Frame] | None:
    """The frames of a file, or None if it tells nothing of them."""
    sizes = _gzip_sizes(source) if kind is Kind.GZIP else _index_sizes(source)
    if sizes is None or not all(0 < plain <= _FRAME_MAX for _, plain in sizes):
        return None
    ats = accumulate((packed for packed, _ in sizes), initial=0)
    starts = accumulate((plain for _, plain in sizes), initial=0)
    return [
        _Frame(start=start, size=plain, at=at, packed=packed)
        for (packed, plain), at, start in zip(sizes, ats, starts, strict=False)
    ]


def _index_sizes(source: Source) -> list[tuple[int, int]] | None:
    foot = source.pread(source.size - _FOOT.size, _FOOT.size)
    if len(foot) != _FOOT.size:
        return None
    count, flags, magic = _FOOT.unpack(foot)
    table = count * 8
    at = source.size - _FOOT.size - table - 8
    if magic != _SEEKABLE or flags != 0 or at < 0:
        return None
    data = source.pread(at, 8 + table)
    if struct.unpack_from("<II", data) != (_SKIPPABLE, table + _FOOT.size):
        return None
    sizes = list(struct.iter_unpack("<II", data[8:]))
    return sizes if sum(packed for packed, _ in sizes) == at else None


def _gzip_sizes(source: Source) -> list[tuple[int, int]] | None:
    sizes = []
    at = 0
    while at < source.size:
        head = source.pread(at, _GZIP_HEAD.size)
        if len(head) != _GZIP_HEAD.size:
            return None
        magic, _, _, _, extra, name, length, packed = _GZIP_HEAD.unpack(head)
        if (magic, extra, name, length) != _GZIP_EXTRA or packed < _GZIP_HEAD.size + 8:
            return None
        end = source.pread(at + packed - 4, 4)
        if len(end) != 4:
            return None
        sizes.append((packed, int.from_bytes(end, "little")))
        at += packed
    return sizes


class PackedSource:
    """The bytes of a compressed core; the last frames that were used stay in memory."""

    def __init__(self, source: Source, kind: Kind, frames: list[_Frame], path: str) -> None:
        _module(kind)
        self._source = source
        self._kind = kind
        self._frames = frames
        self._path = path
        self._starts = [frame.start for frame in frames]
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._zeros: dict[bytes, bool] = {}
        self._lock = threading.Lock()
        self.size = frames[-1].start + frames[-1].size if frames else 0

    def pread(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self.size)
        pieces = []
        while offset < end:
            frame, data = self._frame_at(offset)
            piece = data[offset - frame.start : end - frame.start]
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Frames of nothing but zeros are holes."""
        end = min(end, self.size)
        while start < end:
            frame = self._frames[bisect_right(self._starts, start) - 1]
            stop = min(frame.start + frame.size, end)
            if not self._is_hole(frame):
                yield start, stop
            start = stop

    def close(self) -> None:
        self._cache.clear()
        self._source.close()

    def _frame_at(self, offset: int) -> tuple[_Frame, bytes]:
        number = bisect_right(self._starts, offset) - 1
        frame = self._frames[number]
        with self._lock:
            data = self._cache.get(number)
            if data is None:
                data = self._unpack(frame, self._packed(frame))
                self._cache[number] = data
                if len(self._cache) > _CACHED:
                    self._cache.popitem(last=False)
            else:
                self._cache.move_to_end(number)
        return frame, data

    def _unpack(self, frame: _Frame, packed: bytes) -> bytes:
        try:
            data = _decompressed(self._kind, packed, frame.size)
        except Exception as error:
            # Each module has errors of its own.
            raise self._damaged(frame) from error
        if len(data) != frame.size:
            raise self._damaged(frame)
        return data

    def _damaged(self, frame: _Frame) -> CoreError:
        return CoreError(
            f"the compressed frame at byte {frame.at} is damaged",
            path=self._path,
            remedy="get the file again, or dump again",
        )

    def _packed(self, frame: _Frame) -> bytes:
        return self._source.pread(frame.at, frame.packed)

    def _is_hole(self, frame: _Frame) -> bool:
        if frame.packed > frame.size // _ZEROS_PART:
            return False
        packed = self._packed(frame)
        hole = self._zeros.get(packed)
        if hole is None:
            data = self._unpack(frame, packed)
            hole = self._zeros[packed] = not any(data)
            if len(self._zeros) > 1024:
                self._zeros.clear()
        return hole


def unpacked(source: Source, path: str) -> Source:
    """The core in a compressed file that has an index; any other file as it is.

    ``path`` is for messages. Raises CoreError if a module is missing that decompresses it.
    """
    start = source.pread(0, 4)
    kind = next((kind for kind in Kind if kind.value == start), None)
    frames = index(source, kind) if kind else None
    return PackedSource(source, kind, frames, path) if kind and frames else source
