# SPDX-License-Identifier: BSD-3-Clause
"""Memory that grows while it is tracked is one segment of the core, as the kernel would have it;
and the heap is one mapping afterwards.

programs/growers.c lets three mappings grow all the time.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import living
import pytest
from living import WIDTHS, Subject
from toolchain import Width

import coresnap
from coresnap import Core, Method
from lab.patience import DEADLINE

pytestmark = pytest.mark.host

PAGE = 4096
KINDS = ("heap", "below", "arena")


@dataclass(frozen=True)
class Grown:
    """One of the three: where it begins, and how many pages it has, upwards or downwards."""

    kind: str
    at: int
    pages: int

    @property
    def start(self) -> int:
        """Its lowest address."""
        return self.at - self.pages * PAGE if self.kind == "below" else self.at

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + self.pages * PAGE

    def page(self, index: int) -> int:
        """The address of a page, in the order in which they came."""
        return self.at - (index + 1) * PAGE if self.kind == "below" else self.at + index * PAGE


def grown(subject: Subject) -> list[Grown]:
    words = [int(word) for word in subject.ask("layout").split()]
    return [Grown(kind, *words[2 * i : 2 * i + 2]) for i, kind in enumerate(KINDS)]


def in_core(core: Core, subject: Subject, width: Width) -> list[Grown]:
    """What the core says of them."""
    words = [int(word) for word in subject.ask("layout").split()]
    word = "Q" if width is Width.NATIVE and struct.calcsize("P") == 8 else "I"
    pairs = struct.unpack(f"<6{word}", core.read(words[-1], 6 * struct.calcsize(word)))
    return [Grown(kind, *pairs[2 * i : 2 * i + 2]) for i, kind in enumerate(KINDS)]


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest) -> Width:
    chosen: Width = request.param
    return chosen


@pytest.fixture
def subject(width: Width) -> Iterator[Subject]:
    with Subject(living.program("growers", width)) as started:
        checks = {each.method: each for each in coresnap.doctor(started.pid).methods}
        error = checks[Method.PRECOPY].error
        if error is not None:
            pytest.skip(f"no precopy here: {error}")
        yield started


def ranges(pid: int) -> list[tuple[int, int]]:
    """The mappings of a process."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [
        (int(low, 16), int(high, 16))
        for low, _, high in (line.split()[0].partition("-") for line in lines)
    ]


def expect_one(area: Grown, mappings: list[tuple[int, int]], where: str) -> None:
    found = [each for each in mappings if each[0] < area.end and area.start < each[1]]
    assert len(found) == 1, f"the {area.kind} is {len(found)} mappings in the {where}"


def dump(subject: Subject, to: Path, *more: str | Path) -> str:
    done = living.run_tool("--json", *more, "-f", "-o", to, str(subject.pid))
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["method"])


def expect_whole(core: Core, area: Grown, word: str) -> None:
    """Its pages have their numbers."""
    data = core.read(area.start, area.pages * PAGE)
    numbers = [struct.unpack_from(word, data, at)[0] for at in range(0, len(data), PAGE)]
    expected = list(range(1, area.pages + 1))
    assert numbers == (expected[::-1] if area.kind == "below" else expected)


@pytest.mark.parametrize("method", ["precopy", "auto"])
def test_what_grows_stays_one_mapping(
    method: str, width: Width, subject: Subject, tmp_path: Path
) -> None:
    """Also where the pages of the last moment fit no stage, and another method follows."""
    more = ["-m", method, *(["--stage-budget", "4096"] if method == "auto" else [])]
    before = grown(subject)
    taken = dump(subject, tmp_path / "core", *more)
    assert method == "auto" or taken == method
    assert all(b.pages > a.pages for a, b in zip(before, grown(subject), strict=True))
    with Core(tmp_path / "core") as core:
        segments = [(mapping.start, mapping.end) for mapping in core.maps]
        for area in in_core(core, subject, width):
            expect_one(area, segments, "core")
            expect_whole(core, area, "<Q" if width is Width.NATIVE else "<I")
    heap = grown(subject)[0]
    expect_one(heap, ranges(subject.pid), "target")


def test_what_grows_beyond_all_bounds_is_left_to_the_stop(tmp_path: Path) -> None:
    """The copy is in memory, of which the dumper takes 64 MiB at most."""
    with Subject(living.program("world")) as subject:
        subject.tell("map", 16, 16 << 8)
        before = living.footprint(subject.pid)
        arguments = ("-m", "precopy", "-o", "core", str(subject.pid))
        sign = "memfd:coresnap-spool"
        with living.slowed("pwrite64:delay_exit=30000", sign, tmp_path, *arguments) as dumper:
            subject.tell("map", 100, 100 << 8)
            assert dumper.wait(DEADLINE) == 0
            assert dumper.stderr is not None
            said = dumper.stderr.read().decode()
        in_the_pause = re.search(r"of which (\d+) in the pause", said)
        assert in_the_pause and int(in_the_pause[1]) >= 100 << 20
        with Core(tmp_path / "core") as core:
            # One with what was there before, as one lies beside the other.
            grown = max(core.maps, key=lambda each: each.end - each.start)
            data = core.read(grown.start, grown.end - grown.start)
        assert len(data) >= 100 << 20
        assert set(data[::PAGE]) == {0x5A}
        living.until_undisturbed(subject, before)
