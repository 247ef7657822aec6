# SPDX-License-Identifier: BSD-3-Clause
"""Find on this system the executables and libraries that a core names.

The core's NT_FILE note names files as the process saw them. They are looked for below the root of
the process if it still lives and has a root of its own (a container), and below /; the build-id,
where both sides have one, decides whether a file is the one that was mapped.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import coresnap
from coresnap_cli.cores import process_of
from coresnap_cli.elffile import ElfError, ElfFile, Symbol
from coresnap_cli.escape import printable

_AT_SYSINFO_EHDR = 33
_DELETED = b" (deleted)"
_CORE_NAME = re.compile(r"core\.([0-9]{1,10})")


@dataclass(frozen=True)
class Image:
    """A file of this system that stands for one that the core names."""

    path: Path
    build_id: str | None
    verified: bool  # the build-ids are equal; False: one side has none


def fitting(path: Path, wanted: str | None) -> Image | None:
    """The file as an image, unless it is no ELF file or has another build-id than `wanted`."""
    try:
        with ElfFile(path) as elf:
            found = elf.build_id()
    except ElfError:
        return None
    if wanted and found and wanted != found:
        return None
    return Image(path, found, bool(wanted and found))


def below(root: Path, name: str) -> Path:
    """The path `name` of a process as seen from outside of its root."""
    return root / name.removesuffix(_DELETED.decode()).lstrip("/")


def candidate_pids(core: coresnap.Core, path: Path) -> list[int]:
    """Who may have been dumped: the pid in the file's name, and the one in the notes.

    Both are guesses: files are renamed, and the pid in the notes is as the process's own pid
    namespace counts.
    """
    match = _CORE_NAME.search(path.name)
    process = process_of(core)
    found = [int(match.group(1))] if match else []
    return list(dict.fromkeys([*found, *([process.pid] if process else [])]))


def build_ids(core: coresnap.Core) -> dict[bytes, str | None]:
    """The build-id of every mapped file, in hex, by its name in the core."""
    found: dict[bytes, str | None] = {}
    for mapped in core.files:
        if mapped.offset == 0 and mapped.path not in found:
            raw = core.build_id(mapped.start)
            found[mapped.path] = raw.hex() if raw else None
    return found


def program_id(core: coresnap.Core) -> str | None:
    """The build-id of the program itself, in hex."""
    return build_ids(core).get(core.executable) if core.executable is not None else None


def living_root(core: coresnap.Core, path: Path) -> tuple[int, Path] | None:
    """(pid, /proc/PID/root) of the dumped process if it lives and its root is not ours.

    It is taken for the same process when its executable has the build-id of the core's.
    """
    wanted = program_id(core)
    if not wanted:
        return None
    for pid in candidate_pids(core, path):
        root = Path(f"/proc/{pid}/root")
        try:
            theirs, ours = Path(f"{root}/.").stat(), Path("/").stat()
        except OSError:
            continue
        if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino):
            continue
        image = fitting(Path(f"/proc/{pid}/exe"), wanted)
        if image is not None and image.verified:
            return pid, root
    return None


def executable_of(core: coresnap.Core, path: Path, roots: list[Path]) -> Image | None:
    """The program that was dumped, or None when no file here is it."""
    wanted = program_id(core)
    for root in roots:
        if core.executable is not None:
            image = fitting(below(root, os.fsdecode(core.executable)), wanted)
            if image is not None:
                return image
    if wanted:  # deleted or replaced, but still running
        for pid in candidate_pids(core, path):
            image = fitting(Path(f"/proc/{pid}/exe"), wanted)
            if image is not None and image.verified:
                return image
    return None


@dataclass(frozen=True)
class Place:
    """What an address is: `text` is for people and escaped."""

    symbol: str | None
    offset: int
    mapping: str | None

    @property
    def text(self) -> str:
        """symbol+0x1f (libc.so.6), or mapping+0x1234, or "?"."""
        if self.symbol is not None:
            where = f" ({self.mapping})" if self.mapping else ""
            return f"{self.symbol}+{self.offset:#x}{where}"
        return "?" if self.mapping is None else f"{self.mapping}+{self.offset:#x}"


class Images:
    """The mapped files of one core, opened when first needed."""

    def __init__(self, core: coresnap.Core, path: Path) -> None:
        self._core = core
        self._build_ids = build_ids(core)
        living = living_root(core, path)
        self.roots = [living[1], Path("/")] if living else [Path("/")]
        self._vdso = dict(core.auxv).get(_AT_SYSINFO_EHDR)
        self._open: dict[bytes, ElfFile | None] = {}
        self._debug: dict[bytes, ElfFile | None] = {}
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def _file(self, name: bytes) -> ElfFile | None:
        if name not in self._open:
            self._open[name] = self._find(name)
        return self._open[name]

    def _find(self, name: bytes) -> ElfFile | None:
        wanted = self._build_ids.get(name)
        for root in self.roots:
            path = below(root, os.fsdecode(name))
            if fitting(path, wanted) is not None:
                return self._stack.enter_context(ElfFile(path))
        return None

    def place(self, address: int) -> Place:
        """The function or mapping at an address of the process."""
        mapped = self._core.file_at(address)
        if mapped is not None:
            short = printable(mapped.path.removesuffix(_DELETED).rpartition(b"/")[2])
            offset = address - mapped.start + mapped.offset
            found = self._symbol(mapped.path, offset)
            if found is not None:
                return Place(printable(found[0].name), found[1] - found[0].start, short)
            return Place(None, offset, short)
        mapping = self._core.mapping_at(address)
        if mapping is None:
            return Place(None, 0, None)
        name = "[vdso]" if mapping.start == self._vdso else f"[{mapping.start:#x}]"
        return Place(None, address - mapping.start, name)

    def _symbol(self, name: bytes, offset: int) -> tuple[Symbol, int] | None:
        elf = self._file(name)
        address = elf.address_of(offset) if elf else None
        if elf is None or address is None:
            return None
        debug = self._debug_file(name)
        symbol = elf.symbol_at(address) or (debug.symbol_at(address) if debug else None)
        return None if symbol is None else (symbol, address)

    def _debug_file(self, name: bytes) -> ElfFile | None:
        """The symbols of a stripped file, where Debian's -dbg packages put them."""
        if name not in self._debug:
            self._debug[name] = self._find_debug(self._build_ids.get(name))
        return self._debug[name]

    def _find_debug(self, build_id: str | None) -> ElfFile | None:
        if not build_id:
            return None
        for root in self.roots:
            path = root / f"usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
            with contextlib.suppress(ElfError):
                return self._stack.enter_context(ElfFile(path))
        return None

    def text_at(self, address: int, length: int) -> bytes:
        """Bytes of the process at `address`: from the core, or from the file mapped there.

        Shorter than `length` where both end.
        """
        mapping = self._core.mapping_at(address)
        stored = 0 if mapping is None else mapping.start + mapping.filesz - address
        if stored > 0:
            return self._core.read(address, min(length, stored))
        mapped = self._core.file_at(address)
        elf = self._file(mapped.path) if mapped is not None else None
        if mapped is None or elf is None:
            return b""
        return elf.read(address - mapped.start + mapped.offset, min(length, mapped.end - address))

    def text_before(self, address: int, length: int) -> bytes:
        """Up to `length` bytes that end at `address`, from the same place."""
        mapping = self._core.mapping_at(address)
        if mapping is None:
            return b""
        start = max(mapping.start, address - length)
        found = self.text_at(start, address - start)
        return found if len(found) == address - start else b""


@contextlib.contextmanager
def images_of(core: coresnap.Core, path: Path) -> Iterator[Images]:
    """The images of a core, closed at the end."""
    images = Images(core, path)
    try:
        yield images
    finally:
        images.close()
