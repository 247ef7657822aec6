# SPDX-License-Identifier: BSD-3-Clause
"""The differ: each kind of byte changed once, and exactly that named."""

import dataclasses
import io
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import elfwriter
import pytest
import subjects
from elfwriter import ARM64, PAGE, X86_64, Load
from living import WIDTHS, needs_compat
from subjects import Subject
from toolchain import NATIVE, Width

from coresnap.corefile import Core, Note
from coresnap.diff import Comparison, Difference, diff


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Width], Subject]:
    """The kernel's core of the program of a width, made once."""
    directory = tmp_path_factory.mktemp("kernel")
    made: dict[Width, Subject] = {}

    def get(width: Width) -> Subject:
        if width not in made:
            made[width] = subjects.kernel_core(directory, width=width)
        return made[width]

    return get


def paths(comparison: Comparison) -> list[str]:
    return [difference.path for difference in comparison]


def note_of(core: Core, name: str, number: int = 0) -> Note:
    return [note for note in core.notes if note.name == name][number]


def desc(core: Core, name: str, at: int, number: int = 0) -> int:
    """The file offset of byte ``at`` of the contents of the number-th note of that name."""
    note = note_of(core, name, number)
    return note.offset + 12 + (len(note.owner) + 1 + 3) // 4 * 4 + at


def phdr(core: Core, index: int, member: int) -> int:
    return core.header.phoff + index * core.header.phentsize + member


def load_index(core: Core, address: int) -> int:
    return next(
        i
        for i, segment in enumerate(core.segments)
        if segment.type == 1 and segment.vaddr <= address < segment.vaddr + segment.memsz
    )


def tid(core: Core, number: int) -> int:
    return core.threads[number].tid


def at_word(core: Core, key: int) -> int:
    """The offset of an auxiliary value within NT_AUXV."""
    word = core.elf_class // 8
    return [entry[0] for entry in core.auxv].index(key) * 2 * word + word


@dataclasses.dataclass(frozen=True)
class Flip:
    """Invert one byte of a 64-bit core of the kernel, and what must be said of it."""

    name: str
    where: Callable[[Core], int]
    expected: Callable[[Core], str]


def prstatus_flip(at: int, name: str) -> Flip:
    """A byte of the second thread's NT_PRSTATUS."""
    return Flip(
        f"prstatus.{name}",
        lambda core: desc(core, "NT_PRSTATUS", at, 1),
        lambda core: f"thread[{tid(core, 1)}].prstatus.{name}",
    )


FLIPS = (
    Flip("abi version", lambda _: 8, lambda _: "header.e_ident"),
    Flip("e_version", lambda _: 20, lambda _: "header.e_version"),
    Flip("e_entry", lambda _: 24, lambda _: "header.e_entry"),
    Flip("e_flags", lambda _: 48, lambda _: "header.e_flags"),
    Flip("e_shentsize", lambda _: 58, lambda _: "header.e_shentsize"),
    Flip("e_shstrndx", lambda _: 62, lambda _: "header.e_shstrndx"),
    Flip("note flags", lambda c: phdr(c, 0, 4), lambda _: "phdr[PT_NOTE].p_flags"),
    Flip("note vaddr", lambda c: phdr(c, 0, 16), lambda _: "phdr[PT_NOTE].p_vaddr"),
    Flip("note memsz", lambda c: phdr(c, 0, 40), lambda _: "phdr[PT_NOTE].p_memsz"),
    Flip("note align", lambda c: phdr(c, 0, 48), lambda _: "phdr[PT_NOTE].p_align"),
    Flip("load flags", lambda c: phdr(c, 3, 4), lambda c: f"phdr[{c.segments[3].vaddr:x}].p_flags"),
    Flip(
        "load paddr", lambda c: phdr(c, 3, 25), lambda c: f"phdr[{c.segments[3].vaddr:x}].p_paddr"
    ),
    Flip(
        "load memsz", lambda c: phdr(c, 3, 41), lambda c: f"phdr[{c.segments[3].vaddr:x}].p_memsz"
    ),
    Flip(
        "load align", lambda c: phdr(c, 3, 50), lambda c: f"phdr[{c.segments[3].vaddr:x}].p_align"
    ),
    Flip("pr_state", lambda c: desc(c, "NT_PRPSINFO", 0), lambda _: "process.pr_state"),
    Flip("pr_sname", lambda c: desc(c, "NT_PRPSINFO", 1), lambda _: "process.pr_sname"),
    Flip("pr_nice", lambda c: desc(c, "NT_PRPSINFO", 3), lambda _: "process.pr_nice"),
    Flip("prpsinfo hole", lambda c: desc(c, "NT_PRPSINFO", 5), lambda _: "process.padding"),
    Flip("pr_flag", lambda c: desc(c, "NT_PRPSINFO", 10), lambda _: "process.pr_flag"),
    Flip("pr_uid", lambda c: desc(c, "NT_PRPSINFO", 16), lambda _: "process.pr_uid"),
    Flip("pr_gid", lambda c: desc(c, "NT_PRPSINFO", 20), lambda _: "process.pr_gid"),
    Flip("pr_pid", lambda c: desc(c, "NT_PRPSINFO", 24), lambda _: "process.pr_pid"),
    Flip("pr_sid", lambda c: desc(c, "NT_PRPSINFO", 36), lambda _: "process.pr_sid"),
    Flip("pr_fname", lambda c: desc(c, "NT_PRPSINFO", 40), lambda _: "process.pr_fname"),
    Flip("behind pr_fname", lambda c: desc(c, "NT_PRPSINFO", 55), lambda _: "process.pr_fname"),
    Flip("pr_psargs", lambda c: desc(c, "NT_PRPSINFO", 135), lambda _: "process.pr_psargs"),
    Flip("si_signo", lambda c: desc(c, "NT_SIGINFO", 0), lambda _: "siginfo.si_signo"),
    Flip("si_errno", lambda c: desc(c, "NT_SIGINFO", 4), lambda _: "siginfo.si_errno"),
    Flip("si_code", lambda c: desc(c, "NT_SIGINFO", 8), lambda _: "siginfo.si_code"),
    Flip("siginfo", lambda c: desc(c, "NT_SIGINFO", 127), lambda _: "siginfo.bytes"),
    Flip(
        "AT_RANDOM",
        lambda c: desc(c, "NT_AUXV", at_word(c, 25)),
        lambda _: "auxv.AT_RANDOM",
    ),
    Flip("AT_NULL", lambda c: desc(c, "NT_AUXV", 16 * len(c.auxv) + 8), lambda _: "auxv.AT_NULL"),
    Flip("file end", lambda c: desc(c, "NT_FILE", 16 + 2 * 24 + 8), lambda _: "files[2].end"),
    Flip("file offset", lambda c: desc(c, "NT_FILE", 16 + 24 + 16), lambda _: "files[1].offset"),
    Flip(
        "file path",
        lambda c: desc(c, "NT_FILE", 16 + 24 * len(c.files) + 1),
        lambda _: "files[0].path",
    ),
    Flip(
        "padding of a note",
        lambda c: note_of(c, "NT_FILE").offset + 12 + 5,
        lambda _: "notes.NT_FILE.padding",
    ),
    Flip(
        "padding of a thread's note",
        lambda c: note_of(c, "NT_X86_XSTATE").offset + 12 + 6,
        lambda c: f"thread[{tid(c, 0)}].NT_X86_XSTATE.padding",
    ),
    Flip(
        "NT_X86_XSTATE",
        lambda c: desc(c, "NT_X86_XSTATE", 600, 2),
        lambda c: f"thread[{tid(c, 2)}].NT_X86_XSTATE",
    ),
    Flip(
        "NT_PRFPREG",
        lambda c: desc(c, "NT_PRFPREG", 0, 3),
        lambda c: f"thread[{tid(c, 3)}].NT_PRFPREG",
    ),
    *(
        prstatus_flip(at, name)
        for at, name in (
            (0, "si_signo"),
            (4, "si_code"),
            (8, "si_errno"),
            (12, "pr_cursig"),
            (14, "padding"),
            (16, "pr_sigpend"),
            (24, "pr_sighold"),
            (36, "pr_ppid"),
            (40, "pr_pgrp"),
            (44, "pr_sid"),
            (48, "pr_utime"),
            (56, "pr_utime"),
            (64, "pr_stime"),
            (80, "pr_cutime"),
            (96, "pr_cstime"),
            (112, "r15"),
            (112 + 8 * 10 + 7, "rax"),
            (112 + 8 * 15, "orig_rax"),
            (112 + 8 * 16, "rip"),
            (112 + 8 * 26, "gs"),
            (328, "pr_fpvalid"),
            (332, "padding"),
        )
    ),
)


@pytest.mark.skipif(NATIVE.name != X86_64.name, reason="the offsets are those of x86-64's layout")
@pytest.mark.parametrize("flip", FLIPS, ids=lambda flip: flip.name)
def test_one_flipped_byte_is_one_difference(
    kernel: Callable[[Width], Subject], tmp_path: Path, flip: Flip
) -> None:
    original = kernel(Width.NATIVE).core
    with Core(original) as a:
        if "XSTATE" in flip.name and not any(n.name == "NT_X86_XSTATE" for n in a.notes):
            pytest.skip("this processor or kernel gives no NT_X86_XSTATE")
        copy = tmp_path / "core"
        shutil.copyfile(original, copy)
        offset = flip.where(a)
        with copy.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes((byte[0] ^ 0xFF,)))
        with Core(copy) as b:
            found = list(diff(a, b))
            assert [difference.path for difference in found] == [flip.expected(a)]
            assert found[0].a != found[0].b or found[0].detail
            assert next(iter(diff(b, a))).a == found[0].b


@pytest.mark.parametrize("width", WIDTHS)
def test_a_copy_is_equal(kernel: Callable[[Width], Subject], tmp_path: Path, width: Width) -> None:
    original = kernel(width).core
    # Without its holes, which are zeros all the same.
    copy = tmp_path / "core"
    copy.write_bytes(original.read_bytes())
    with Core(original) as a, Core(copy) as b, Core(io.BytesIO(copy.read_bytes())) as c:
        assert paths(diff(a, b)) == []
        assert paths(diff(a, a)) == []
        assert paths(diff(a, c)) == []
        assert repr(diff(a, b)) == f"<Comparison of '{original}' and '{copy}'>"


@needs_compat
def test_two_runs_differ_by_field(kernel: Callable[[Width], Subject], tmp_path: Path) -> None:
    again = subjects.kernel_core(tmp_path, width=Width.COMPAT)
    with Core(kernel(Width.COMPAT).core) as a, Core(again.core) as b:
        found = paths(diff(a, b))
        assert "process.pr_pid" in found
        # Other thread ids: each thread is missing on one side, none of its fields is listed.
        assert not any(".prstatus." in path for path in found)
        assert f"thread[{tid(a, 0)}]" in found
        assert f"thread[{tid(b, 0)}]" in found


def test_core_of_gdb_against_itself_and_the_kernels(
    kernel: Callable[[Width], Subject], tmp_path: Path
) -> None:
    subject = subjects.gdb_core(tmp_path)
    with Core(subject.core) as a, Core(kernel(Width.NATIVE).core) as b:
        assert paths(diff(a, a)) == []
        found = paths(diff(a, b))
        assert "notes.order" in found
        assert "process.pr_pid" in found


def test_segments_that_only_one_core_has(tmp_path: Path) -> None:
    loads = elfwriter.plain_loads()
    a_path = elfwriter.write(tmp_path / "a", X86_64, loads=loads)
    b_path = elfwriter.write(tmp_path / "b", X86_64, loads=loads[1:])
    with Core(a_path) as a, Core(b_path) as b:
        assert paths(diff(a, b)) == [
            "header.e_phnum",
            "phdr[10000]",
            "memory-missing[10000-11000]",
        ]
        assert list(diff(a, b))[1].b is None


def test_order_of_segments(tmp_path: Path) -> None:
    loads = elfwriter.plain_loads()
    a_path = elfwriter.write(tmp_path / "a", X86_64, loads=loads)
    b_path = elfwriter.write(tmp_path / "b", X86_64, loads=[loads[2], loads[0], loads[1]])
    with Core(a_path) as a, Core(b_path) as b:
        assert paths(diff(a, b)) == ["phdr.order"]


def test_offsets_that_nothing_explains(tmp_path: Path) -> None:
    a_path = elfwriter.write(tmp_path / "a", X86_64)
    b_path = tmp_path / "b"
    data = bytearray(a_path.read_bytes())
    # Move the last segment, and its bytes, one page and 16 bytes on.
    at = 64 + 3 * 56 + 8
    offset = struct.unpack_from("<Q", data, at)[0]
    struct.pack_into("<Q", data, at, offset + PAGE + 16)
    b_path.write_bytes(data[:offset] + bytes(PAGE + 16) + data[offset:])
    with Core(a_path) as a, Core(b_path) as b:
        found = list(diff(a, b))
        assert [difference.path for difference in found] == ["phdr[20000].p_offset"]
        assert "congruent" in str(found[0].detail)
    struct.pack_into("<Q", data, at, offset + PAGE)
    b_path.write_bytes(data[:offset] + bytes(PAGE) + data[offset:])
    with Core(a_path) as a, Core(b_path) as b:
        found = list(diff(a, b))
        assert [difference.path for difference in found] == ["phdr[20000].p_offset"]
        assert "0x1000 bytes behind" in str(found[0].detail)


def test_bytes_that_belong_to_nothing(tmp_path: Path) -> None:
    a_path = elfwriter.write(tmp_path / "a", X86_64)
    data = bytearray(a_path.read_bytes())
    data[PAGE - 1] = 7
    b_path = tmp_path / "b"
    b_path.write_bytes(data + b"tail")
    with Core(a_path) as a, Core(b_path) as b:
        assert list(diff(a, b)) == [
            Difference("file.trailing", 0, 4),
            Difference("file.padding", (), (b"\x07",)),
        ]


def test_more_segments_than_the_header_can_count(tmp_path: Path) -> None:
    # All but one are holes, for the time that writing them takes.
    loads = [Load(0x100000 + i * 2 * PAGE, PAGE, PAGE) for i in range(66_000)]
    a_path = elfwriter.write(tmp_path / "a", X86_64, loads=loads)
    loads[65_999] = dataclasses.replace(loads[65_999], data={8: b"x"})
    b_path = elfwriter.write(tmp_path / "b", X86_64, loads=loads)
    with Core(a_path) as a, Core(b_path) as b:
        at = loads[65_999].vaddr
        assert paths(diff(a, b)) == [f"memory[{at:x}-{at + PAGE:x}]"]
        shoff = a.header.shoff
    with b_path.open("r+b") as file:
        file.seek(shoff + 4)
        file.write(b"\1")
    with Core(a_path) as a, Core(b_path) as b:
        assert [difference.path for difference in diff(a, b).differences] == ["shdr[0].sh_type"]


def test_section_header_on_one_side_only(tmp_path: Path) -> None:
    loads = [Load(0x100000 + i * PAGE, PAGE, 0) for i in range(65_534)]
    few = elfwriter.write(tmp_path / "few", X86_64, loads=loads[:-1])
    many = elfwriter.write(tmp_path / "many", X86_64, loads=loads)
    with Core(few) as a, Core(many) as b:
        assert paths(diff(a, b)) == [
            "header.e_phnum",
            "header.e_shentsize",
            "header.e_shnum",
            "header.e_shoff",
            f"phdr[{loads[-1].vaddr:x}]",
            "shdr[0]",
        ]


def test_different_architectures_are_compared_as_far_as_they_go(tmp_path: Path) -> None:
    a_path = elfwriter.write(tmp_path / "a", X86_64)
    b_path = elfwriter.write(tmp_path / "b", ARM64)
    with Core(a_path) as a, Core(b_path) as b:
        found = paths(diff(a, b))
    assert "header.e_machine" in found
    assert "thread[100].NT_PRSTATUS.size" in found
    assert not any(path.startswith("memory") for path in found)
