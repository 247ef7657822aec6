# SPDX-License-Identifier: BSD-3-Clause
"""The memory of two cores: where both hold bytes that differ, and where only one holds any.

And where the tags of memory differ, of which each core holds as many as its headers say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from . import corelayout as layout
from .corefile import Core
from .corerecords import Mapping, Segment
from .coretags import unpack

_PAGE = 4096
_PIECE = 1 << 20
# Below this, reading both sides costs less than asking both for their holes.
_SMALL = 64 << 10
_SAMPLE = 16


@dataclass(frozen=True)
class ChangedRange:
    """Memory [start, end) of neighbouring pages that differ, within one mapping of each core.

    ``first`` is the address of the first differing byte, ``a_bytes`` and ``b_bytes`` up to 16
    bytes from there, ``pages`` the number of pages.
    """

    start: int
    end: int
    first: int
    a: Mapping
    b: Mapping
    a_bytes: bytes
    b_bytes: bytes

    @property
    def pages(self) -> int:
        return -(-self.end // _PAGE) - self.start // _PAGE


@dataclass(frozen=True)
class MissingRange:
    """Memory [start, end) whose bytes only one core holds.

    ``missing_in`` is ``"a"`` or ``"b"``, ``zero`` says whether the bytes of the other are all
    zero. ``a`` and ``b`` are the mappings at ``start``, None where there is none.
    """

    start: int
    end: int
    missing_in: str
    zero: bool
    a: Mapping | None
    b: Mapping | None


@dataclass(frozen=True)
class ChangedTags:
    """Memory [start, end) of neighbouring pages whose allocation tags differ.

    ``first`` is the address of the first differing tag, ``a_tags`` and ``b_tags`` up to 16 tags
    from there, a byte each.
    """

    start: int
    end: int
    first: int
    a_tags: bytes
    b_tags: bytes


def changed_ranges(a: Core, b: Core) -> Iterator[ChangedRange]:
    """Where both cores hold bytes and they differ, in address order. A hole equals zeros."""
    for start, end, of_a, of_b in _pieces(a, b):
        if of_a is not None and of_b is not None:
            yield from _changed(a, b, start, end, of_a, of_b)


def missing_ranges(a: Core, b: Core) -> Iterator[MissingRange]:
    """Where only one of the cores holds bytes, in address order."""
    for start, end, of_a, of_b in _pieces(a, b):
        if of_a is None and of_b is not None:
            zero = _is_zero(b, start, end, of_b)
            yield MissingRange(start, end, "a", zero, a.mapping_at(start), of_b)
        elif of_b is None and of_a is not None:
            zero = _is_zero(a, start, end, of_a)
            yield MissingRange(start, end, "b", zero, of_a, b.mapping_at(start))


def changed_tags(a: Core, b: Core) -> Iterator[ChangedTags]:
    """Where both cores hold tags and they differ, in address order. A hole equals zeros."""
    in_b = {segment.vaddr: segment for segment in b.tags.segments}
    for of_a in sorted(a.tags.segments, key=lambda segment: segment.vaddr):
        of_b = in_b.get(of_a.vaddr)
        if of_b is not None:
            yield from _changed_tags(a, b, of_a, of_b)


def _held(core: Core) -> list[tuple[int, int, Mapping]]:
    """What the core has bytes of, in address order and without overlap."""
    held = []
    at = 0
    for mapping in sorted(core.maps, key=lambda item: item.start):
        size = max(0, min(mapping.filesz, core.file_size - mapping.offset))
        start, end = max(at, mapping.start), mapping.start + size
        if start < end:
            held.append((start, end, mapping))
            at = end
    return held


def _pieces(a: Core, b: Core) -> Iterator[tuple[int, int, Mapping | None, Mapping | None]]:
    """Cut what either core holds where anything changes: (start, end, mapping of a, of b).

    By address and not by segment, so that a mapping which only one core has in two parts is still
    compared.
    """
    held_a, held_b = _held(a), _held(b)
    never = 1 << 65
    i = j = at = 0
    while i < len(held_a) or j < len(held_b):
        start_a, end_a, map_a = held_a[i] if i < len(held_a) else (never, never, None)
        start_b, end_b, map_b = held_b[j] if j < len(held_b) else (never, never, None)
        start_a, start_b = max(start_a, at), max(start_b, at)
        start = min(start_a, start_b)
        in_a, in_b = start_a == start, start_b == start
        at = min(end_a if in_a else start_a, end_b if in_b else start_b)
        yield start, at, map_a if in_a else None, map_b if in_b else None
        i += in_a and at == end_a
        j += in_b and at == end_b


def _data(core: Core, start: int, end: int, mapping: Mapping) -> Iterator[tuple[int, int]]:
    """The address ranges within [start, end) of a mapping that are not holes."""
    if end - start <= _SMALL:
        yield start, end
        return
    shift = mapping.start - mapping.offset
    for data_start, data_end in core.file_extents(start - shift, end - shift):
        yield data_start + shift, data_end + shift


def _union(a: Iterator[tuple[int, int]], b: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Two ordered sequences of ranges as one, where they overlap or touch merged; lazily."""
    next_a, next_b = next(a, None), next(b, None)
    last: tuple[int, int] | None = None
    while next_a is not None or next_b is not None:
        if next_b is None or (next_a is not None and next_a <= next_b):
            taken, next_a = next_a, next(a, None)
        else:
            taken, next_b = next_b, next(b, None)
        if taken is None:
            continue
        if last is None:
            last = taken
        elif taken[0] <= last[1]:
            last = (last[0], max(last[1], taken[1]))
        else:
            yield last
            last = taken
    if last is not None:
        yield last


def _changed(
    a: Core, b: Core, start: int, end: int, of_a: Mapping, of_b: Mapping
) -> Iterator[ChangedRange]:
    """The differing pages of a range that both hold; what is a hole in both is the same."""
    shift_a, shift_b = of_a.offset - of_a.start, of_b.offset - of_b.start
    found: ChangedRange | None = None
    for data_start, data_end in _union(_data(a, start, end, of_a), _data(b, start, end, of_b)):
        at = data_start
        while at < data_end:
            # Pieces end at multiples of their size, so that pages are not cut in two.
            stop = min(data_end, (at // _PIECE + 1) * _PIECE)
            bytes_a, bytes_b = a.pread(at + shift_a, stop - at), b.pread(at + shift_b, stop - at)
            for page, page_end in _changed_pages(bytes_a, bytes_b, at):
                if found is not None and page <= found.end:
                    found = dataclasses.replace(found, end=max(found.end, page_end))
                    continue
                if found is not None:
                    yield found
                low, high = page - at, page_end - at
                first = _first_difference(bytes_a[low:high], bytes_b[low:high]) + low
                sample = slice(first, first + _SAMPLE)
                found = ChangedRange(
                    page, page_end, at + first, of_a, of_b, bytes_a[sample], bytes_b[sample]
                )
            at = stop
    if found is not None:
        yield found


def _changed_pages(a: bytes, b: bytes, base: int) -> Iterator[tuple[int, int]]:
    """The (start, end) addresses of the pages that differ in two pieces that start at ``base``."""
    if a == b:
        return
    at = 0
    while at < len(a):
        end = min(len(a), at + _PAGE - (base + at) % _PAGE)
        # Slices of bytes compare by memcmp, those of a memoryview item by item.
        if a[at:end] != b[at:end]:
            yield base + at, base + end
        at = end


def _first_difference(a: bytes, b: bytes) -> int:
    return next(at for at, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)


def _tag_data(core: Core, segment: Segment, size: int) -> Iterator[tuple[int, int]]:
    """The ranges within the first ``size`` bytes of a segment that are not holes."""
    for start, end in core.file_extents(segment.offset, segment.offset + size):
        yield start - segment.offset, end - segment.offset


def _changed_tags(a: Core, b: Core, of_a: Segment, of_b: Segment) -> Iterator[ChangedTags]:
    size = min(of_a.filesz, of_b.filesz)
    page = _PAGE // layout.TAGGED_BY_A_BYTE
    for start, end in _union(_tag_data(a, of_a, size), _tag_data(b, of_b, size)):
        for at in range(start, end, _PIECE):
            stop = min(end, at + _PIECE)
            bytes_a = a.pread(of_a.offset + at, stop - at)
            bytes_b = b.pread(of_b.offset + at, stop - at)
            both = min(len(bytes_a), len(bytes_b))  # one may be cut off here
            for low, high in _differing(bytes_a[:both], bytes_b[:both], page):
                tags_a, tags_b = unpack(bytes_a[low:high]), unpack(bytes_b[low:high])
                first = _first_difference(tags_a, tags_b)
                base = of_a.vaddr + (at + low) * layout.TAGGED_BY_A_BYTE
                yield ChangedTags(
                    start=base,
                    end=of_a.vaddr + (at + high) * layout.TAGGED_BY_A_BYTE,
                    first=base + first * layout.TAG_GRANULE,
                    a_tags=tags_a[first : first + _SAMPLE],
                    b_tags=tags_b[first : first + _SAMPLE],
                )


def _differing(a: bytes, b: bytes, step: int) -> Iterator[tuple[int, int]]:
    """Runs of pieces of ``step`` bytes that differ in two strings, which begin at such a piece."""
    run: tuple[int, int] | None = None
    for at in range(0, len(a), step):
        if a[at : at + step] != b[at : at + step]:
            run = (at if run is None else run[0], min(at + step, len(a)))
        elif run is not None:
            yield run
            run = None
    if run is not None:
        yield run


def _is_zero(core: Core, start: int, end: int, mapping: Mapping) -> bool:
    shift = mapping.offset - mapping.start
    for data_start, data_end in _data(core, start, end, mapping):
        for at in range(data_start, data_end, _PIECE):
            data = core.pread(at + shift, min(_PIECE, data_end - at))
            if data.count(0) != len(data):
                return False
    return True
