# SPDX-License-Identifier: BSD-3-Clause
"""The differ: memory that differs, and memory that only one core holds."""

from pathlib import Path

import elfwriter
import pytest
from elfwriter import PAGE, X86_64, Load

from coresnap.corefile import Core
from coresnap.diff import Comparison, diff


def paths(comparison: Comparison) -> list[str]:
    return [difference.path for difference in comparison]


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


def test_truncated_memory_counts_as_missing(tmp_path: Path) -> None:
    a_path = elfwriter.write(tmp_path / "a", X86_64)
    b_path = tmp_path / "b"
    b_path.write_bytes(a_path.read_bytes()[:-PAGE])
    with Core(a_path) as a, Core(b_path, allow_truncated=True) as b:
        assert paths(diff(a, b)) == ["memory-missing[22000-23000]"]
