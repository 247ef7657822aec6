# SPDX-License-Identifier: BSD-3-Clause
"""Reads damaged cores (damage.py), with little memory and not much time for each.

    read_damaged.py SECONDS FIRST COUNT    those of these numbers
    read_damaged.py SECONDS NUMBER         that one, and what becomes of it

Each must be understood or refused by a CoreError. Prints how many were opened and how many were
not; of one that fails its number and why, and ends with 1.
"""

import io
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import damage  # it is found only now

from coresnap.corefile import Core, CoreError, Mapping
from coresnap.diff import diff

Answer = TypeVar("Answer")

MEMORY = 512 << 20  # bytes beyond what the program has at its start: eight frames of 64 MiB


class TookTooLong(BaseException):
    """No Exception, so that nobody takes it for damage."""


def too_long(*_: object) -> None:
    raise TookTooLong


def limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGESIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def ask(question: Callable[[], Answer]) -> Answer | None:
    """The answer, or None if it was refused; that must say why, in one line."""
    try:
        return question()
    except CoreError as error:
        text = str(error)
        if not error.what or "\n" in text or len(text) > 1000:
            raise AssertionError(f"not a clear error: {text}") from error
        return None


def read_mapping(core: Core, mapping: Mapping) -> None:
    ask(lambda: core.build_id(mapping.start))
    ask(lambda: core.read(mapping.start, 64))
    ask(lambda: core.read(mapping.end - 8, 64))
    ask(lambda: list(core.extents(mapping)))


def read_everything(core: Core) -> None:
    for name in ("files", "auxv", "process", "siginfo", "executable", "maps", "tags"):
        ask(partial(getattr, core, name))
    ask(lambda: [core.note_padding(note) for note in core.notes])
    ask(lambda: list(core.memory_ranges()))
    for mapping in (ask(lambda: core.maps) or ())[:16]:
        read_mapping(core, mapping)
    ask(lambda: core.tags.memory)
    ask(lambda: [core.tags.read(segment.vaddr & ~15, 64) for segment in core.tags.segments])
    for thread in core.threads[:16]:
        ask(partial(core.xstate_component, thread, 9))
    if core.file_size < 1 << 24:
        ask(lambda: core.copy_to(io.BytesIO()))


def compare(core: Core, good: bytes) -> None:
    with Core(io.BytesIO(good)) as other:
        ask(lambda: list(diff(core, other)))


def read(source: Path | io.BytesIO, good: bytes | None) -> bool:
    """Asks a core all that can be asked. Could it be opened?"""
    opened = False
    for allow in (False, True):
        core = ask(partial(Core, source, allow_truncated=allow))
        if core is not None:
            opened = True
            with core:
                read_everything(core)
                if good is not None:
                    compare(core, good)
    return opened


def read_one(workshop: damage.Workshop, number: int, path: Path, seconds: float) -> bool:
    """Could it be opened?"""
    data = workshop.core(number)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        # Some as a file, which has other errors than an object.
        if number % 4 == 3:
            path.write_bytes(data)
            return read(path, None)
        good = workshop.good[number % len(workshop.good)].data
        return read(io.BytesIO(data), good if number // 8 % 8 == 0 else None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> int:
    seconds, first = float(sys.argv[1]), int(sys.argv[2])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    workshop = damage.Workshop()
    signal.signal(signal.SIGALRM, too_long)
    limit_memory()
    opened = 0
    with tempfile.TemporaryDirectory() as made:
        for number in range(first, first + count):
            try:
                opened += read_one(workshop, number, Path(made, "core"), seconds)
            except (Exception, TookTooLong):  # noqa: BLE001 # whatever it is, it is told
                print(f"core {number}:\n{traceback.format_exc(limit=-6)}", flush=True)
                return 1
    print(opened, count - opened)
    return 0


if __name__ == "__main__":
    sys.exit(main())
