# SPDX-License-Identifier: BSD-3-Clause
"""The processes of these tests: targets, and the command itself."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
# Only for what hangs; nothing waits that long on a working system.
DEADLINE = 60.0
NOBODY = 65534


class Program:
    """A program of programs/, started; it says `ready` before the tests go on."""

    def __init__(self, name: str, *arguments: str | bytes) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / f"{name}.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self.process.pid

    def line(self) -> str:
        """The next line that it prints."""
        stdout = self.process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], DEADLINE)
        assert ready, f"process {self.pid} printed nothing in {DEADLINE:.0f} s"
        text = stdout.readline()
        assert text, f"process {self.pid} ended with {self.process.wait(DEADLINE)}"
        return text.decode().rstrip("\n")

    def status(self, key: str) -> str:
        """A field of /proc/PID/status."""
        for row in Path(f"/proc/{self.pid}/status").read_bytes().splitlines():
            if row.startswith(key.encode() + b":"):
                return row.partition(b"\t")[2].decode("utf-8", "replace")
        raise AssertionError(f"no {key} in /proc/{self.pid}/status")

    def untouched(self, tracer: int = 0) -> None:
        """It runs, answers, and nobody but `tracer` traces it."""
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(b"ping\n")
        stdin.flush()
        assert self.line().startswith("pong")
        assert self.status("TracerPid") == str(tracer)
        assert self.status("State")[0] in "SR"

    def end(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextlib.contextmanager
def started(name: str, *arguments: str | bytes) -> Iterator[Program]:
    """The program, ready; it is killed at the end."""
    program = Program(name, *arguments)
    try:
        assert program.line() == "ready"
        yield program
    finally:
        program.end()


@dataclass(frozen=True)
class Done:
    """How a run of the command ended."""

    code: int
    out: bytes
    err: str

    def one_paragraph(self, *words: str) -> None:
        """Its talk is one paragraph that has these words, and no traceback."""
        assert self.err.startswith("coresnap: "), self.err
        assert "Traceback" not in self.err, self.err
        assert "\n\n" not in self.err.rstrip("\n"), self.err
        lines = self.err.rstrip("\n").split("\n")
        assert len(lines) <= 2, self.err
        assert all(line.startswith("  ") for line in lines[1:]), self.err
        for word in words:
            assert word in self.err, self.err


@dataclass
class Command:
    """The command, run in a directory of the test's own."""

    cwd: Path
    environment: dict[str, str] = field(default_factory=dict)

    def argv(self, *arguments: object, uid: int | None = None) -> list[str | bytes]:
        """The argument vector, as another user if asked."""
        if uid is None:
            start = [sys.executable, "-m", "coresnap_cli.main"]
        else:
            start = [sys.executable, str(PROGRAMS / "as_user.py"), str(uid)]
        return [*start, *(a if isinstance(a, bytes) else str(a) for a in arguments)]

    def env(self) -> dict[str, str]:
        return {**os.environ, "NO_COLOR": "1", "LC_ALL": "C.UTF-8", **self.environment}

    def __call__(self, *arguments: object, uid: int | None = None) -> Done:
        done = subprocess.run(
            self.argv(*arguments, uid=uid), cwd=self.cwd, env=self.env(),
            stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        """Start it with pipes for stdout and stderr."""
        return subprocess.Popen(
            self.argv(*arguments), cwd=self.cwd, env=self.env(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def wrapped(self, prefix: list[str], *arguments: object) -> Done:
        """The command run by another one (unshare, sh -c …)."""
        done = subprocess.run(
            [*prefix, *self.argv(*arguments)], cwd=self.cwd, env=self.env(),
            stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))

    def files(self) -> list[str]:
        """What lies in its directory."""
        return sorted(os.listdir(self.cwd))
