# SPDX-License-Identifier: BSD-3-Clause
"""A process with many threads, and more at every moment: all that there are, are stopped."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import living
import pytest

import coresnap
from lab.patience import DEADLINE

pytestmark = pytest.mark.host
STANDING = 64
BORN = 500
DUMPS = 5

SCRIPT = f"""if 1:
    import threading
    end = threading.Event()

    def stand(n, time_between):
        for _ in range(n):
            threading.Thread(target=end.wait).start()
            if end.wait(time_between):
                return

    stand({STANDING}, 0)
    threading.Thread(target=stand, args=({BORN}, 0.001)).start()
    print("ready", flush=True)
    input()
    end.set()
"""


@pytest.fixture
def crowd() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
            process.communicate("\n", timeout=DEADLINE)
            assert process.returncode == 0
        finally:
            process.kill()


def running(pid: int) -> set[int]:
    """Threads that are neither stopped by a tracer nor at their end."""
    found = set()
    for task in living.threads(pid):
        try:
            state = Path(f"/proc/{pid}/task/{task}/stat").read_text().rpartition(") ")[2][0]
        except OSError:
            continue
        if state not in "tZX":
            found.add(task)
    return found


@pytest.mark.parametrize("method", living.METHODS)
def test_none_runs_on(crowd: subprocess.Popen[str], method: str, tmp_path: Path) -> None:
    """What is on its way out ends; one that was overlooked goes on for ever."""

    def look() -> None:
        end = time.monotonic() + DEADLINE
        while (left := running(crowd.pid)) and time.monotonic() < end:
            pass
        assert not left

    for number in range(DUMPS):
        core = tmp_path / f"core.{number}"
        coresnap.dump(crowd.pid, core, method=method, on_stopped=look)
        assert len(coresnap.Core(core).threads) > STANDING
        core.unlink()
