# SPDX-License-Identifier: BSD-3-Clause
"""The allocation tags of memory in a core (AArch64's MTE), which have segments of their own."""

from __future__ import annotations

from collections.abc import Sequence

from . import corelayout as layout
from .corebytes import Source
from .corerecords import AddressMissing, Segment


def unpack(packed: bytes) -> bytes:
    """Tags, a byte each, out of a segment's bytes, which hold that of the lower address first.

    ``mte_save_page_tags`` in arch/arm64/lib/mte.S packs them.
    """
    return bytes(tag for byte in packed for tag in (byte & 15, byte >> 4))


class Tags:
    """The tags of a core; ``segments`` have the address and size of the memory that they are of."""

    def __init__(self, source: Source, segments: Sequence[Segment], path: str) -> None:
        self._source = source
        self._path = path
        self.segments = tuple(segments)

    @property
    def memory(self) -> int:
        """Bytes of memory whose tags the core holds."""
        return sum(held_until(segment) - segment.vaddr for segment in self.segments)

    def read(self, address: int, size: int) -> bytes:
        """The tags of ``size`` bytes of memory, a byte (0 to 15) for each 16 of them.

        ``address`` and ``size`` are multiples of 16. Raises AddressMissing where the core holds no
        tags, be it that the memory has none.
        """
        if address % layout.TAG_GRANULE or size % layout.TAG_GRANULE or size < 0:
            raise ValueError("a tag is that of 16 bytes of memory")
        found = bytearray()
        end = address + size
        while address < end:
            segment = self._segment_at(address)
            stop = min(end, held_until(segment))
            found += self._read_segment(segment, address, stop)
            address = stop
        return bytes(found)

    def _segment_at(self, address: int) -> Segment:
        for segment in self.segments:
            if segment.vaddr <= address < held_until(segment):
                return segment
        raise self._missing(
            address, "", "memory has tags if it was mapped with PROT_MTE and is kept in the core"
        )

    def _read_segment(self, segment: Segment, address: int, stop: int) -> bytes:
        first, last = ((at - segment.vaddr) // layout.TAG_GRANULE for at in (address, stop))
        size = (last + 1) // 2 - first // 2
        packed = self._source.pread(segment.offset + first // 2, size)
        if len(packed) < size:
            raise self._missing(
                address, ": the file is cut off before them", "take the core again with room for it"
            )
        return unpack(packed)[first % 2 :][: last - first]

    def _missing(self, address: int, why: str, remedy: str) -> AddressMissing:
        return AddressMissing(
            f"holds no tags of memory at {address:#x}{why}",
            path=self._path,
            address=address,
            remedy=remedy,
        )


def held_until(segment: Segment) -> int:
    """The end of the memory whose tags a segment has in the file."""
    return segment.vaddr + segment.filesz * layout.TAGGED_BY_A_BYTE
