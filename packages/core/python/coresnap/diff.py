# SPDX-License-Identifier: BSD-3-Clause
"""The differ: two cores, every field and every byte, and what is not the same.

Nothing is tolerated here, and nothing is reported twice: what follows from a difference that is
already named (offsets behind a segment of another size, positions behind a missing note) is left
out. Which differences are allowed between two cores is for the caller to say.
"""

from __future__ import annotations

import dataclasses
import struct
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from . import corelayout as layout
from .corefile import Core
from .corememory import (
    ChangedRange,
    ChangedTags,
    MissingRange,
    changed_ranges,
    changed_tags,
    missing_ranges,
)
from .corerecords import Mapping, Note, Segment, Thread

__all__ = ["ChangedRange", "ChangedTags", "Comparison", "Difference", "MissingRange", "diff"]

_PIECE = 1 << 20
_SAMPLE = 16

_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same. ``path`` names it; None as a value means absent."""

    path: str
    a: object
    b: object
    detail: str | None = None


class Comparison:
    """The differences of two cores; both must stay open while memory is compared.

    Iterating gives all as Difference, fields first, then memory, then tags. ``differences`` are
    the fields alone; ``pages``, ``missing`` and ``tags`` read the files as they are iterated, each
    time anew.
    """

    def __init__(self, a: Core, b: Core) -> None:
        self._a = a
        self._b = b

    def __repr__(self) -> str:
        return f"<Comparison of {self._a.path!r} and {self._b.path!r}>"

    def __iter__(self) -> Iterator[Difference]:
        yield from self.differences
        for missing in self.missing:
            yield _missing_difference(missing)
        for changed in self.pages:
            yield _changed_difference(changed)
        for tags in self.tags:
            yield _tags_difference(tags)

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """Header, segments, notes and whatever else is not memory."""
        return tuple(
            difference
            for part in (_header, _segments, _sections, _unclaimed, _notes)
            for difference in part(self._a, self._b)
        )

    @property
    def pages(self) -> Iterator[ChangedRange]:
        """Where both cores hold bytes and they differ, in address order. A hole equals zeros."""
        return changed_ranges(self._a, self._b)

    @property
    def missing(self) -> Iterator[MissingRange]:
        """Where only one of the cores holds bytes, in address order."""
        return missing_ranges(self._a, self._b)

    @property
    def tags(self) -> Iterator[ChangedTags]:
        """Where both cores hold allocation tags of memory and they differ, in address order."""
        return changed_tags(self._a, self._b)


def diff(a: Core, b: Core) -> Comparison:
    """Compare two open cores. Raises CoreError later, if notes of a core prove to be damaged."""
    return Comparison(a, b)


# -- matching -----------------------------------------------------------------------------------


def _keyed(items: Iterable[_T], key: Callable[[_T], _K]) -> dict[tuple[_K, int], _T]:
    """Items by key and how often that key came before, in their order."""
    seen: Counter[_K] = Counter()
    result = {}
    for item in items:
        name = key(item)
        result[(name, seen[name])] = item
        seen[name] += 1
    return result


def _nth(name: str, occurrence: int) -> str:
    return name if occurrence == 0 else f"{name}#{occurrence + 1}"


def _order(
    path: str, a: Iterable[_K], b: Iterable[_K], show: Callable[[_K], object]
) -> Iterator[Difference]:
    """A difference if what both have comes in another order; ``a`` and ``b`` have no repeats."""
    order_a, order_b = list(a), list(b)
    common = set(order_a) & set(order_b)
    order_a = [item for item in order_a if item in common]
    order_b = [item for item in order_b if item in common]
    if order_a != order_b:
        yield Difference(path, tuple(map(show, order_a)), tuple(map(show, order_b)))


def _values(path: str, a: object, b: object) -> Iterator[Difference]:
    if a != b:
        yield Difference(path, a, b)


def _bytes(path: str, a: bytes, b: bytes) -> Iterator[Difference]:
    """Sizes, and contents as far as both go."""
    if len(a) != len(b):
        yield Difference(f"{path}.size", len(a), len(b))
    size = min(len(a), len(b))
    if a[:size] != b[:size]:
        where = [at for at in range(size) if a[at] != b[at]]
        yield Difference(
            path, a, b, f"{len(where)} of {size} bytes differ, the first at {where[0]:#x}"
        )


# -- the file's structure -----------------------------------------------------------------------


def _header(a: Core, b: Core) -> Iterator[Difference]:
    for item in dataclasses.fields(a.header):
        if item.name == "shoff":
            continue
        name = "e_ident" if item.name == "ident" else f"e_{item.name}"
        yield from _values(
            f"header.{name}", getattr(a.header, item.name), getattr(b.header, item.name)
        )
    shoff = (a.header.shoff, b.header.shoff)
    if shoff[0] != shoff[1]:
        # The kernel puts the section header behind the last segment: its place follows from them.
        gaps = [core.header.shoff - _segments_end(core) for core in (a, b)]
        if 0 in shoff or gaps[0] != gaps[1]:
            yield Difference("header.e_shoff", *shoff)


def _phdr_end(core: Core) -> int:
    return core.header.phoff + len(core.segments) * core.header.phentsize


def _segments_end(core: Core) -> int:
    return max((seg.offset + seg.filesz for seg in core.segments), default=_phdr_end(core))


def _segment_key(segment: Segment) -> str:
    if segment.type == layout.PT_LOAD:
        return f"{segment.vaddr:x}"
    if segment.type >= layout.PT_LOPROC:
        return f"PT_{segment.type:#x}:{segment.vaddr:x}"
    return "PT_NOTE" if segment.type == layout.PT_NOTE else f"PT_{segment.type:#x}"


def _segments(a: Core, b: Core) -> Iterator[Difference]:
    in_a, in_b = _keyed(a.segments, _segment_key), _keyed(b.segments, _segment_key)
    before_a, before_b = _ends_before(a), _ends_before(b)
    for key in in_a | in_b:
        path = f"phdr[{_nth(*key)}]"
        of_a, of_b = in_a.get(key), in_b.get(key)
        if of_a is None or of_b is None:
            yield Difference(path, of_a, of_b)
            continue
        # Most segments of two like cores are the same: a shortcut for 70,000 of them.
        if of_a == of_b:
            continue
        for name in ("flags", "vaddr", "paddr", "filesz", "memsz", "align"):
            yield from _values(f"{path}.p_{name}", getattr(of_a, name), getattr(of_b, name))
        why = _offset_difference(of_a, before_a[key], of_b, before_b[key])
        if why is not None:
            yield Difference(f"{path}.p_offset", of_a.offset, of_b.offset, why)
    yield from _order("phdr.order", in_a, in_b, lambda key: _nth(*key))


def _ends_before(core: Core) -> dict[tuple[str, int], int]:
    """For each segment, where in the file the one before it ends."""
    ends = [_phdr_end(core)]
    ends.extend(seg.offset + seg.filesz for seg in core.segments)
    return dict(zip(_keyed(core.segments, _segment_key), ends, strict=False))


def _offset_difference(a: Segment, before_a: int, b: Segment, before_b: int) -> str | None:
    """Why an offset differs in its own right, or None if it follows from what lies before.

    A segment stands behind the one before it, or at the next multiple of its alignment.
    """
    if a.offset == b.offset:
        return None
    congruent = [(seg.offset - seg.vaddr) % max(seg.align, 1) == 0 for seg in (a, b)]
    if a.type == layout.PT_LOAD and congruent[0] != congruent[1]:
        return "only one is congruent to its address modulo its alignment"
    gap_a, gap_b = a.offset - before_a, b.offset - before_b
    aligned = all(
        seg.offset == -(-before // max(seg.align, 1)) * max(seg.align, 1)
        for seg, before in ((a, before_a), (b, before_b))
    )
    if gap_a == gap_b or aligned:
        return None
    return f"it stands {gap_a:#x} and {gap_b:#x} bytes behind what comes before it"


def _sections(a: Core, b: Core) -> Iterator[Difference]:
    for index in range(max(len(a.sections), len(b.sections))):
        of_a = a.sections[index] if index < len(a.sections) else None
        of_b = b.sections[index] if index < len(b.sections) else None
        if of_a is None or of_b is None:
            yield Difference(f"shdr[{index}]", of_a, of_b)
            continue
        for name, value_a, value_b in zip(of_a._fields, of_a, of_b, strict=True):
            yield from _values(f"shdr[{index}].sh_{name}", value_a, value_b)


def _unclaimed(a: Core, b: Core) -> Iterator[Difference]:
    """The bytes of the files that belong to nothing: zero between the parts, none at the end."""
    (gaps_a, tail_a), (gaps_b, tail_b) = _gaps(a), _gaps(b)
    yield from _values("file.trailing", tail_a, tail_b)
    yield from _values("file.padding", gaps_a, gaps_b)


def _gaps(core: Core) -> tuple[tuple[bytes, ...], int]:
    """The first non-zero bytes of each gap that has such, and the size of what follows the core."""
    header = core.header
    parts = [(0, header.ehsize), (header.phoff, _phdr_end(core))]
    parts.extend((seg.offset, seg.offset + seg.filesz) for seg in core.segments)
    if core.sections:
        parts.append((header.shoff, header.shoff + header.shnum * header.shentsize))
    found = []
    at = 0
    for start, end in sorted(parts):
        if at < start:
            dirt = _first_dirt(core, at, start)
            if dirt:
                found.append(dirt)
        at = max(at, end)
    return tuple(found), max(0, core.file_size - at)


def _first_dirt(core: Core, start: int, end: int) -> bytes:
    for data_start, data_end in core.file_extents(start, end):
        for at in range(data_start, data_end, _PIECE):
            data = core.pread(at, min(_PIECE, data_end - at)).lstrip(b"\0")
            if data:
                return data[:_SAMPLE]
    return b""


# -- notes --------------------------------------------------------------------------------------


def _note_key(note: Note) -> tuple[str, int]:
    return note.owner, note.type


def _tid(thread: Thread) -> int:
    return thread.tid


def _notes(a: Core, b: Core) -> Iterator[Difference]:
    threads_a, threads_b = _keyed(a.threads, _tid), _keyed(b.threads, _tid)
    yield from _note_order(a, b, set(threads_a) & set(threads_b))
    yield from _order("notes.thread-order", threads_a, threads_b, lambda key: key[0])
    yield from _note_lists(a, b, a.process_notes, b.process_notes, prefix="notes")
    for key in threads_a | threads_b:
        path = f"thread[{_nth(str(key[0]), key[1])}]"
        of_a, of_b = threads_a.get(key), threads_b.get(key)
        if of_a is None or of_b is None:
            yield Difference(path, _note_names(of_a), _note_names(of_b))
            continue
        yield from _note_lists(a, b, of_a.notes, of_b.notes, prefix=path)
        keys_a, keys_b = _keyed(of_a.notes, _note_key), _keyed(of_b.notes, _note_key)
        yield from _order(f"{path}.order", keys_a, keys_b, lambda key: layout.note_name(*key[0]))


def _note_names(thread: Thread | None) -> tuple[str, ...] | None:
    return None if thread is None else tuple(note.name for note in thread.notes)


def _note_order(a: Core, b: Core, common: set[tuple[int, int]]) -> Iterator[Difference]:
    """Where the process's notes stand among the first thread's, and before or after the others."""
    process = set(_keyed(a.process_notes, _note_key)) & set(_keyed(b.process_notes, _note_key))
    first: set[tuple[tuple[str, int], int]] = set()
    if a.threads and b.threads:
        first = set(_keyed(a.threads[0].notes, _note_key)) & set(
            _keyed(b.threads[0].notes, _note_key)
        )
    shapes = [_note_shape(core, process, first, common) for core in (a, b)]
    yield from _values("notes.order", *shapes)


def _note_shape(
    core: Core,
    process: set[tuple[tuple[str, int], int]],
    first: set[tuple[tuple[str, int], int]],
    common: set[tuple[int, int]],
) -> tuple[str, ...]:
    """The order of notes, of which only those that both cores have, in words."""
    words: dict[int, str] = {}
    for key, note in _keyed(core.process_notes, _note_key).items():
        if key in process:
            words[note.offset] = _nth(note.name, key[1])
    for position, (tid, thread) in enumerate(_keyed(core.threads, _tid).items()):
        for key, note in _keyed(thread.notes, _note_key).items():
            if position == 0 and key in first:
                words[note.offset] = "of the first thread"
            elif position > 0 and tid in common:
                words[note.offset] = "other threads"
    runs: list[tuple[str, int]] = []
    for note in core.notes:
        word = words.get(note.offset)
        if word is None:
            continue
        if runs and runs[-1][0] == word:
            runs[-1] = (word, runs[-1][1] + 1)
        else:
            runs.append((word, 1))
    # How many notes of the first thread stand before the process's matters, as the kernel puts
    # exactly one there; how many notes the other threads have is for each thread to say.
    return tuple(f"{n} {word}" if word == "of the first thread" else word for word, n in runs)


def _note_lists(
    a: Core, b: Core, notes_a: Sequence[Note], notes_b: Sequence[Note], *, prefix: str
) -> Iterator[Difference]:
    in_a, in_b = _keyed(notes_a, _note_key), _keyed(notes_b, _note_key)
    for key in in_a | in_b:
        of_a, of_b = in_a.get(key), in_b.get(key)
        path = f"{prefix}.{_nth(layout.note_name(*key[0]), key[1])}"
        if of_a is None or of_b is None:
            yield Difference(path, of_a and of_a.desc, of_b and of_b.desc)
            continue
        pads = a.note_padding(of_a), b.note_padding(of_b)
        # Their sizes follow from the size of the note.
        if any(pad.strip(b"\0") for pad in pads):
            yield from _values(f"{path}.padding", *pads)
        if of_a.desc != of_b.desc:
            yield from _note(a, b, of_a, of_b, path=path)


def _note(a: Core, b: Core, of_a: Note, of_b: Note, *, path: str) -> Iterator[Difference]:
    """Two notes of one kind with different contents: by field where the kernel has fields."""
    same_arch = a.layout is b.layout
    number = of_a.type if of_a.owner == "CORE" and same_arch else None
    pair = (of_a.desc, of_b.desc)
    if number == layout.NT_PRSTATUS:
        yield from _structure(a.layout.prstatus, *pair, path=_replace_last(path, "prstatus"))
    elif number == layout.NT_PRPSINFO and len(pair[0]) == len(pair[1]) == a.layout.prpsinfo.size:
        yield from _structure(a.layout.prpsinfo, *pair, path="process")
    elif number == layout.NT_SIGINFO and path.startswith("notes."):
        yield from _siginfo(*pair)
    elif number == layout.NT_AUXV:
        yield from _auxv(a, *pair)
    elif number == layout.NT_FILE:
        yield from _files(a, b, *pair)
    else:
        yield from _bytes(path, *pair)


def _replace_last(path: str, name: str) -> str:
    return f"{path.rpartition('.')[0]}.{name}"


def _structure(shape: layout.Layout, a: bytes, b: bytes, *, path: str) -> Iterator[Difference]:
    for item in shape.fields:
        part = slice(item.offset, item.offset + item.size)
        if a[part] != b[part]:
            values = (shape.decode_field(item, a), shape.decode_field(item, b))
            detail = None if values[0] != values[1] else "other bytes of the same meaning"
            yield Difference(f"{path}.{item.name}", *values, detail)
    pads = [b"".join(data[start:end] for start, end in shape.padding) for data in (a, b)]
    yield from _values(f"{path}.padding", *pads)


def _siginfo(a: bytes, b: bytes) -> Iterator[Difference]:
    if min(len(a), len(b)) < 12:
        yield from _bytes("siginfo.bytes", a, b)
        return
    names = ("si_signo", "si_errno", "si_code")
    values = zip(names, struct.unpack_from("<iii", a), struct.unpack_from("<iii", b), strict=True)
    for name, value_a, value_b in values:
        yield from _values(f"siginfo.{name}", value_a, value_b)
    yield from _bytes("siginfo.bytes", a[12:], b[12:])


def _auxv(core: Core, a: bytes, b: bytes) -> Iterator[Difference]:
    decoder = struct.Struct("<2" + core.layout.word)
    entries = []
    for data in (a, b):
        whole = data[: len(data) - len(data) % decoder.size]
        entries.append(_keyed(decoder.iter_unpack(whole), lambda pair: int(pair[0])))
    in_a, in_b = entries
    for key in in_a | in_b:
        path = f"auxv.{_nth(layout.auxv_name(key[0]), key[1])}"
        of_a, of_b = in_a.get(key), in_b.get(key)
        yield from _values(path, of_a and of_a[1], of_b and of_b[1])
    yield from _order("auxv.order", in_a, in_b, lambda key: layout.auxv_name(key[0]))
    tails = [data[len(data) - len(data) % decoder.size :] for data in (a, b)]
    yield from _values("auxv.bytes", *tails)


def _files(core_a: Core, core_b: Core, a: bytes, b: bytes) -> Iterator[Difference]:
    word = struct.calcsize("<" + core_a.layout.word)
    in_a = _keyed(core_a.files, lambda entry: entry.start)
    in_b = _keyed(core_b.files, lambda entry: entry.start)
    reported = False
    pages = [struct.unpack_from("<" + core_a.layout.word, data, word)[0] for data in (a, b)]
    if pages[0] != pages[1]:
        yield Difference("files.page_size", *pages)
        reported = True
    index_a = {key: index for index, key in enumerate(in_a)}
    index_b = {key: index for index, key in enumerate(in_b)}
    for key in in_a | in_b:
        of_a, of_b = in_a.get(key), in_b.get(key)
        if of_a == of_b:
            continue
        reported = True
        path = f"files[{index_a.get(key, index_b.get(key))}]"
        if of_a is None or of_b is None:
            yield Difference(path, of_a, of_b, f"only in {'b' if of_a is None else 'a'}")
            continue
        for name in ("end", "offset", "path"):
            yield from _values(f"{path}.{name}", getattr(of_a, name), getattr(of_b, name))
    for difference in _order("files.order", in_a, in_b, lambda key: hex(key[0])):
        yield difference
        reported = True
    if not reported:
        yield from _bytes("files.bytes", a, b)


# -- memory -------------------------------------------------------------------------------------


def _place(mapping: Mapping | None) -> str:
    if mapping is None:
        return "not mapped"
    # repr() of bytes shows control characters escaped.
    return mapping.perms + ("" if mapping.path is None else f" {repr(mapping.path)[2:-1]}")


def _changed_difference(changed: ChangedRange) -> Difference:
    places = (_place(changed.a), _place(changed.b))
    where = places[0] if places[0] == places[1] else f"{places[0]} and {places[1]}"
    return Difference(
        f"memory[{changed.start:x}-{changed.end:x}]",
        changed.a_bytes,
        changed.b_bytes,
        f"{changed.pages} pages, the first difference at {changed.first:#x}; {where}",
    )


def _tags_difference(changed: ChangedTags) -> Difference:
    return Difference(
        f"tags[{changed.start:x}-{changed.end:x}]",
        changed.a_tags,
        changed.b_tags,
        f"tags of memory, a byte each; the first difference at {changed.first:#x}",
    )


def _missing_difference(missing: MissingRange) -> Difference:
    size = missing.end - missing.start
    held_by = "b" if missing.missing_in == "a" else "a"
    place = _place(missing.b if missing.missing_in == "a" else missing.a)
    return Difference(
        f"memory-missing[{missing.start:x}-{missing.end:x}]",
        0 if missing.missing_in == "a" else size,
        0 if missing.missing_in == "b" else size,
        f"only {held_by} has these bytes, "
        f"{'all of them zero' if missing.zero else 'not all of them zero'}; {place}",
    )
