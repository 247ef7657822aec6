# SPDX-License-Identifier: BSD-3-Clause
"""The reader against files that are no cores, cut off, or damaged."""

import io
import os
import pickle
import shutil
import struct
from pathlib import Path
from typing import TypeVar

import elfwriter
import pytest
from elfwriter import PAGE, X86_32, X86_64, Load

from coresnap.corefile import (
    AddressMissing,
    Core,
    CoreError,
    NotACore,
    TruncatedCore,
    UnsupportedCore,
)

Kind = TypeVar("Kind", bound=CoreError)


def refused(path: Path | str, kind: type[Kind]) -> Kind:
    with pytest.raises(kind) as caught:
        Core(path)
    error = caught.value
    assert error.path == str(path)
    assert str(path) in str(error)
    assert error.what
    assert error.remedy
    assert "\n" not in str(error)
    return error


def test_files_that_are_no_cores(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("hello")
    assert "not an ELF file" in refused(text, NotACore).what
    text.write_bytes(b"")
    assert "empty" in refused(text, NotACore).what
    assert "directory" in refused(tmp_path, NotACore).what
    text.write_bytes(b"\x28\xb5\x2f\xfd rest")
    assert "zstd -d" in refused(text, NotACore).remedy
    program = Path(shutil.which("true") or "/bin/true")
    assert "not a core" in refused(program, NotACore).what
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "regular" in refused(fifo, NotACore).what
    assert "regular" in refused("/dev/null", NotACore).what
    assert "No such file" in refused(tmp_path / "nothing", CoreError).what
    assert "process id" in refused("999999999", CoreError).remedy
    wrong = elfwriter.write(tmp_path / "object", X86_64, etype=1)
    assert "object file" in refused(wrong, NotACore).what


def test_foreign_machines(tmp_path: Path) -> None:
    path = elfwriter.write(tmp_path / "core", X86_64, machine=8)
    assert "EM_MIPS" in refused(path, UnsupportedCore).what
    # x32: the machine of x86-64 in a file of 32 bits.
    path = elfwriter.write(tmp_path / "core", X86_32, machine=62)
    assert "EM_X86_64, 32 bits" in refused(path, UnsupportedCore).what
    big_endian = bytes((0x7F, 0x45, 0x4C, 0x46, 2, 2, 1)).ljust(16, b"\0")
    path = elfwriter.write(tmp_path / "core", X86_64, machine=0x1600, etype=0x400, ident=big_endian)
    refused(path, CoreError)
    path = elfwriter.write(tmp_path / "core", X86_64, ident=b"\x7fELF\x07\x01".ljust(16, b"\0"))
    assert "makes no sense" in refused(path, NotACore).what


def test_truncated_at_every_place(tmp_path: Path) -> None:
    whole = elfwriter.write(tmp_path / "whole", X86_64).read_bytes()
    path = tmp_path / "core"
    for size in (5, 63, 64, 100, 64 + 4 * 56 - 1, 64 + 4 * 56, 1000, PAGE, len(whole) - 1):
        path.write_bytes(whole[:size])
        error = refused(path, TruncatedCore)
        assert 0 < error.missing <= len(whole) - size
        copy = pickle.loads(pickle.dumps(error))
        assert (copy.missing, str(copy)) == (error.missing, str(error))
    assert error.missing == 1


def test_truncated_memory_can_be_allowed(tmp_path: Path) -> None:
    path = elfwriter.write(tmp_path / "core", X86_64)
    os.truncate(path, path.stat().st_size - PAGE - 8)
    with Core(path, allow_truncated=True) as core:
        assert core.missing_bytes == PAGE + 8
        assert core.read(0x21000, 16) == bytes(range(16))
        with pytest.raises(AddressMissing, match="cut off") as caught:
            core.read(0x21000, 2 * PAGE)
        assert caught.value.address == 0x22000 - 8
    os.truncate(path, 400)
    with pytest.raises(TruncatedCore):
        Core(path, allow_truncated=True)


@pytest.mark.parametrize("offset", [1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - PAGE])
def test_memory_further_than_a_file_reaches_is_missing(tmp_path: Path, offset: int) -> None:
    path = elfwriter.write(tmp_path / "core", X86_64)
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, 64 + 56 + 8, offset)  # p_offset of the first PT_LOAD
    path.write_bytes(data)
    for source in (path, io.BytesIO(data)):
        with Core(source, allow_truncated=True) as core:
            assert core.build_id(0x10000) is None
            with pytest.raises(AddressMissing, match="cut off"):
                core.read(0x10000, 4)


@pytest.mark.parametrize("magic", [b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08\x04"])
def test_compressed_and_too_short_for_an_index(tmp_path: Path, magic: bytes) -> None:
    path = tmp_path / "core"
    path.write_bytes(magic)
    assert "compressed" in refused(path, NotACore).what
    with pytest.raises(NotACore, match="compressed"):
        Core(io.BytesIO(magic))


def test_many_segments_cut_off_before_their_count(tmp_path: Path) -> None:
    loads = [Load(0x100000 + i * PAGE, PAGE, 0) for i in range(65_534)]
    path = elfwriter.write(tmp_path / "core", X86_64, loads=loads)
    with Core(path) as core:
        assert len(core.segments) == 65_535
    os.truncate(path, path.stat().st_size - 1)
    assert "counts its segments" in refused(path, TruncatedCore).what


@pytest.mark.parametrize(
    ("note", "what"),
    [
        (struct.pack("<III", 5, 1 << 31, 1) + b"CORE\0\0\0\0", "past the end"),
        (struct.pack("<III", 1 << 31, 0, 1) + b"CORE\0\0\0\0", "past the end"),
        (struct.pack("<III", 4, 4, 1) + b"CORE" + bytes(4), "no terminated string"),
        (struct.pack("<III", 8, 4, 1) + b"CORE\0\0\0\0" + bytes(4), "no terminated string"),
        (struct.pack("<III", 0, 4, 1) + bytes(4), "no terminated string"),
        (bytes(8), "no room"),
        (elfwriter.note(b"CORE", 1, bytes(335)), "335 bytes"),
        (elfwriter.note(b"CORE", 1, bytes(337)), "337 bytes"),
    ],
)
def test_damaged_notes(tmp_path: Path, note: bytes, what: str) -> None:
    path = elfwriter.write(tmp_path / "core", X86_64, notes=[*elfwriter.plain_notes(X86_64), note])
    assert what in refused(path, NotACore).what


def test_foreign_notes_with_low_numbers_do_not_confuse(tmp_path: Path) -> None:
    """eliben/pyelftools#656: a type 3 that is no prpsinfo."""
    notes = [*elfwriter.plain_notes(X86_64), elfwriter.note(b"GNU", 3, b"\x01\x02")]
    with Core(elfwriter.write(tmp_path / "core", X86_64, notes=notes)) as core:
        assert core.process_notes[-1].name == "GNU/0x3"
        assert core.process.fname == b"name"


@pytest.mark.parametrize("count", [3, 1 << 60])
def test_damaged_file_note(tmp_path: Path, count: int) -> None:
    body = struct.pack("<5Q", count, PAGE, 1, 2, 3) + b"name\0"
    notes = [elfwriter.prstatus(X86_64, 1), elfwriter.note(b"CORE", 0x46494C45, body)]
    with (
        Core(elfwriter.write(tmp_path / "core", X86_64, notes=notes)) as core,
        pytest.raises(NotACore, match="NT_FILE"),
    ):
        _ = core.files


def test_no_flipped_byte_of_the_structure_crashes(tmp_path: Path) -> None:
    """Every byte of the headers and notes, made 0xff: an answer or a CoreError, nothing else."""
    whole = elfwriter.write(tmp_path / "core", X86_64).read_bytes()
    end = 64 + 4 * 56 + sum(map(len, elfwriter.plain_notes(X86_64)))
    for at in range(end):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        try:
            with Core(io.BytesIO(damaged)) as core:
                _ = core.files, core.auxv, core.process, core.siginfo, core.executable, core.maps
                list(core.memory_ranges())
                for mapping in core.maps:
                    core.build_id(mapping.start)
        except CoreError:
            pass
