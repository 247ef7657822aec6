# SPDX-License-Identifier: BSD-3-Clause
"""Cores that must not exceed a size, carry notes of the caller's, or need the caller's consent."""

import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import living
import pytest
import subjects

import coresnap
from coresnap import Core, Keep, Method, SkipReason
from lab.patience import DEADLINE

Program = subprocess.Popen[str]
Start = Callable[..., Program]
RunsOn = Callable[[Program], bool]

pytestmark = pytest.mark.host

METHODS = [Method(each) for each in living.METHODS]
OWN_SIZE = 2_000_000
"""Room for the notes of this process, which may have some hundred threads by other tests."""
PAGE = resource.getpagesize()
OWN_NOTES: tuple[coresnap.OwnNote, ...] = (
    ("example.org", 1, b"one"),
    (b"x", 0xFFFFFFFF, b""),
    ("five!", 2, b"12345"),
    ("a" * 30, 1, bytes(range(256)) * 40),
)


@pytest.mark.parametrize("size", [1, 256, 4095, 60_000])
@pytest.mark.parametrize("method", METHODS)
def test_file_is_cut_at_its_end(target: Program, tmp_path: Path, method: Method, size: int) -> None:
    whole = coresnap.dump(target.pid, tmp_path / "whole", method=method)
    cut = coresnap.dump(target.pid, tmp_path / "cut", method=method, max_size=size)
    assert (tmp_path / "cut").stat().st_size == cut.core_size == size
    assert cut.whole_size == whole.core_size == whole.whole_size > size
    if size < PAGE:
        # Behind the headers, counters of the processor's time have moved.
        headers = min(size, 64)
        both = [(tmp_path / name).read_bytes()[:headers] for name in ("whole", "cut")]
        assert both[0] == both[1]
    assert whole.bytes_skipped[SkipReason.LIMIT] == 0
    assert cut.bytes_skipped[SkipReason.LIMIT] > 0


def test_limit_that_is_not_reached_changes_nothing(target: Program, tmp_path: Path) -> None:
    result = coresnap.dump(target.pid, tmp_path / "core", max_size=1 << 40, core_limit=1 << 40)
    assert result.core_size == result.whole_size == (tmp_path / "core").stat().st_size
    assert result.bytes_skipped[SkipReason.LIMIT] == 0
    Core(tmp_path / "core").close()


@pytest.mark.parametrize("method", METHODS)
def test_small_segments_are_kept_whole(target: Program, tmp_path: Path, method: Method) -> None:
    coresnap.dump(target.pid, tmp_path / "whole", method=method)
    with Core(tmp_path / "whole") as whole:
        sizes = {mapping.start: mapping.filesz for mapping in whole.maps}
    limit = (tmp_path / "whole").stat().st_size // 2
    result = coresnap.dump(
        target.pid, tmp_path / "core", method=method, max_size=limit, keep=Keep.SMALL_FIRST
    )
    assert limit - PAGE < result.core_size <= limit
    with Core(tmp_path / "core") as core:
        assert [mapping.start for mapping in core.maps] == sorted(sizes)
        kept = {mapping.start: mapping.filesz for mapping in core.maps}
        cut = {start for start in sizes if kept[start] < sizes[start]}
        assert cut
        assert all(
            sizes[start] <= min(sizes[at] for at in cut) for start in sizes if start not in cut
        )
        assert sum(kept[start] > 0 for start in cut) <= 1
        assert core.threads[0].tid == target.pid
    left_out = sum(sizes[start] - kept[start] for start in cut)
    assert result.bytes_skipped[SkipReason.LIMIT] == left_out
    ranges = {(skip.start, skip.end) for skip in result.skipped if skip.reason is SkipReason.LIMIT}
    assert ranges == {(start + kept[start], start + sizes[start]) for start in cut}


@pytest.mark.parametrize("limit", [PAGE, PAGE + 1, 2 * PAGE, 60_000, 100_000, 300_000, 1 << 30])
@pytest.mark.parametrize("method", METHODS)
def test_core_limit_stops_where_the_kernel_does(
    start: Start, line: Callable[[Program], str], tmp_path: Path, method: Method, limit: int
) -> None:
    subjects.require_core_files()
    program = start("target", cwd=tmp_path)
    line(program)
    ours = coresnap.dump(program.pid, tmp_path / "ours", method=method, core_limit=limit)
    resource.prlimit(program.pid, resource.RLIMIT_CORE, (limit, resource.RLIM_INFINITY))
    program.send_signal(signal.SIGABRT)
    program.wait(DEADLINE)
    (kernels,) = set(tmp_path.iterdir()) - {tmp_path / "ours"}
    assert (tmp_path / "ours").stat().st_size == ours.core_size == kernels.stat().st_size


@pytest.mark.parametrize("method", METHODS)
def test_notes_come_back_byte_for_byte(target: Program, tmp_path: Path, method: Method) -> None:
    coresnap.dump(target.pid, tmp_path / "plain", method=method)
    coresnap.dump(target.pid, tmp_path / "core", method=method, notes=OWN_NOTES)
    with Core(tmp_path / "plain") as plain, Core(tmp_path / "core") as core:
        kernels = [(note.owner, note.type) for note in plain.notes]
        assert [(note.owner, note.type) for note in core.notes[: len(kernels)]] == kernels
        own = [(note.owner, note.type, note.desc) for note in core.notes[len(kernels) :]]
    assert own == [(os.fsdecode(owner), number, desc) for owner, number, desc in OWN_NOTES]


@pytest.mark.parametrize("method", METHODS)
def test_caller_is_asked_while_the_target_stands_still(
    target: Program, tmp_path: Path, method: Method
) -> None:
    seen: list[str] = []

    def look() -> None:
        seen.append(Path(f"/proc/{target.pid}/stat").read_text().rpartition(")")[2].split()[0])

    coresnap.dump(target.pid, tmp_path / "core", method=method, on_stopped=look)
    assert seen == ["t"]
    with coresnap.open_stream(target.pid, method=method, on_stopped=look) as stream:
        assert stream.read(4) == b"\x7fELF"
    assert seen == ["t", "t"]


@pytest.mark.parametrize("method", METHODS)
def test_caller_may_refuse(
    target: Program, tmp_path: Path, runs_on: RunsOn, method: Method
) -> None:
    with pytest.raises(coresnap.Failed, match="refused while it was stopped"):
        coresnap.dump(target.pid, tmp_path / "core", method=method, on_stopped=lambda: False)
    assert list(tmp_path.iterdir()) == []
    assert runs_on(target)


def test_what_the_asked_function_raises_is_raised(
    target: Program, tmp_path: Path, runs_on: RunsOn
) -> None:
    def fails() -> None:
        raise LookupError("not now")

    with pytest.raises(LookupError, match="not now"):
        coresnap.dump(target.pid, tmp_path / "core", on_stopped=fails)
    assert list(tmp_path.iterdir()) == []
    assert runs_on(target)


def test_asked_function_that_does_not_return_can_be_cancelled(
    target: Program, tmp_path: Path, runs_on: RunsOn
) -> None:
    released = threading.Event()
    asked = threading.Event()

    def waits() -> None:
        asked.set()
        released.wait(DEADLINE)

    def gives_up(_: coresnap.Progress) -> None:
        if asked.is_set():
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        coresnap.dump(target.pid, tmp_path / "core", on_stopped=waits, on_progress=gives_up)
    assert runs_on(target)
    released.set()
    assert list(tmp_path.iterdir()) == []


def test_own_process_has_nobody_to_ask(tmp_path: Path) -> None:
    with pytest.raises(coresnap.UsageError, match="stands still itself"):
        coresnap.dump(os.getpid(), tmp_path / "core", on_stopped=lambda: True)


def test_own_process_has_limits_and_notes(tmp_path: Path) -> None:
    result = coresnap.dump_self(tmp_path / "core", notes=OWN_NOTES, max_size=OWN_SIZE)
    assert result.core_size == OWN_SIZE < result.whole_size
    with Core(tmp_path / "core", allow_truncated=True) as core:
        assert [note.owner for note in core.notes][-4:] == ["example.org", "x", "five!", "a" * 30]
