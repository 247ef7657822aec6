# SPDX-License-Identifier: BSD-3-Clause
"""Run the demonstration program as a child and talk to it."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from coresnap_cli import demo_target
from coresnap_cli.talk import CliError

# Generous: the machine may be busy; nothing waits that long unless it hangs.
_DEADLINE = 20.0


class Subject:
    """The program of demo_target.py, running; it is ended by leaving the `with` block."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", demo_target.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._buffer = b""
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        try:
            if self._line() != "ready":
                raise CliError("the demonstration program did not start")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _line(self) -> str:
        stdout = self._process.stdout
        assert stdout is not None
        until = time.monotonic() + _DEADLINE
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise CliError(
                    f"the demonstration program (process {self.pid}) gave no answer for "
                    f"{_DEADLINE:.0f} seconds",
                    hint="it may have been left stopped; please report this",
                )
            piece = stdout.read1(65536)  # type: ignore[attr-defined]
            if not piece:
                raise CliError(
                    f"the demonstration program (process {self.pid}) ended with status "
                    f"{self._process.wait()}"
                )
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode("utf-8", "replace")

    def _ask(self, line: str) -> dict[str, Any]:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(line.encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise CliError(f"the demonstration program (process {self.pid}) is gone") from None
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def counts(self) -> dict[str, int]:
        """The steps that each worker has done."""
        counts: dict[str, int] = self._ask("status")["counts"]
        return counts

    def counts_beyond(self, before: dict[str, int]) -> dict[str, int]:
        """The counters, once every one of them is above `before`: all threads run."""
        until = time.monotonic() + _DEADLINE
        while True:
            now = self.counts()
            stuck = [name for name, count in before.items() if now[name] <= count]
            if not stuck:
                return now
            if time.monotonic() > until:
                raise CliError(f"these threads went no further: {', '.join(stuck)}")

    def dump_self(self, path: Path) -> dict[str, Any]:
        """Have the program dump itself."""
        answer: dict[str, Any] = self._ask(f"dump {path}")["dump"]
        return answer

    def finish(self) -> list[str]:
        """End the program by its own self-check; the faults it found."""
        faults: list[str] = self._ask("quit")["faults"]
        status = self._process.wait(_DEADLINE)
        if status not in (0, 1) or (status == 1) != bool(faults):
            return [*faults, f"exit status {status}"]
        return faults

    def traced_or_stopped(self) -> str:
        """What /proc says against the program: "" if it runs and nobody traces it."""
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for line in (task / "status").read_text(errors="replace").splitlines():
                    key, _, value = line.partition(":\t")
                    if key == "TracerPid" and value != "0":
                        return f"thread {task.name} is traced by {value}"
                    if key == "State" and value[:1] in "tTZX":
                        return f"thread {task.name} is in state {value}"
        return ""


@contextlib.contextmanager
def subject() -> Iterator[Subject]:
    """The program, ready with its eight threads."""
    with Subject() as running:
        yield running
