# SPDX-License-Identifier: BSD-3-Clause
"""Ways to spoil a core, each in one place: an oracle that does not see them judges nothing."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from coresnap.corefile import Core, Mapping, Note, Segment

Patch = tuple[int, bytes]  # offset in the file, what stands there instead

NT_AUXV = 6
NT_SIGINFO = 0x53494749
NT_FILE = 0x46494C45
NT_X86_XSTATE = 0x202
PT_NULL = 0
PAGE = 4096


@dataclass(frozen=True)
class Mutation:
    """``patches`` says what to overwrite, ``path`` (a pattern) where a difference must be seen."""

    name: str
    patches: Callable[[Core], Iterable[Patch]]
    path: str


def mutated(core: Core, mutation: Mutation, to: Path) -> Core:
    """A spoilt copy of a core, opened."""
    patches = list(mutation.patches(core))
    shutil.copyfile(core.path, to)
    with to.open("r+b") as file:
        for offset, data in patches:
            file.seek(offset)
            file.write(data)
    return Core(to)


def _desc(note: Note) -> int:
    """Where the contents of a note stand in the file."""
    return note.offset + 12 + (len(note.owner) + 1 + 3) // 4 * 4


def _flip(core: Core, offset: int, mask: int = 1) -> list[Patch]:
    return [(offset, bytes([core.pread(offset, 1)[0] ^ mask]))]


def _prstatus(
    field: str, value: Callable[[int], int], thread: int = -1
) -> Callable[[Core], list[Patch]]:
    """Change one field of a thread's NT_PRSTATUS."""

    def patches(core: Core) -> list[Patch]:
        item = next(item for item in core.layout.prstatus.fields if item.name == field)
        note = core.threads[thread].notes[0]
        code = "<" + item.code[0]
        old = struct.unpack_from(code, note.desc, item.offset)[0]
        return [(_desc(note) + item.offset, struct.pack(code, value(old)))]

    return patches


def _register(core: Core) -> list[Patch]:
    name = "r15" if core.elf_class == 64 else "edi"
    return _prstatus(name, lambda value: value ^ 1)(core)


def _process(field: str, mask: int) -> Callable[[Core], list[Patch]]:
    def patches(core: Core) -> list[Patch]:
        item = next(item for item in core.layout.prpsinfo.fields if item.name == field)
        note = core.process_note(3)
        assert note is not None
        byte = (mask.bit_length() - 1) // 8
        return _flip(core, _desc(note) + item.offset + byte, mask >> (8 * byte))

    return patches


def _note_byte(number: int, at: int) -> Callable[[Core], list[Patch]]:
    """Flip one byte of a note of the process, or of the last thread."""

    def patches(core: Core) -> list[Patch]:
        notes = [note for note in core.notes if note.type == number]
        return _flip(core, _desc(notes[-1]) + at)

    return patches


def _held(core: Core) -> Mapping:
    """A writable mapping of which the core has bytes."""
    return next(item for item in core.maps if item.perms == "rw-" and item.filesz >= 2 * PAGE)


def _memory(core: Core) -> list[Patch]:
    return _flip(core, _held(core).offset + PAGE + 123)


def _memory_of_stack(core: Core) -> list[Patch]:
    mapping = core.mapping_at(core.threads[0].sp)
    assert mapping is not None
    return _flip(core, mapping.offset + core.threads[0].sp - mapping.start)


def _phdr(core: Core, segment: Segment) -> int:
    return core.header.phoff + core.segments.index(segment) * core.header.phentsize


def _segment(core: Core) -> Segment:
    start = _held(core).start
    return next(item for item in core.segments if item.vaddr == start and item.type == 1)


def _drop_segment(core: Core) -> list[Patch]:
    return [(_phdr(core, _segment(core)), struct.pack("<I", PT_NULL))]


def _flags(core: Core) -> list[Patch]:
    return _flip(core, _phdr(core, _segment(core)) + (4 if core.elf_class == 64 else 24))


def _shorten(core: Core) -> list[Patch]:
    segment = _segment(core)
    at = _phdr(core, segment) + (32 if core.elf_class == 64 else 16)
    return [(at, struct.pack("<Q" if core.elf_class == 64 else "<I", segment.filesz - PAGE))]


def _swap_notes(core: Core) -> list[Patch]:
    """Let NT_AUXV stand before NT_SIGINFO; both keep their bytes."""
    index = next(i for i, note in enumerate(core.notes) if note.type == NT_SIGINFO)
    first, second, third = core.notes[index : index + 3]
    assert second.type == NT_AUXV
    one = core.pread(first.offset, second.offset - first.offset)
    two = core.pread(second.offset, third.offset - second.offset)
    return [(first.offset, two + one)]


def _swap_threads(core: Core) -> list[Patch]:
    """Let the second thread come first: its id in the leader's NT_PRSTATUS and vice versa."""
    at = 32 if core.elf_class == 64 else 24
    first, second = core.threads[0], core.threads[1]
    return [
        (_desc(first.notes[0]) + at, struct.pack("<i", second.tid)),
        (_desc(second.notes[0]) + at, struct.pack("<i", first.tid)),
    ]


def _rename_note(core: Core) -> list[Patch]:
    note = next(note for note in core.notes if note.type == NT_X86_XSTATE)
    return [(note.offset + 8, struct.pack("<I", 0x299))]


def _auxv_value(core: Core) -> list[Patch]:
    note = core.process_note(NT_AUXV)
    assert note is not None
    return _flip(core, _desc(note) + core.elf_class // 8)


def _elf_flags(core: Core) -> list[Patch]:
    return _flip(core, 48 if core.elf_class == 64 else 36)


MUTATIONS = (
    Mutation("a register", _register, r"thread\[\d+\]\.prstatus\.(r15|edi)"),
    Mutation("a byte of memory", _memory, r"memory\[[0-9a-f-]+\]"),
    Mutation("a byte at the stack pointer", _memory_of_stack, r"memory\[[0-9a-f-]+\]"),
    Mutation("a byte of XSTATE", _note_byte(NT_X86_XSTATE, 600), r"thread\[\d+\]\.NT_X86_XSTATE"),
    Mutation("a byte of the auxiliary vector", _auxv_value, r"auxv\..*"),
    Mutation("a byte of NT_FILE", _note_byte(NT_FILE, 24), r"files\[.*"),
    Mutation("a segment dropped", _drop_segment, r"phdr\[[0-9a-f]+\]"),
    Mutation("the flags of a segment", _flags, r"phdr\[[0-9a-f]+\]\.p_flags"),
    Mutation("a page less of a segment", _shorten, r"memory-missing\[[0-9a-f-]+\]"),
    Mutation("two notes swapped", _swap_notes, r"notes\.order"),
    Mutation("another thread first", _swap_threads, r"notes\.thread-order"),
    Mutation("a note of another type", _rename_note, r"thread\[\d+\]\.(NT_X86_XSTATE|0x299)"),
    Mutation("e_flags", _elf_flags, r"header\.e_flags"),
    Mutation("the command name", _process("pr_fname", 1), r"process\.pr_fname"),
    Mutation("the arguments", _process("pr_psargs", 1), r"process\.pr_psargs"),
    Mutation("the nice value", _process("pr_nice", 1), r"process\.pr_nice"),
    # What the rules allow within limits, beyond them.
    Mutation("another signal", _prstatus("pr_cursig", lambda _: 11), r".*\.pr_cursig"),
    Mutation(
        "a signal that is pending", _prstatus("pr_sigpend", lambda v: v | 2), r".*\.pr_sigpend"
    ),
    Mutation(
        "a signal that is blocked", _prstatus("pr_sighold", lambda v: v | 2), r".*\.pr_sighold"
    ),
    Mutation("a time that is later", _prstatus("pr_utime", lambda v: v + 1000), r".*\.pr_utime"),
    Mutation("a sender of no signal", _note_byte(NT_SIGINFO, 20), r"siginfo\.bytes"),
    Mutation("a signal number", _note_byte(NT_SIGINFO, 0), r"siginfo\.si_signo"),
    Mutation("PF_SUPERPRIV", _process("pr_flag", 0x100), r"process\.pr_flag"),
    Mutation("PF_KTHREAD", _process("pr_flag", 0x200000), r"process\.pr_flag"),
)
