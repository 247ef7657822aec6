# SPDX-License-Identifier: BSD-3-Clause
"""Compares a core with what the scenario said about itself when it was ready."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from coresnap.corefile import AddressMissing, Core, Thread

Truth = Mapping[str, Any]
PAGE = 4096


def _threads(core: Core) -> dict[int, Thread]:
    return {thread.tid: thread for thread in core.threads}


def _memory(core: Core, truth: Truth) -> str | None:
    want = bytes.fromhex(truth["hex"])
    try:
        have = core.read(truth["address"], len(want))
    except AddressMissing as error:
        return str(error)
    return None if have == want else f"{truth['address']:#x} holds {have.hex()}, not {want.hex()}"


def _absent(core: Core, truth: Truth) -> str | None:
    start, end = truth["address"], truth["address"] + truth["size"]
    at = start
    while at < end:
        mapping = core.mapping_at(at)
        if mapping is None:
            return f"no segment covers {at:#x}"
        if mapping.start + mapping.filesz > at:
            return f"the core has bytes at {at:#x}"
        at = mapping.end
    return None


def _tags(core: Core, truth: Truth) -> str | None:
    """The allocation tags of memory, a byte each."""
    want = bytes.fromhex(truth["hex"])
    try:
        have = core.tags.read(truth["address"], truth["size"])
    except AddressMissing as error:
        return str(error)
    return (
        None if have == want else f"tags at {truth['address']:#x}: {have.hex()}, not {want.hex()}"
    )


def _tags_absent(core: Core, truth: Truth) -> str | None:
    """A segment for the tags of a range, but none of them."""
    start, end = truth["address"], truth["address"] + truth["size"]
    for segment in core.tags.segments:
        if segment.vaddr <= start and end <= segment.vaddr + segment.memsz:
            return f"the core has tags at {start:#x}" if segment.filesz else None
    return f"no segment is for tags of {start:#x}"


def _register(core: Core, truth: Truth) -> str | None:
    thread = _threads(core).get(truth["tid"])
    if thread is None:
        return f"no thread {truth['tid']}"
    have = thread.regs[truth["name"]]
    if have == truth["value"]:
        return None
    return f"{truth['name']} of {truth['tid']} is {have:#x}, not {truth['value']:#x}"


def _bits(core: Core, truth: Truth) -> str | None:
    """Some bits of a register; the others are not for the scenario to know."""
    thread = _threads(core).get(truth["tid"])
    if thread is None:
        return f"no thread {truth['tid']}"
    have = thread.regs[truth["name"]]
    if have & truth["mask"] == truth["value"]:
        return None
    return (
        f"{truth['name']} of {truth['tid']} is {have:#x}, "
        f"of which {truth['mask']:#x} is not {truth['value']:#x}"
    )


def _within(core: Core, truth: Truth) -> str | None:
    thread = _threads(core).get(truth["tid"])
    if thread is None:
        return f"no thread {truth['tid']}"
    have = thread.regs[truth["name"]]
    start = truth["address"]
    if start <= have < start + truth["size"]:
        return None
    return f"{truth['name']} of {truth['tid']} is {have:#x}, not in {start:#x}+{truth['size']:#x}"


def _xstate(core: Core, truth: Truth) -> str | None:
    _, component, offset = truth["is"].split("-")
    thread = _threads(core).get(truth["number"])
    if thread is None:
        return f"no thread {truth['number']}"
    want = bytes.fromhex(truth["hex"])
    state = core.xstate_component(thread, int(component))
    if state is None:
        return f"thread {thread.tid} has no component {component}"
    have = state[int(offset) : int(offset) + len(want)]
    if have == want:
        return None
    return f"component {component} of {thread.tid} at {offset} is {have.hex()}, not {want.hex()}"


def _note(core: Core, truth: Truth) -> str | None:
    """Bytes at an offset of a thread's note, as in note-0x400-256; no bytes: it is there."""
    _, kind, offset = truth["is"].split("-")
    thread = _threads(core).get(truth["number"])
    if thread is None:
        return f"no thread {truth['number']}"
    want = bytes.fromhex(truth["hex"])
    note = thread.regset(int(kind, 0))
    if note is None:
        return f"thread {thread.tid} has no note {kind}"
    have = note[int(offset) : int(offset) + len(want)]
    if have == want:
        return None
    return f"note {kind} of {thread.tid} at {offset} is {have.hex()}, not {want.hex()}"


def _note_size(core: Core, truth: Truth) -> str | None:
    """The size of a thread's note, as in size-0x1: little-endian bytes."""
    kind = truth["is"].partition("-")[2]
    thread = _threads(core).get(truth["number"])
    note = None if thread is None else thread.regset(int(kind, 0))
    if note is None:
        return f"thread {truth['number']} has no note {kind}"
    want = int.from_bytes(bytes.fromhex(truth["hex"]), "little")
    if len(note) == want:
        return None
    return f"note {kind} of {truth['number']} has {len(note)} bytes, not {want}"


def _psargs(core: Core, truth: Truth) -> str | None:
    want = bytes.fromhex(truth["hex"])
    have = core.process.psargs
    return None if have == want else f"pr_psargs is {have!r}, not {want!r}"


def _comm(core: Core, truth: Truth) -> str | None:
    want = bytes.fromhex(truth["hex"])
    have = core.process.fname
    return None if have == want else f"pr_fname is {have!r}, not {want!r}"


def _file(core: Core, truth: Truth) -> str | None:
    want = bytes.fromhex(truth["hex"])
    entry = core.file_at(truth["number"])
    if entry is None:
        return f"NT_FILE has nothing at {truth['number']:#x}"
    if entry.path.endswith((want, want + b" (deleted)")):
        return None
    return f"NT_FILE says {entry.path!r}, not …{want!r}"


def _signals(core: Core, truth: Truth) -> str | None:
    """sigpend or sighold of a thread; the bytes are the mask, little-endian."""
    thread = _threads(core).get(truth["number"])
    if thread is None:
        return f"no thread {truth['number']}"
    want = int.from_bytes(bytes.fromhex(truth["hex"]), "little")
    have = getattr(thread.prstatus, truth["is"])
    word = (1 << core_bits(core)) - 1
    return None if have == want & word else f"{truth['is']} is {have:#x}, not {want & word:#x}"


def core_bits(core: Core) -> int:
    """Bits of an unsigned long in the core."""
    return core.elf_class


def _tls386(core: Core, truth: Truth) -> str | None:
    """One of the three struct user_desc of NT_386_TLS has this base address."""
    thread = _threads(core).get(truth["number"])
    note = None if thread is None else thread.regset(0x200)
    if note is None:
        return f"thread {truth['number']} has no NT_386_TLS"
    want = int.from_bytes(bytes.fromhex(truth["hex"]), "little")
    bases = [entry[1] for entry in struct.iter_unpack("<4I", note)]
    return None if want in bases else f"NT_386_TLS of {truth['number']} has the bases {bases}"


def _writer(core: Core, truth: Truth) -> str | None:
    """The pages of a busy writer and its counter are of one instant: see scenarios/busy.c."""
    thread = _threads(core).get(truth["number"])
    if thread is None:
        return f"no thread {truth['number']}"
    base, pages = struct.unpack("<QQ", bytes.fromhex(truth["hex"]))
    word = core.elf_class // 8
    counter = thread.regs[truth["is"].partition("-")[2]]
    words = [int.from_bytes(core.read(base + page * PAGE, word), "little") for page in range(pages)]
    written = words.count(counter)
    if words == [counter] * written + [counter - 1] * (pages - written):
        return None
    return f"thread {thread.tid} counts {counter}, its pages hold {sorted(set(words))[:20]}"


def _nothing_to_say(_: Core, __: Truth) -> None:
    """A fact that only lab/rules.py looks at."""


_CHECKS: dict[str, Callable[[Core, Truth], str | None]] = {
    "memory": _memory,
    "absent": _absent,
    "tags": _tags,
    "tags-absent": _tags_absent,
    "register": _register,
    "bits": _bits,
    "within": _within,
    "xstate": _xstate,
    "note": _note,
    "size": _note_size,
    "psargs": _psargs,
    "comm": _comm,
    "file": _file,
    "sigpend": _signals,
    "sighold": _signals,
    "tls386": _tls386,
    "writer": _writer,
    "once-written": _nothing_to_say,
}


_REGISTERS = frozenset({"register", "bits", "within", "xstate", "note"})


def _check(truth: Truth) -> Callable[[Core, Truth], str | None]:
    """The check of a truth; its name may end in a parameter, as in xstate-2-16."""
    name = truth["is"]
    return _CHECKS.get(name) or _CHECKS[name.partition("-")[0]]


def lies(core: Core, facts: Mapping[str, Any], *, moved: int | None = None) -> list[str]:
    """Where the core contradicts the scenario; empty if it tells the truth.

    ``moved`` is a thread that was elsewhere than the scenario said, because it took the core: its
    registers are not looked at.
    """
    found = []
    if sorted(facts["tids"]) != sorted(thread.tid for thread in core.threads):
        found.append(
            f"the threads are {sorted(thread.tid for thread in core.threads)}, "
            f"the scenario said {sorted(facts['tids'])}"
        )
    first = facts["pid"] if facts["pid"] in facts["tids"] else min(facts["tids"])
    if core.threads[0].tid != first:
        found.append(f"thread {core.threads[0].tid} comes first, not {first}")
    for truth in facts["truths"]:
        name = truth["is"].partition("-")[0]
        if name in _REGISTERS and truth.get("tid", truth.get("number")) == moved:
            continue
        wrong = _check(truth)(core, truth)
        if wrong is not None:
            found.append(f"{truth.get('why', truth['is'])}: {wrong}")
    return found
