# SPDX-License-Identifier: BSD-3-Clause
"""The differ: each kind of byte changed once, and exactly that named."""

import dataclasses
import io
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import elfwriter
import pytest
import subjects
from elfwriter import ARM64, PAGE, X86_64, Load
from subjects import Subject

from coresnap.corefile import Core, Note
from coresnap.diff import Comparison, Difference, diff


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Subject]:
    """The kernel's core of the 64- or 32-bit program, made once."""
    directory = tmp_path_factory.mktemp("kernel")
    made: dict[int, Subject] = {}

    def get(bits: int) -> Subject:
        if bits not in made:
            made[bits] = subjects.kernel_core(directory, bits=bits)
        return made[bits]

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


@pytest.mark.parametrize("flip", FLIPS, ids=lambda flip: flip.name)
def test_one_flipped_byte_is_one_difference(
    kernel: Callable[[int], Subject], tmp_path: Path, flip: Flip
) -> None:
    original = kernel(64).core
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


@pytest.mark.parametrize("bits", [64, 32])
def test_a_copy_is_equal(kernel: Callable[[int], Subject], tmp_path: Path, bits: int) -> None:
    original = kernel(bits).core
    # Without its holes, which are zeros all the same.
    copy = tmp_path / "core"
    copy.write_bytes(original.read_bytes())
    with Core(original) as a, Core(copy) as b, Core(io.BytesIO(copy.read_bytes())) as c:
        assert paths(diff(a, b)) == []
        assert paths(diff(a, a)) == []
        assert paths(diff(a, c)) == []


def test_two_runs_differ_by_field(kernel: Callable[[int], Subject], tmp_path: Path) -> None:
    again = subjects.kernel_core(tmp_path, bits=32)
    with Core(kernel(32).core) as a, Core(again.core) as b:
        found = paths(diff(a, b))
        assert "process.pr_pid" in found
        # Other thread ids: each thread is missing on one side, none of its fields is listed.
        assert not any(".prstatus." in path for path in found)
        assert f"thread[{tid(a, 0)}]" in found
        assert f"thread[{tid(b, 0)}]" in found


def test_core_of_gdb_against_itself_and_the_kernels(
    kernel: Callable[[int], Subject], tmp_path: Path
) -> None:
    subject = subjects.gdb_core(tmp_path)
    with Core(subject.core) as a, Core(kernel(64).core) as b:
        assert paths(diff(a, a)) == []
        found = paths(diff(a, b))
        assert "notes.order" in found
        assert "process.pr_pid" in found


def test_memory_is_reported_by_pages_merged(tmp_path: Path) -> None:
    base, size = 0x100000, 64 << 20
    same = {0x5000: b"same", (40 << 20): b"x" * PAGE}
    a_path = elfwriter.write(tmp_path / "a", X86_64, loads=[Load(base, size, size, same)])
    changed = same | {
        0x1FF0: b"y" * 0x20,  # the end of one page and the start of the next
        (1 << 20) - 8: b"z" * 16,  # across the pieces in which memory is compared
        (30 << 20) + 0x123: b"only here",
        (40 << 20) + PAGE - 1: b"yy",
        0x5004: bytes(64),  # zeros in place of a hole
    }
    b_path = elfwriter.write(tmp_path / "b", X86_64, loads=[Load(base, size, size, changed)])
    with Core(a_path) as a, Core(b_path) as b:
        comparison = diff(a, b)
        assert comparison.differences == ()
        found = list(comparison.pages)
        assert [(r.start - base, r.end - base, r.first - base) for r in found] == [
            (0x1000, 0x3000, 0x1FF0),
            ((1 << 20) - PAGE, (1 << 20) + PAGE, (1 << 20) - 8),
            ((30 << 20), (30 << 20) + PAGE, (30 << 20) + 0x123),
            ((40 << 20), (40 << 20) + 2 * PAGE, (40 << 20) + PAGE - 1),
        ]
        assert [r.pages for r in found] == [2, 2, 1, 2]
        assert (found[0].a_bytes, found[0].b_bytes) == (bytes(16), b"y" * 16)
        assert found[2].b_bytes == b"only here" + bytes(7)
        assert found[3].a.perms == "rw-"
        assert list(comparison.pages) == found
        last = list(comparison)[-1]
        assert last.path == f"memory[{base + (40 << 20):x}-{base + (40 << 20) + 2 * PAGE:x}]"
        assert (last.a, last.b) == (b"x" + bytes(15), b"yy" + bytes(14))
        assert last.detail is not None
        assert last.detail.startswith("2 pages, the first difference at ")


def test_memory_of_a_huge_sparse_mapping_is_compared_by_its_data(tmp_path: Path) -> None:
    size = 7 << 40
    far = {size - PAGE: b"a"}
    try:
        a_path = elfwriter.write(tmp_path / "a", X86_64, loads=[Load(0x1000, size, size, far)])
        b_path = elfwriter.write(tmp_path / "b", X86_64, loads=[Load(0x1000, size, size)])
    except OSError as error:
        pytest.skip(f"this file system holds no file of 7 TiB: {error}")
    with Core(a_path) as a, Core(b_path) as b:
        assert [r.first for r in diff(a, b).pages] == [0x1000 + size - PAGE]


def test_memory_that_only_one_core_holds(tmp_path: Path) -> None:
    loads = [
        Load(0x10000, 0x4000, 0x4000, {0x3000: b"data"}),
        Load(0x20000, 0x1000, 0x1000),
        Load(0x30000, 0x1000, 0x1000),
    ]
    fewer = [
        Load(0x10000, 0x4000, 0x2000),
        Load(0x20000, 0x1000, 0),
        Load(0x30000, 0x1000, 0x1000),
    ]
    a_path = elfwriter.write(tmp_path / "a", X86_64, loads=loads)
    b_path = elfwriter.write(tmp_path / "b", X86_64, loads=fewer)
    with Core(a_path) as a, Core(b_path) as b:
        # The offsets of what follows are explained by the sizes.
        assert paths(diff(a, b)) == [
            "phdr[10000].p_filesz",
            "phdr[20000].p_filesz",
            "memory-missing[12000-14000]",
            "memory-missing[20000-21000]",
        ]
        missing = list(diff(a, b).missing)
        assert [(m.missing_in, m.zero) for m in missing] == [("b", False), ("b", True)]
        assert [(m.missing_in, m.zero) for m in diff(b, a).missing] == [("a", False), ("a", True)]
        assert missing[0].b is not None
        assert "not all of them zero" in str(list(diff(a, b))[2].detail)


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


def test_a_mapping_in_two_parts_is_still_compared(tmp_path: Path) -> None:
    whole = [Load(0x10000, 0x2000, 0x2000, {0x1FFF: b"x"})]
    parts = [Load(0x10000, 0x1000, 0x1000), Load(0x11000, 0x1000, 0x1000, {0xFFF: b"y"})]
    with (
        Core(elfwriter.write(tmp_path / "a", X86_64, loads=whole)) as a,
        Core(elfwriter.write(tmp_path / "b", X86_64, loads=parts)) as b,
    ):
        assert paths(diff(a, b)) == [
            "header.e_phnum",
            "phdr[10000].p_filesz",
            "phdr[10000].p_memsz",
            "phdr[11000]",
            "memory[11000-12000]",
        ]


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


def compare_notes(tmp_path: Path, a: Sequence[bytes], b: Sequence[bytes]) -> list[Difference]:
    """The differences of two cores that differ in their notes, without the size of the whole."""
    with (
        Core(elfwriter.write(tmp_path / "a", X86_64, notes=a)) as core_a,
        Core(elfwriter.write(tmp_path / "b", X86_64, notes=b)) as core_b,
    ):
        found = list(diff(core_a, core_b))
    return [item for item in found if item.path != "phdr[PT_NOTE].p_filesz"]


def test_missing_notes(tmp_path: Path) -> None:
    notes = elfwriter.plain_notes(X86_64, (1, 2))
    layout = elfwriter.note(b"LINUX", 0x205, bytes(16))
    xstate = elfwriter.note(b"LINUX", 0x202, b"12345678")
    found = compare_notes(tmp_path, [*notes, layout], notes)
    assert found == [Difference("notes.NT_X86_XSAVE_LAYOUT", bytes(16), None)]
    found = compare_notes(tmp_path, notes, [*notes[:6], xstate, *notes[6:]])
    assert found == [Difference("thread[1].NT_X86_XSTATE", None, b"12345678")]
    found = compare_notes(tmp_path, [part for part in notes if part != notes[3]], notes)
    assert [difference.path for difference in found] == ["notes.NT_AUXV"]
    found = compare_notes(tmp_path, notes[:6], notes)
    assert found == [Difference("thread[2]", None, ("NT_PRSTATUS", "NT_PRFPREG"))]


def test_sizes_of_notes(tmp_path: Path) -> None:
    notes = elfwriter.plain_notes(X86_64)
    short, long = (elfwriter.note(b"LINUX", 0x202, bytes(size)) for size in (2432, 2696))
    found = compare_notes(tmp_path, [*notes, short], [*notes, long])
    assert found == [Difference("thread[100].NT_X86_XSTATE.size", 2432, 2696)]


def test_order_of_notes(tmp_path: Path) -> None:
    notes = elfwriter.plain_notes(X86_64, (1, 2, 3))
    # PRPSINFO before the first thread, as gdb has it.
    found = compare_notes(tmp_path, notes, [notes[1], notes[0], *notes[2:]])
    assert [difference.path for difference in found] == ["notes.order"]
    # Two notes of the process exchanged.
    found = compare_notes(tmp_path, notes, [*notes[:3], notes[4], notes[3], *notes[5:]])
    assert [difference.path for difference in found] == ["notes.order"]
    # The process's notes at the end.
    found = compare_notes(tmp_path, notes, [notes[0], *notes[5:], *notes[1:5]])
    assert [difference.path for difference in found] == ["notes.order"]
    # The first thread's registers right behind its status.
    found = compare_notes(tmp_path, notes, [notes[0], notes[5], *notes[1:5], *notes[6:]])
    assert [difference.path for difference in found] == ["notes.order"]


def test_order_within_a_thread(tmp_path: Path) -> None:
    notes = elfwriter.plain_notes(X86_64, (1, 2))
    x, y = (elfwriter.note(b"LINUX", number, b"abcd") for number in (0x202, 0x204))
    found = compare_notes(tmp_path, [*notes, x, y], [*notes, y, x])
    assert found == [
        Difference(
            "thread[2].order",
            ("NT_PRSTATUS", "NT_PRFPREG", "NT_X86_XSTATE", "NT_X86_SHSTK"),
            ("NT_PRSTATUS", "NT_PRFPREG", "NT_X86_SHSTK", "NT_X86_XSTATE"),
        )
    ]


def test_order_of_threads_is_one_difference(tmp_path: Path) -> None:
    found = compare_notes(
        tmp_path,
        elfwriter.plain_notes(X86_64, (1, 2, 3)),
        [
            elfwriter.prstatus(X86_64, 3, [0x1000 + i for i in range(27)]),
            elfwriter.prpsinfo(X86_64, 1, b"name", b"name -x"),
            *elfwriter.plain_notes(X86_64, (3, 1, 2))[2:],
        ],
    )
    assert found == [Difference("notes.thread-order", (1, 2, 3), (3, 1, 2))]


def test_auxiliary_vector(tmp_path: Path) -> None:
    notes = elfwriter.plain_notes(X86_64)
    pairs = [(6, PAGE), (3, 0x10040), (9, 0x10400), (25, 0x7000)]

    def vector(*entries: tuple[int, int]) -> list[bytes]:
        return [*notes[:3], elfwriter.auxv(X86_64, entries), *notes[4:]]

    assert compare_notes(tmp_path, vector(*pairs), vector(*pairs[:3], (51, 1), pairs[3])) == [
        Difference("auxv.AT_MINSIGSTKSZ", None, 1)
    ]
    found = compare_notes(tmp_path, vector(*pairs), vector(*pairs[1:], pairs[0]))
    assert [difference.path for difference in found] == ["auxv.order"]
    assert compare_notes(tmp_path, vector(*pairs), vector(*pairs, (25, 8), (999, 9))) == [
        Difference("auxv.AT_RANDOM#2", None, 8),
        Difference("auxv.AT_999", None, 9),
    ]


def test_mapped_files(tmp_path: Path) -> None:
    notes = elfwriter.plain_notes(X86_64)
    files = [
        (0x10000, 0x11000, 0, b"/a"),
        (0x20000, 0x21000, 1, b"/b\n"),
        (0x30000, 0x31000, 0, b""),
    ]

    def table(*entries: tuple[int, int, int, bytes], extra: bytes = b"") -> list[bytes]:
        body = elfwriter.nt_file(X86_64, entries)[20:]
        body = body[: len(body.rstrip(b"\0")) + (1 if entries[-1][3] else 2)] + extra
        return [*notes[:4], elfwriter.note(b"CORE", 0x46494C45, body), *notes[5:]]

    found = compare_notes(tmp_path, table(*files), table(files[0], files[2]))
    assert [difference.path for difference in found] == ["files[1]"]
    found = compare_notes(tmp_path, table(*files), table(files[1], files[0], files[2]))
    assert [difference.path for difference in found] == ["files.order"]
    other = (0x20000, 0x22000, 2, b"/c")
    found = compare_notes(tmp_path, table(*files), table(files[0], other, files[2]))
    assert [difference.path for difference in found] == [
        "files[1].end",
        "files[1].offset",
        "files[1].path",
    ]
    assert (found[2].a, found[2].b) == (b"/b\n", b"/c")
    found = compare_notes(tmp_path, table(*files), table(*files, extra=b"junk"))
    assert [difference.path for difference in found] == ["files.bytes.size"]


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


def test_truncated_memory_counts_as_missing(tmp_path: Path) -> None:
    a_path = elfwriter.write(tmp_path / "a", X86_64)
    b_path = tmp_path / "b"
    b_path.write_bytes(a_path.read_bytes()[:-PAGE])
    with Core(a_path) as a, Core(b_path, allow_truncated=True) as b:
        assert paths(diff(a, b)) == ["memory-missing[22000-23000]"]
