# SPDX-License-Identifier: BSD-3-Clause
"""Allocation tags of memory: read from cores made by hand, and compared."""

from pathlib import Path

import elfwriter
import pytest
from elfwriter import ARM, ARM64, PAGE, Load, Target

from coresnap.corefile import AddressMissing, Core
from coresnap.diff import ChangedTags, Difference, diff

MTE = 0x70000002  # PT_AARCH64_MEMTAG_MTE
AT = 0x20000


def tags(*, pages: int, data: dict[int, bytes], vaddr: int = AT, held: int | None = None) -> Load:
    """The tags of so many pages, of which ``held`` are in the file."""
    size = PAGE // 32 * (pages if held is None else held)
    return Load(vaddr, pages * PAGE, size, data, flags=0, align=0, kind=MTE)


def written(path: Path, *segments: Load, target: Target = ARM64) -> Path:
    return elfwriter.write(path, target, loads=[*elfwriter.plain_loads(), *segments])


def test_tags_are_read_one_by_one(tmp_path: Path) -> None:
    path = written(
        tmp_path / "core",
        tags(pages=3, data={0: b"\x21\x43", 127: b"\x5f", 128: b"\x06"}),
        tags(pages=2, data={}, vaddr=AT + 3 * PAGE, held=0),
    )
    with Core(path) as core:
        assert core.tags.read(AT, 64) == bytes([1, 2, 3, 4])
        assert core.tags.read(AT + 16, 32) == bytes([2, 3])
        assert core.tags.read(AT + 48, 16) == bytes([4])
        assert core.tags.read(AT + PAGE - 32, 48) == bytes([15, 5, 6])
        assert core.tags.read(AT + 2 * PAGE, PAGE) == bytes(256)
        assert core.tags.read(AT, 0) == b""
        assert [segment.memsz for segment in core.tags.segments] == [3 * PAGE, 2 * PAGE]
        assert core.tags.memory == 3 * PAGE
        # They are no memory.
        assert len(core.maps) == len(elfwriter.plain_loads())


@pytest.mark.parametrize("address", [AT - 16, AT + 3 * PAGE - 16, AT + 3 * PAGE, AT + 5 * PAGE])
def test_tags_that_no_segment_holds_are_missing(tmp_path: Path, address: int) -> None:
    path = written(
        tmp_path / "core",
        tags(pages=3, data={}),
        tags(pages=2, data={}, vaddr=AT + 3 * PAGE, held=0),
    )
    with Core(path) as core, pytest.raises(AddressMissing, match="no tags") as caught:
        core.tags.read(address, 32)
    assert caught.value.address == max(address, AT + 3 * PAGE) or address < AT


def test_tags_behind_the_end_of_a_cut_file_are_missing(tmp_path: Path) -> None:
    path = written(tmp_path / "core", tags(pages=2, data={0: b"\x11" * 256}))
    data = path.read_bytes()
    path.write_bytes(data[:-128])
    with Core(path, allow_truncated=True) as core:
        assert core.missing_bytes == 128
        assert core.tags.read(AT, PAGE) == b"\1" * 256
        with pytest.raises(AddressMissing, match="cut off"):
            core.tags.read(AT + PAGE, 16)


@pytest.mark.parametrize("cut", [1, 28, 128, 129, 200])
def test_tags_that_a_cut_file_lacks_are_no_difference(tmp_path: Path, cut: int) -> None:
    whole = written(tmp_path / "core", tags(pages=2, data={0: b"\x11" * 256}))
    short = tmp_path / "short"
    short.write_bytes(whole.read_bytes()[:-cut])
    with Core(whole) as a, Core(short, allow_truncated=True) as b:
        assert list(diff(a, b).tags) == []
        assert list(diff(b, a).tags) == []


def test_tags_are_of_whole_granules(tmp_path: Path) -> None:
    with Core(written(tmp_path / "core", tags(pages=1, data={}))) as core:
        for address, size in ((AT + 8, 16), (AT, 8), (AT, -16)):
            with pytest.raises(ValueError, match="16 bytes"):
                core.tags.read(address, size)


def test_the_number_means_tags_on_arm64_only(tmp_path: Path) -> None:
    path = written(tmp_path / "core", tags(pages=1, data={}), target=ARM)
    with Core(path) as core:
        assert core.tags.segments == ()


def test_tags_that_differ_are_named_by_pages(tmp_path: Path) -> None:
    before, after = {5: b"\x21", 3 * 128: b"\x70"}, {5: b"\x31", 130: b"\x08", 3 * 128: b"\x70"}
    a_path = written(tmp_path / "a", tags(pages=4, data=before))
    b_path = written(tmp_path / "b", tags(pages=4, data=after))
    with Core(a_path) as a, Core(b_path) as b:
        assert list(diff(a, b).tags) == [
            ChangedTags(
                start=AT,
                end=AT + 2 * PAGE,
                first=AT + 11 * 16,
                a_tags=bytes([2]) + bytes(15),
                b_tags=bytes([3]) + bytes(15),
            )
        ]
        assert [difference.path for difference in diff(a, b)] == [f"tags[{AT:x}-{AT + 2 * PAGE:x}]"]
        assert not list(diff(a, a))


def test_tags_of_many_pages_are_compared_where_there_are_any(tmp_path: Path) -> None:
    pages = 1 << 30  # 4 TiB of memory, 128 GiB of tags, and nearly all of it a hole
    far = (pages - 1) * 128
    a_path = written(tmp_path / "a", tags(pages=pages, data={0: b"\1", far: b"\x20"}))
    b_path = written(tmp_path / "b", tags(pages=pages, data={0: b"\1", far: b"\x10"}))
    with Core(a_path) as a, Core(b_path) as b:
        (found,) = diff(a, b).tags
        assert (found.start, found.first) == (AT + far * 32, AT + far * 32 + 16)


def test_headers_of_tags_are_compared_by_their_address(tmp_path: Path) -> None:
    both = tags(pages=1, data={0: b"\x12"})
    more = tags(pages=2, data={}, vaddr=AT + PAGE, held=1)
    a_path = written(tmp_path / "a", both, more)
    b_path = written(tmp_path / "b", both)
    with Core(a_path) as a, Core(b_path) as b:
        found = [difference.path for difference in diff(a, b)]
        assert found == ["header.e_phnum", f"phdr[PT_0x70000002:{AT + PAGE:x}]"]
    fewer = tags(pages=2, data={}, vaddr=AT + PAGE, held=0)
    with Core(a_path) as a, Core(written(tmp_path / "c", both, fewer)) as b:
        assert list(diff(a, b)) == [
            Difference(f"phdr[PT_0x70000002:{AT + PAGE:x}].p_filesz", 128, 0)
        ]
