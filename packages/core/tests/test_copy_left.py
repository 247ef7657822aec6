# SPDX-License-Identifier: BSD-3-Clause
"""The page that a killed dumper left in its target is taken by the next dump, and taken away.

test_copy_kill.py kills dumpers one after the other, at each step. Here the next one is the program
coresnap-dump, whose core does not have the page; and what is like it, but the target's own, is not
touched.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import living
import pytest
import targets
from living import WIDTHS, Subject
from toolchain import Width

from coresnap.corefile import Core

pytestmark = pytest.mark.host

Kill = Callable[[Subject], None]


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest) -> Width:
    found: Width = request.param
    return found


@pytest.fixture
def subject(width: Width) -> Iterator[Subject]:
    with Subject(living.program("world", width)) as started:
        started.tell("threads", 3)
        yield started


def span(line: str) -> tuple[int, int]:
    """Begin and end of a line of maps."""
    begin, end = line.split(maxsplit=1)[0].split("-")
    return int(begin, 16), int(end, 16)


def killed_right_after_the_mapping(subject: Subject) -> None:
    """At the first step after which there is a page."""
    before = living.mappings(subject.pid)
    for step in range(1, 1000):
        assert targets.drive(subject.pid, step).returncode == -signal.SIGKILL
        if living.mappings(subject.pid) != before:
            return


def killed_while_it_writes(subject: Subject) -> None:
    """When the copy has long been made."""
    with subprocess.Popen(
        [targets.driver(), str(subject.pid), "hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.kill()


def left_by(kill: Kill, subject: Subject) -> str:
    """The mapping that is left when the target has nothing else of the dump any more."""
    mappings, footprint = living.mappings(subject.pid), living.footprint(subject.pid)
    kill(subject)
    living.until_undisturbed(subject, footprint)
    (line,) = living.mappings(subject.pid) - mappings
    assert line.split()[1:] == ["rw-p", "00000000", "00:00", "0"]
    return line


def dump(subject: Subject, core: Path) -> None:
    done = living.run_tool("-m", "fork", "-q", "-f", "-o", core, str(subject.pid))
    assert (done.returncode, done.stderr) == (0, "")


KILLS = [killed_right_after_the_mapping, killed_while_it_writes]


@pytest.mark.parametrize("kill", KILLS)
def test_the_next_dump_takes_it_away(subject: Subject, kill: Kill, tmp_path: Path) -> None:
    before = living.mappings(subject.pid)
    start, _ = span(left_by(kill, subject))
    dump(subject, tmp_path / "core")
    assert living.mappings(subject.pid) == before
    with Core(tmp_path / "core") as core:
        assert start not in [mapping.start for mapping in core.maps]


def test_not_from_a_dump_that_goes_on(subject: Subject, tmp_path: Path) -> None:
    """Two of the same target, one after the other begins and ends while the first writes."""
    before, footprint = living.mappings(subject.pid), living.footprint(subject.pid)
    with living.Held(subject.pid, "-m", "fork") as held:
        during = living.mappings(subject.pid)
        assert len(during - before) == 1
        dump(subject, tmp_path / "core")
        assert living.mappings(subject.pid) == during
        assert living.is_copy(held.copy)
        assert held.finish() == 0
    living.until_undisturbed(subject, footprint)
    assert living.mappings(subject.pid) == before


@pytest.mark.parametrize(("how", "byte"), [("fill-own", 0x5A), ("map-own", 0)])
def test_not_one_of_the_program(subject: Subject, how: str, byte: int, tmp_path: Path) -> None:
    """As large, at the same place, but full, or with swap space reserved for it."""
    start, end = span(left_by(killed_while_it_writes, subject))
    dump(subject, tmp_path / "core")
    subject.tell(how, f"{start:x}", end - start)
    before = living.mappings(subject.pid)
    assert [span(line) for line in before].count((start, end)) == 1
    dump(subject, tmp_path / "core")
    assert living.mappings(subject.pid) == before
    assert subject.number("own", f"{byte:x}") == end - start
    with Core(tmp_path / "core") as core:
        assert (start, end) in [(each.start, each.end) for each in core.maps]
    # Nor does a page that was left beside it stay.
    other, _ = span(left_by(killed_while_it_writes, subject))
    assert other != start
    dump(subject, tmp_path / "core")
    assert living.mappings(subject.pid) == before
