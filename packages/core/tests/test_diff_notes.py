# SPDX-License-Identifier: BSD-3-Clause
"""The differ: notes that are missing, of another size or order, and what is in them."""

from collections.abc import Sequence
from pathlib import Path

import elfwriter
from elfwriter import PAGE, X86_64

from coresnap.corefile import Core
from coresnap.diff import Difference, diff


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
