# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark runs, with as little of each as there can be, and its results make documents."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.architectures import X86_64
from lab.bench import cells, compression, dumps, goals, parts, pause, served
from lab.bench.cells import BESIDE, GCORE, KERNEL, OURS, PRECOPY, STOP, Cell
from lab.bench.dumps import BARE_FORK, PLAIN_WRITE, Found, Taken
from lab.host import build, hold
from lab.real.scene import need

MEBIBYTES = 4


def taken(way: str, round_: int, **what: float) -> Taken:
    cell = {"threads": 50, "mebibytes": 1024, "rate": 0, "huge": False}
    return Taken(way=way, round=round_, **{**cell, **what})  # type: ignore[arg-type]


def test_each_way_to_dump_is_measured(tools: hold.Tools, tmp_path: Path) -> None:
    ways = (*BESIDE, KERNEL)
    cell = Cell(threads=3, mebibytes=MEBIBYTES, ways=ways)
    found = dumps.measure([cell], tools.dumper, tmp_path, 1)
    assert not found.missing
    assert [one.way for one in found.taken] == [*BESIDE, BARE_FORK, KERNEL, PLAIN_WRITE]
    for one in found.taken:
        assert (one.felt == 0) == (one.way == PLAIN_WRITE)
        assert (one.wall == 0) == (one.way == BARE_FORK)
        assert (one.size > MEBIBYTES << 19) == (one.way != BARE_FORK)
        assert (one.pause > 0) == (one.way in OURS)
        assert (one.memory > 0) == (one.waited > 0) == (one.way in BESIDE)
    assert len(dumps.table_of(found).splitlines()) == 2 + len(found.taken)
    assert dumps.from_json(dumps.to_json(found)) == found
    # Nothing but the programs is left.
    assert not list(tmp_path.glob("*core*")) and not (tmp_path / "plain").exists()


@pytest.mark.parametrize("huge", [False, True], ids=["small", "huge"])
def test_a_program_that_writes_is_measured(tools: hold.Tools, tmp_path: Path, huge: bool) -> None:
    cell = Cell(threads=2, mebibytes=64, rate=cells.RATE, huge=huge, ways=(STOP, PRECOPY))
    found = dumps.measure([cell], tools.dumper, tmp_path, 1)
    if huge and found.missing:
        assert not found.taken and "no huge pages" in found.missing[0]
        return
    assert not found.missing
    ours = [one for one in found.taken if one.way in (STOP, PRECOPY)]
    assert [one.way for one in ours] == [STOP, PRECOPY]
    for one in ours:
        assert one.paced > 0 and one.worked > 0 and one.waited > 0
        assert one.way == PRECOPY or one.tracked == 0


def test_a_program_that_rests_is_measured(tools: hold.Tools, tmp_path: Path) -> None:
    cell = Cell(threads=2, mebibytes=MEBIBYTES, rate=cells.REST, ways=(STOP, GCORE))
    found = dumps.measure([cell], tools.dumper, tmp_path, 1)
    assert [one.way for one in found.taken] == [STOP, GCORE, BARE_FORK, PLAIN_WRITE]
    told = dumps.table_of(found).splitlines()[2:]
    assert len(told) == 4 and all("| rests |" in line for line in told)


def test_what_cannot_be_measured_is_told(tools: hold.Tools, tmp_path: Path) -> None:
    cell = Cell(threads=1, mebibytes=1, ways=(STOP, "no-such-way"))
    found = dumps.measure([cell], tools.dumper, tmp_path, 2)
    assert [one.way for one in found.taken if one.way in cell.ways] == [STOP, STOP]
    assert len(found.missing) == 1
    assert "no such method" in found.missing[0]
    assert dumps.table_of(found).endswith(f"Not measured: {found.missing[0]}.")


def test_what_redis_serves_is_measured() -> None:
    need("redis-benchmark", "redis-tools")
    found = served.measure(8, 1, 1)
    assert not found.missing
    assert [one.way for one in found.served] == list(served.WAYS)
    assert (served.ratio(found) or 0) > 0
    assert served.from_json(served.to_json(found)) == found
    assert len(served.table_of(found).splitlines()) == 2 + len(served.WAYS)


def test_cores_of_oneself_and_compression_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = build.library(X86_64.name).parent
    monkeypatch.setattr(pause, "THREADS", (2,))
    (opened,) = pause.measure(library, tmp_path, MEBIBYTES, 1)
    assert min(opened.fork, opened.pause, opened.felt) > 0
    assert len(pause.table_of([opened]).splitlines()) == 3
    monkeypatch.setattr(compression, "PAIRS", {"gzip:6": compression.PAIRS["gzip:6"]})
    (packed,) = compression.measure(library, tmp_path, MEBIBYTES, 1)
    assert min(packed.ours, packed.theirs) > 0 and 0 < packed.our_size < packed.whole
    assert len(compression.table_of([packed]).splitlines()) == 3


def test_goals_are_judged() -> None:
    found = Found()
    for round_, noise in enumerate((1, 7, 1)):
        found.taken += [
            taken(PRECOPY, round_, pause=2e6, felt=2e6, wall=12e8 * noise, waited=11e6, size=2**30),
            taken(
                STOP, round_, pause=5e8, felt=5e8, wall=10e8 * noise, size=2**30, memory=1156 << 20
            ),
            taken(GCORE, round_, felt=6e8, wall=20e8, size=2**30),
        ]
    told = {goal.what: goal for goal in goals.goals({"sizes": found}, 0.8)}
    verdicts = {what: goal.verdict for what, goal in told.items()}
    assert verdicts["pause of precopy, 1 GiB, 50 threads, 0 MB/s"] == "reached"
    assert verdicts["pause of precopy, 8 GiB, 50 threads, 0 MB/s"] == "not measured"
    assert verdicts["felt by gcore / felt by precopy, 1 GiB"] == "reached"
    assert verdicts["longest mmap or munmap while precopied"] == "missed"
    assert verdicts["what redis serves while precopied / undisturbed"] == "missed"
    staged = told["memory of the dumper, stop, 1 GiB, 0 MB/s"]
    assert staged.row()[-2:] == ["1156 MiB", "missed"]
    # Of the same round: both were slow in one.
    assert told["all of precopy / all of stop, 1 GiB, 0 MB/s"].measured == pytest.approx(1.2)


def test_documents_are_made_of_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("benchmarks.md", "pausing.md"):
        shutil.copy(parts.DOCS / name, tmp_path)
    found = Found([taken(way, 0, pause=2e6, felt=3e6, wall=4e6, size=2**30) for way in OURS])
    part = parts.Part(
        lambda _: dumps.to_json(found), parts.PARTS["sizes"].table_of, ("Sizes", "memory")
    )
    monkeypatch.setitem(parts.PARTS, "sizes", part)
    book = parts.Book(tmp_path)
    book.measure("sizes", parts.Amount(tmp_path, tmp_path, 1024, 1))
    book.write()
    text = (tmp_path / "benchmarks.md").read_text()
    assert dumps.table_of(found) in text and book.goals() in text
    assert "(images/pause-by-memory.png)" in (tmp_path / "pausing.md").read_text()
    assert (tmp_path / "images" / "pause-by-memory.png").stat().st_size < 100_000
    # Again, by another who has only what was kept.
    parts.Book(tmp_path).write()
    assert (tmp_path / "benchmarks.md").read_text() == text
