# SPDX-License-Identifier: BSD-3-Clause
"""Processes that sit in one system call, and what a dump does to that call.

Times are in nanoseconds of CLOCK_MONOTONIC unless they are named otherwise.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from errno import errorcode
from pathlib import Path

from lab.patience import DEADLINE

SOURCE = Path(__file__).with_name("calls.c")
COMPILERS = {64: ("gcc",), 32: ("i686-linux-gnu-gcc", "-static")}
CFLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror")


class Unsupported(Exception):
    """This kernel or machine lacks the call or a compiler; the text says what."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call ended, and when it was disturbed."""

    result: int
    error: int  # errno, 0 when the call did not fail
    ok: bool  # result, errno and data are those of a call that nobody interrupted
    elapsed: int  # how long the call took
    waited: int  # how long it had been waiting when the last disturbance began
    timeout: int | None  # None: ended by a waker
    disturbed: int  # how often it was, before it ended
    changed: str = ""  # what the process then sees of itself that it did not before

    @property
    def verdict(self) -> str:
        """In one word: ``goes on``, with a timeout ``exact`` or ``anew``; ``short`` for a part of
        the bytes; else the name of the error, ``early`` or ``wrong``; or what ``changed``."""
        if self.changed:
            return f"changed {self.changed}"
        if self.error:
            return self._timing() if self.ok else errorcode[self.error]
        if not self.ok:
            return "short" if self.result > 0 else "wrong"
        return self._timing()

    def _timing(self) -> str:
        if self.timeout is None:
            return "goes on"
        if self.elapsed < self.timeout:
            return "early"
        return "anew" if self.waited and self.elapsed >= self.timeout + self.waited else "exact"


def build(directory: Path, *, bits: int) -> Path:
    """Compile the program. Raises Unsupported without a compiler."""
    compiler, *flags = COMPILERS[bits]
    if shutil.which(compiler) is None:
        raise Unsupported(f"{compiler} is not installed")
    program = directory / f"calls{bits}"
    argv: list[str | Path] = [compiler, *flags, *CFLAGS, "-pthread", "-o", program, SOURCE]
    subprocess.run(argv, check=True, timeout=120)
    return program


def list_calls(program: Path) -> dict[str, bool]:
    """Return the names of the calls; True for those that end by a timeout."""
    done = subprocess.run([program, "list"], check=True, capture_output=True, text=True)
    pairs = (line.split() for line in done.stdout.splitlines())
    return {name: kind == "timed" for name, kind in pairs}


@contextlib.contextmanager
def _started(program: Path, call: str, timeout: int) -> Iterator[subprocess.Popen[bytes]]:
    argv: list[str | Path] = [program, call, str(timeout // 1_000_000)]
    # What it looks at of its own descriptors shall be nobody else's: standard error may be a file.
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _readable(process: subprocess.Popen[bytes], until: int) -> bool:
    """Wait for output until that moment."""
    assert process.stdout is not None
    seconds = max(0, until - time.monotonic_ns()) / 1e9
    return bool(select.select([process.stdout], [], [], seconds)[0])


def _line(process: subprocess.Popen[bytes]) -> list[str]:
    deadline = time.monotonic_ns() + int(DEADLINE * 1e9)
    assert process.stdout is not None
    assert _readable(process, deadline), f"{process.args!r} said nothing for {DEADLINE:.0f} s"
    words = process.stdout.readline().decode().split()
    if words and words[0] == "unsupported":
        raise Unsupported(f"{' '.join(words[2:])}: {os.strerror(int(words[1]))}")
    return words


def _in_call(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process sleeps in its call, or has ended it."""
    deadline = time.monotonic_ns() + int(DEADLINE * 1e9)
    stat = Path(f"/proc/{process.pid}/stat")
    while time.monotonic_ns() < deadline:
        if stat.read_text().rpartition(") ")[2].startswith("S"):
            return
        if _readable(process, time.monotonic_ns() + 1_000_000):
            return
    raise AssertionError(f"{process.args!r} did not come to its call within {DEADLINE:.0f} s")


def run(
    program: Path,
    call: str,
    *,
    timeout: int | None,
    disturb: Callable[[int], object] | None,
    times: int = 1,
    after: int = 0,
) -> Outcome:
    """Let the program make a call, disturb it, wake it (without ``timeout``), tell how it ended.

    ``disturb`` gets the process id and is called each time when the call has waited for another
    ``after`` ns; without it nothing is done to the call.

    Raises Unsupported, and AssertionError if the call ended before it was disturbed.
    """
    # A socket's timeout that shall not pass is long.
    with _started(program, call, timeout or 600_000_000_000) as process:
        pid = int(_line(process)[1])
        began = disturbed = time.monotonic_ns()
        _in_call(process)
        count = 0
        for _ in range(times if disturb else 0):
            if _readable(process, disturbed + after):
                break  # it has ended: what it says is looked at below
            disturbed = time.monotonic_ns()
            assert disturb is not None
            disturb(pid)
            count += 1
            # What wakes it must find it asleep: pause(2), for one, may miss a signal otherwise.
            _in_call(process)
        if timeout is None and process.stdin is not None and not _readable(process, 0):
            process.stdin.write(b"w")
            process.stdin.flush()
        result, error, began_there, ended, ok, *changed = _line(process)
    assert not disturb or disturbed > began, f"{call} ended before it was disturbed"
    return Outcome(
        result=int(result),
        error=int(error),
        ok=ok != "wrong",
        elapsed=int(ended) - int(began_there),
        waited=max(0, disturbed - int(began_there)) if disturb else 0,
        timeout=timeout,
        disturbed=count,
        changed=" ".join(changed),
    )
