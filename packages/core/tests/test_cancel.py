# SPDX-License-Identifier: BSD-3-Clause
"""Signals undo a dump: the target runs, no file is left, the exit code tells the signal.

How long that took is printed; asserted is only that it is not long.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import living
import pytest
from living import Held, Subject

from lab.patience import AT_ONCE, DEADLINE

pytestmark = pytest.mark.host

SIGNALS = pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name
)


@pytest.fixture
def subject() -> Iterator[Subject]:
    with Subject(living.program("world")) as started:
        started.tell("threads", 3)
        yield started


def interrupt(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal; the process must end at once, by reason of it. Prints after how many ms."""
    pidfd = os.pidfd_open(process.pid)
    began = time.monotonic()
    process.send_signal(number)
    gone = living.wait_gone(pidfd, seconds=AT_ONCE)
    print(f"{number.name}: cancelled after {(time.monotonic() - began) * 1000:.1f} ms")
    os.close(pidfd)
    assert gone
    assert process.wait(DEADLINE) == 128 + number


@SIGNALS
@pytest.mark.parametrize(
    "options",
    [
        ["-m", "fork"],
        ["-m", living.METHODS[-1]],
        ["-m", "stop"],
        ["-m", "stop", "--stage-budget", "1"],
    ],
    ids=["fork", "precopy", "stop-staged", "stop-while-stopped"],
)
def test_a_dump_held_by_a_full_pipe(
    subject: Subject, options: list[str], number: signal.Signals
) -> None:
    before = living.footprint(subject.pid)
    with Held(subject.pid, *options) as held:
        interrupt(held.process, number)
        assert held.talk().startswith("coresnap-dump: cancelled")
    living.until_undisturbed(subject, before)


@SIGNALS
@pytest.mark.parametrize("method", living.METHODS)
def test_a_large_file_that_is_being_written(
    tmp_path: Path, subject: Subject, method: str, number: signal.Signals
) -> None:
    subject.tell("map", 32, 32 << 8)
    before = living.footprint(subject.pid)
    arguments = ["-m", method, "-o", "core", str(subject.pid)]
    with living.slowed("pwrite64:delay_exit=30000", ".part>", tmp_path, *arguments) as process:
        (part,) = tmp_path.iterdir()
        assert part.name != "core"
        interrupt(process, number)
    assert list(tmp_path.iterdir()) == []
    living.until_undisturbed(subject, before)


@SIGNALS
def test_a_target_that_does_not_stop(
    tmp_path: Path, subject: Subject, number: signal.Signals
) -> None:
    """It waits for the end of a vfork child, which the kernel does not interrupt."""
    subject.tell("vfork")
    arguments = ["--stop-timeout", str(DEADLINE), "-o", "core", str(subject.pid)]
    with living.slowed("ptrace:delay_exit=1", "PTRACE_SEIZE", tmp_path, *arguments) as process:
        interrupt(process, number)
    assert list(tmp_path.iterdir()) == []
    assert subject.ask("") == "back"
    assert subject.ask("ping") == "pong"
    assert living.status(subject.pid, "TracerPid") == "0"
