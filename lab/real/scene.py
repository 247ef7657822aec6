# SPDX-License-Identifier: BSD-3-Clause
"""Where a real program lives: a directory of its own, and processes that end with the test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lab.patience import DEADLINE

NOBODY = 65534


def need(program: str, package: str) -> Path:
    """Where a program of the system is; skips without, with what installs it."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program} here: ci/setup full installs {package}")
    return Path(found).resolve()


def run(*argv: str | Path, seconds: float = DEADLINE, **options: object) -> str:
    """Run a command to its end; its standard output. It must succeed."""
    done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]
        argv,
        **{"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, **options},
        timeout=seconds,
    )
    assert done.returncode == 0, f"{argv[0]} ended with {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


class Program:
    """A process that was started, and what it says, which is read all the time."""

    def __init__(self, argv: list[str | Path], stop: signal.Signals, **options: object) -> None:
        self.argv = argv
        self._stop = stop
        self._said = ""
        self._ended = False
        self._news = threading.Condition()
        # By its death the test takes the program with it.
        prefix = ["setpriv", "--pdeathsig", stop.name.removeprefix("SIG"), "--"]
        self.process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
            [*prefix, *argv],
            **{"stdin": subprocess.DEVNULL, "errors": "replace", "bufsize": 1, **options},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self._said += line
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def said(self) -> str:
        """All that it said so far."""
        with self._news:
            return self._said

    def wait_for(self, sign: str, *, times: int = 1) -> str:
        """Wait until it has said a text so many times; the first line of it."""

        def is_said() -> bool:
            return self._said.count(sign) >= times

        with self._news:
            self._news.wait_for(lambda: is_said() or self._ended, DEADLINE)
            assert is_said(), (
                f"waited for {sign!r} of {self.argv[0]}; it said: {self._said[-2000:]!r}"
            )
            return next(line for line in self._said.splitlines() if sign in line)

    def end(self) -> int:
        """Ask it to end, and see that it does; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(self._stop)
        try:
            return self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.process.wait(DEADLINE)
            self._reader.join(DEADLINE)
            if self.process.stdout is not None and not self._reader.is_alive():
                self.process.stdout.close()


class Scene:
    """A directory, and the programs that were started for one test."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack

    @property
    def core(self) -> Path:
        """Where cores are written."""
        return self.directory / "core"

    def start(
        self,
        *argv: str | Path,
        stop: signal.Signals = signal.SIGTERM,
        **options: object,
    ) -> Program:
        """Start a program, which ``stop`` ends; ``options`` are those of Popen."""
        program = Program(list(argv), stop, **{"cwd": self.directory, **options})
        self._stack.callback(program.end)
        return program


@contextmanager
def scene(*, user: int | None = None) -> Iterator[Scene]:
    """A directory that servers of other users may enter, and which ``user`` owns."""
    directory = Path(tempfile.mkdtemp(prefix="coresnap-real-"))
    try:
        directory.chmod(0o755)
        if user is not None:
            os.chown(directory, user, user)
        with ExitStack() as stack:
            yield Scene(directory, stack)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
