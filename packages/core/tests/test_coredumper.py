# SPDX-License-Identifier: BSD-3-Clause
"""Programs of google-coredumper on our libcoredumper.so.1.

programs/coredumper_calls.c makes one call in one situation and tells what it returned. What it
wrote is compared with what the contract of that library says (docs/coredumper.md).
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import living
import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from coresnap.corefile import Core
from lab.patience import DEADLINE

pytestmark = pytest.mark.host

NAMES = {
    "ClearCoreDumpParametersInternal", "COREDUMPER_BZIP2_COMPRESSED", "COREDUMPER_COMPRESSED",
    "COREDUMPER_COMPRESS_COMPRESSED", "COREDUMPER_GZIP_COMPRESSED",
    "COREDUMPER_TRY_BZIP2_COMPRESSED", "COREDUMPER_TRY_COMPRESS_COMPRESSED",
    "COREDUMPER_TRY_GZIP_COMPRESSED", "COREDUMPER_UNCOMPRESSED", "GetCompressedCoreDump",
    "GetCoreDump", "GetCoreDumpWith", "SetCoreDumpCallback", "SetCoreDumpCompressed",
    "SetCoreDumpLimited", "SetCoreDumpLimitedByPriority", "SetCoreDumpNotes",
    "WriteCompressedCoreDump", "WriteCoreDump", "WriteCoreDumpLimited",
    "WriteCoreDumpLimitedByPriority", "WriteCoreDumpWith",
}  # fmt: skip
SITUATIONS = [
    "tiny-stack", "at-once", "handler", "after-fork", "sigchld-ignored", "sigchld-handled",
    "shared-mapping", "streams-closed", "sigpipe-ignored",
]  # fmt: skip
SIZE = 9 << 20
ECANCELED, EIO, ENOENT, EACCES, EISDIR = 125, 5, 2, 13, 21


@dataclass(frozen=True)
class Outcome:
    """What a program said of its call."""

    directory: Path
    said: dict[str, list[str]]

    @property
    def returned(self) -> tuple[int, int]:
        """The value and errno."""
        value, error = self.said["returned"]
        return int(value), int(error)

    @property
    def files(self) -> list[str]:
        """What is in the directory."""
        return sorted(path.name for path in self.directory.iterdir())

    def check(self, core_path: Path, *, pid: int | None = None) -> None:
        """That a core is whole, and of the instant of the call."""
        start = int(self.said["memory"][0], 16)
        with Core(core_path) as core:
            assert core.process.pid == (pid or int(self.said["pid"][0]))
            assert core.read(start, SIZE) == b"a" * SIZE
            if "shared" in self.said:
                shared = int(self.said["shared"][0], 16)
                assert core.read(shared, 1 << 20) == b"s" * (1 << 20)


def run(
    directory: Path,
    call: str,
    situation: str = "plain",
    *,
    program: Path | None = None,
    file: str = "core",
    environment: dict[str, str] | None = None,
) -> Outcome:
    """Run the program in a directory of its own; it must have noticed nothing."""
    place = directory / "cwd"
    place.mkdir()
    done = subprocess.run(
        [program or living.program("coredumper_calls"), call, situation, file],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=os.environ | (environment or {}),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not re.findall(r"^trouble.*", done.stdout, re.MULTILINE), done.stdout
    said = {name: values for name, *values in map(str.split, done.stdout.splitlines())}
    return Outcome(place, said)


def unpacked(path: Path) -> Path:
    """A core that a compressor wrote, beside it."""
    plain = path.parent / "unpacked"
    with gzip.open(path) as packed, plain.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return plain


@pytest.mark.parametrize("call", ["write", "get", "uncompressed", "no-program-but-plain"])
def test_core_is_whole(tmp_path: Path, call: str) -> None:
    outcome = run(tmp_path, call)
    assert outcome.returned == (0, 0)
    assert outcome.files == ["core"]
    assert (outcome.directory / "core").stat().st_mode & 0o777 == 0o600
    outcome.check(outcome.directory / "core")


@pytest.mark.parametrize(
    ("call", "situation"),
    [
        (call, situation)
        for call in ("write", "get", "gzip", "get-compressed")
        for situation in SITUATIONS
        if call == "write" or situation != "at-once"  # a pipe's reader names the file
    ],
)
def test_situations(tmp_path: Path, call: str, situation: str) -> None:
    outcome = run(tmp_path, call, situation)
    assert outcome.returned == (0, 0)
    (name,) = outcome.files
    path = outcome.directory / name
    pid = None
    if situation == "after-fork":
        with Core(unpacked(path) if call in ("gzip", "get-compressed") else path) as core:
            pid = core.process.pid
        assert pid != int(outcome.said["pid"][0])
        path = outcome.directory / ("unpacked" if "unpacked" in outcome.files else name)
    elif call in ("gzip", "get-compressed"):
        path = unpacked(path)
    outcome.check(path, pid=pid)


@pytest.mark.parametrize("size", [256, 4095, 60000])
def test_size_is_limited(tmp_path: Path, size: int) -> None:
    outcome = run(tmp_path, f"limited-{size}")
    assert outcome.returned == (0, 0)
    assert (outcome.directory / "core").stat().st_size == size


def test_no_bytes_are_no_file(tmp_path: Path) -> None:
    outcome = run(tmp_path, "limited-0")
    assert (outcome.returned, outcome.files) == ((0, 0), [])


def test_small_segments_come_first(tmp_path: Path) -> None:
    outcome = run(tmp_path, "by-priority")
    assert outcome.returned == (0, 0)
    with Core(outcome.directory / "core") as core:
        assert core.file_size <= 1 << 20
        start = int(outcome.said["memory"][0], 16)
        mapping = core.mapping_at(start)
        assert mapping is not None and mapping.filesz < SIZE
        stack = core.mapping_at(core.threads[0].sp or 0)
        assert stack is not None and stack.filesz == stack.end - stack.start


def test_programs_compress(tmp_path: Path) -> None:
    outcome = run(tmp_path, "gzip")
    assert outcome.files == ["core.gz"]
    assert outcome.said["selected"] == ["/bin/gzip"]
    outcome.check(unpacked(outcome.directory / "core.gz"))


def test_limit_is_of_the_compressed_file(tmp_path: Path) -> None:
    outcome = run(tmp_path, "gzip-limited")
    assert outcome.returned == (0, 0)
    assert (outcome.directory / "core.gz").stat().st_size == 1000


def test_program_is_found_by_path(tmp_path: Path) -> None:
    own = tmp_path / "bin"
    own.mkdir()
    (own / "gzip").write_text("#!/bin/sh\nexec /bin/gzip -9\n")
    (own / "gzip").chmod(0o755)
    outcome = run(tmp_path, "gzip-by-path", environment={"PATH": f"relative:{own}:/bin"})
    assert outcome.files == ["core.by-path"]
    outcome.check(unpacked(outcome.directory / "core.by-path"))


def test_relative_entries_of_path_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "gzip").write_text("#!/bin/sh\ntouch harm\n")
    (tmp_path / "gzip").chmod(0o755)
    outcome = run(tmp_path, "gzip-by-path", environment={"PATH": "..:.:"})
    assert outcome.returned == (-1, ENOENT)
    assert outcome.files == []


@pytest.mark.parametrize(
    ("call", "error"), [("no-program", ENOENT), ("program-that-fails", EIO), ("veto", ECANCELED)]
)
def test_failures_leave_no_file(tmp_path: Path, call: str, error: int) -> None:
    outcome = run(tmp_path, call)
    assert (outcome.returned, outcome.files) == ((-1, error), [])


@pytest.mark.parametrize(
    ("call", "file", "error"),
    [
        ("write", "nowhere/core", ENOENT),
        ("write", ".", EISDIR),
        ("write", "", ENOENT),
        ("gzip", "nowhere/core", ENOENT),
        ("gzip", "", ENOENT),  # a directory's name with a suffix is a name like any other
    ],
)
def test_places_that_cannot_be_written(tmp_path: Path, call: str, file: str, error: int) -> None:
    outcome = run(tmp_path, call, file=file)
    value, number = outcome.returned
    assert value == -1
    assert call == "gzip" or number == error
    assert outcome.files in ([], [".gz"])


def test_links_and_devices_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    outcome = run(tmp_path, "write", file="../link")
    assert outcome.returned == (0, 0)
    outcome.check(tmp_path / "real")
    assert (tmp_path / "link").is_symlink()


def test_existing_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    outcome = run(tmp_path, "write", file="../old")
    assert outcome.returned == (0, 0)
    outcome.check(tmp_path / "old")


def test_notes_come_back(tmp_path: Path) -> None:
    outcome = run(tmp_path, "notes")
    with Core(outcome.directory / "core") as core:
        own = [(note.owner, note.type, note.desc) for note in core.notes[-4:]]
    many = bytes(i * 7 % 256 for i in range(5000))
    assert own == [
        ("example.org", 1, b"one"), ("x", 0xFFFFFFFF, b""), ("five!", 2, b"12345"),
        ("many", 3, many),
    ]  # fmt: skip


def test_callback_is_called_once(tmp_path: Path) -> None:
    outcome = run(tmp_path, "callback")
    assert (outcome.said["calls"], outcome.returned) == (["1"], (0, 0))


def test_older_struct_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    outcome = run(tmp_path, "short-struct")
    assert outcome.returned == (0, 0)
    assert (outcome.directory / "core").stat().st_size == 60000


def test_combinations_that_are_refused(tmp_path: Path) -> None:
    assert run(tmp_path, "refused-combinations").returned[0] == 0


def dynamic(library: Path) -> tuple[set[str], dict[str, list[str]]]:
    """The names that a shared library exports, and its entries DT_SONAME and DT_NEEDED."""
    with library.open("rb") as file:
        elf = ELFFile(file)
        symbols, entries = map(elf.get_section_by_name, (".dynsym", ".dynamic"))
        assert isinstance(symbols, SymbolTableSection) and isinstance(entries, DynamicSection)
        exported = {
            symbol.name
            for symbol in symbols.iter_symbols()
            if symbol["st_info"]["bind"] == "STB_GLOBAL" and symbol["st_shndx"] != "SHN_UNDEF"
        }
        tags = list(entries.iter_tags())
    return exported, {
        "soname": [vars(tag)["soname"] for tag in tags if tag.entry.d_tag == "DT_SONAME"],
        "needed": [vars(tag)["needed"] for tag in tags if tag.entry.d_tag == "DT_NEEDED"],
    }


def test_exports_are_the_contracts() -> None:
    exported, entries = dynamic(living.build() / "libcoredumper.so.1")
    assert exported == NAMES
    assert entries["soname"] == ["libcoredumper.so.1"]
    assert all(name.startswith(("libc.so", "ld-linux")) for name in entries["needed"])


def test_program_linked_to_another_library_of_that_name_runs(tmp_path: Path) -> None:
    """One that has exactly these names and this soname, and does nothing."""
    source = (living.PROGRAMS / "coredumper_stub.c").read_text()
    assert set(re.findall(r"^(?:LIST|FUNCTION)\((\w+)", source, re.MULTILINE)) == NAMES
    outcome = run(tmp_path, "gzip", program=living.program("coredumper_stub_calls"))
    outcome.check(unpacked(outcome.directory / "core.gz"))
