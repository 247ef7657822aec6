# SPDX-License-Identifier: BSD-3-Clause
"""A longest pause: what would exceed it is not begun, or given up, with the target as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import living
import pytest

import coresnap
from coresnap import Code
from lab.patience import DEADLINE, PATIENCE

pytestmark = pytest.mark.host
Program = subprocess.Popen[str]
Start = Callable[..., Program]
RunsOn = Callable[[Program], bool]

AMPLE = 600.0
LEAST = 1e-3
SHORT = 0.3 * PATIENCE


@pytest.fixture
def large() -> Iterator[Program]:
    """A process of 128 MiB, which knows whether its memory is as it was."""
    argv = living.remembering(128)
    with subprocess.Popen(argv, stdin=-1, stdout=-1, text=True, bufsize=1) as program:
        assert program.stdout is not None and program.stdin is not None
        assert program.stdout.readline() == "ready\n"
        yield program
        program.stdin.close()


@contextmanager
def undisturbed(program: Program) -> Iterator[None]:
    before = living.footprint(program.pid)
    yield
    after = living.footprint(program.pid)
    assert (before.tracer, before.threads, before.children, before.files) == (
        after.tracer, after.threads, after.children, after.files,
    )  # fmt: skip
    assert program.stdin is not None and program.stdout is not None
    program.stdin.write("\n")
    assert program.stdout.readline() == "pong\n"


@pytest.mark.parametrize("method", ["stop", "fork", "auto"])
def test_what_would_take_longer_is_not_begun(large: Program, tmp_path: Path, method: str) -> None:
    asked = []
    with (
        undisturbed(large),
        pytest.raises(coresnap.PauseTooLong, match="would stand still") as told,
    ):
        coresnap.dump(
            large.pid,
            tmp_path / "core",
            method=method,
            max_pause=LEAST,
            on_stopped=lambda: asked.append(1),
        )
    assert told.value.exit_code == 11 and told.value.pid == large.pid
    assert "1.0 ms are allowed" in told.value.what
    assert asked == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", [living.METHODS[-1], "auto"])
def test_nothing_is_copied_ahead_of_it(large: Program, tmp_path: Path, method: str) -> None:
    strace = living.traced(tmp_path, "ptrace,pwrite64")
    dump_it = ("-m", method, "--max-pause", "10us", "-o", tmp_path / "core", str(large.pid))
    with undisturbed(large):
        done = subprocess.run([*strace, living.tool(), *dump_it], timeout=DEADLINE, stderr=-1)
    assert done.returncode == Code.PAUSE, done.stderr
    calls = living.calls_in(tmp_path)
    assert "PTRACE_INTERRUPT" not in calls and "pwrite64" not in calls
    assert not (tmp_path / "core").exists()


@pytest.mark.parametrize("method", living.METHODS)
def test_an_ample_pause_changes_nothing(large: Program, method: str) -> None:
    with undisturbed(large), open(os.devnull, "wb") as nowhere:
        result = coresnap.dump(large.pid, nowhere, method=method, max_pause=AMPLE)
    assert result.method == method
    assert result.bytes_read > 128 << 20


def test_the_tool_ends_with_its_code(large: Program, tmp_path: Path) -> None:
    for words, code in (
        (["-m", "stop", "--max-pause", "1ms"], Code.PAUSE),
        (["-m", "stop", "--max-pause", "0.001"], Code.PAUSE),
        (["-m", "stop", "--max-pause", "600s"], Code.OK),
        (["--max-pause", "1 week"], Code.USAGE),
    ):
        argv: list[str | Path] = [living.tool(), *words, "-o", tmp_path / "core", str(large.pid)]
        done = subprocess.run(argv, capture_output=True, timeout=DEADLINE)
        assert done.returncode == code, done.stderr
        assert list(tmp_path.iterdir()) == ([tmp_path / "core"] if code == Code.OK else [])
        (tmp_path / "core").unlink(missing_ok=True)


def test_what_the_caller_took_is_not_left(target: Program, tmp_path: Path, runs_on: RunsOn) -> None:
    def take() -> None:
        began = time.monotonic()
        while time.monotonic() - began < SHORT:
            os.getppid()

    for method in ("stop", "fork", "auto"):
        with pytest.raises(coresnap.PauseTooLong, match="was let go"):
            coresnap.dump(
                target.pid, tmp_path / "core", method=method, max_pause=SHORT, on_stopped=take
            )
        assert list(tmp_path.iterdir()) == []
        assert runs_on(target)


def test_a_reader_that_does_not_read_is_not_waited_for(target: Program, runs_on: RunsOn) -> None:
    """What exceeds the budget is written while the target stands still: here into a full pipe."""
    read_fd, write_fd = os.pipe()
    began = time.monotonic()
    with pytest.raises(coresnap.PauseTooLong, match="was let go"):
        coresnap.dump(target.pid, write_fd, method="stop", stage_budget=1, max_pause=SHORT)
    assert time.monotonic() - began < DEADLINE
    os.close(write_fd)
    os.close(read_fd)
    assert runs_on(target)


@pytest.fixture
def fifos(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    ready, release = tmp_path / "ready", tmp_path / "release"
    os.mkfifo(ready)
    os.mkfifo(release)
    yield ready, release
    # Lets the child of programs/vfork.py go, which waits.
    os.close(os.open(release, os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.parametrize("threads", ["one-thread", "two-threads"])
def test_the_wait_for_threads_ends_early(
    start: Start, fifos: tuple[Path, Path], threads: str
) -> None:
    program = start("vfork", *fifos, threads)
    with fifos[0].open("rb"):  # returns when the main thread is in vfork
        began = time.monotonic()
        with pytest.raises(coresnap.PauseTooLong, match="of its threads did not stop"):
            coresnap.dump(program.pid, None, stop_timeout=DEADLINE * 10, max_pause=SHORT)
        assert time.monotonic() - began < DEADLINE
        # A timeout that is shorter than what may be waited counts as ever.
        with pytest.raises((coresnap.Incomplete, coresnap.DeadlineExceeded)) as told:
            coresnap.dump(program.pid, None, stop_timeout=SHORT, max_pause=AMPLE)
        if isinstance(told.value, coresnap.Incomplete):
            assert told.value.result.memory is not None
            told.value.result.memory.close()


def test_of_oneself() -> None:
    script = """if 1:
        import coresnap
        for method in ("stop", "fork"):
            try:
                coresnap.dump_self(None, method=method, max_pause=1e-6)
                raise SystemExit(method)
            except coresnap.PauseTooLong:
                pass
            coresnap.dump_self(None, method=method, max_pause=600).memory.close()
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=DEADLINE)
