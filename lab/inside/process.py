# SPDX-License-Identifier: BSD-3-Clause
"""A scenario that runs: started, asked, observed, killed. Every wait has a deadline."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

DEADLINE = 60.0  # seconds for any single step; a loaded machine is slow, not wrong

_libc = ctypes.CDLL(None, use_errno=True)


class ScenarioFailed(AssertionError):
    """The scenario did not do what was asked; the text holds its last words."""


class Impossible(Exception):
    """The scenario's state does not exist on this system; the text says why."""


def _read(path: str) -> str:
    """A file of /proc. Python is slow in guests, and there are thousands of these."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(fd, 1 << 16):
            pieces.append(piece)
    finally:
        os.close(fd)
    return b"".join(pieces).decode("latin-1")


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class Observation:
    """What a dump must leave as it was: threads, signals, children, descriptors, mappings."""

    states: tuple[tuple[int, str], ...]
    signals: tuple[tuple[int, tuple[str, ...]], ...]
    children: tuple[int, ...]
    tracers: tuple[int, ...]
    descriptors: tuple[tuple[int, str], ...]
    cwd: str
    maps: str
    rss_kib: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Observation:
        """One that came by way of JSON, which knows lists and no tuples."""
        return cls(**{name: _frozen(value) for name, value in data.items()})

    def differences(self, other: Observation, *, growth_kib: int = 256) -> list[str]:
        """In words, what changed from this to the other; some growth of memory is no change."""
        changed = [
            f"{name}: {mine!r} became {theirs!r}"
            for name in ("states", "signals", "children", "tracers", "descriptors", "cwd", "maps")
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        ]
        if other.rss_kib > self.rss_kib + growth_kib:
            changed.append(f"resident memory grew from {self.rss_kib} to {other.rss_kib} KiB")
        return changed


def wait_until(condition: Callable[[], bool], what: str, *, deadline: float = DEADLINE) -> None:
    """Ask until it is so; for what the kernel announces by no event. Raises ScenarioFailed."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise ScenarioFailed(f"after {deadline:.0f} s still waiting: {what}")
        os.sched_yield()


class Process(AbstractContextManager["Process"]):
    """One running scenario. On exit the process is killed if it still lives."""

    def __init__(
        self,
        program: Path,
        args: Iterable[bytes],
        directory: Path,
        *,
        user: int | None = None,
        rseq: bool = False,
    ) -> None:
        self.directory = directory
        self._errors = directory / "stderr"
        # The kernel writes the number of the CPU into every thread's rseq area (in TLS) when the
        # thread moves, so memory would differ between any two dumps: off while cores are compared.
        env = {} if rseq else {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
        # Inherited by the scenario; unlimited is what why_no_core() asks of the hard limit.
        resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
        with self._errors.open("wb") as errors:
            self._popen = subprocess.Popen(
                [os.fsencode(program), *args],
                cwd=directory,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                umask=0o077,
            )
        self.pid = self._popen.pid
        self._unread = b""
        self.facts: dict[str, Any] = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()

    # -- talk -------------------------------------------------------------------------------------

    def _line(self, what: str) -> bytes:
        assert self._popen.stdout is not None
        end = time.monotonic() + DEADLINE
        with selectors.DefaultSelector() as selector:
            selector.register(self._popen.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise self._failed(f"{what}: no answer in {DEADLINE:.0f} s")
                piece = os.read(self._popen.stdout.fileno(), 1 << 16)
                if not piece:
                    raise self._failed(f"{what}: it ended")
                self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _failed(self, what: str) -> ScenarioFailed:
        words = self._errors.read_bytes().decode(errors="backslashreplace")
        return ScenarioFailed(f"{what}; status {self._popen.poll()}; it said: {words.strip()!r}")

    def wait_ready(self) -> dict[str, Any]:
        """The truths that the scenario printed. Raises Impossible or ScenarioFailed."""
        facts = json.loads(self._line("ready"))
        if "impossible" in facts:
            raise Impossible(str(facts["impossible"]))
        self.facts = dict(facts)
        return self.facts

    def ask(self, command: str) -> str:
        """Send a command ("verify", "finish") and return the answer: "ok" or "fail …"."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{command}\n".encode())
        return self._line(command).decode(errors="backslashreplace")

    # -- look -------------------------------------------------------------------------------------

    @property
    def proc(self) -> str:
        """The process's directory in /proc, or a thread's if its main thread has exited."""
        return f"/proc/{self.first}"

    @property
    def first(self) -> int:
        """The main thread, or another if that has exited."""
        tids = self.tids()
        # Numbers start anew some time: it need not have the lowest.
        return self.pid if self.pid in tids else tids[0]

    def tids(self) -> list[int]:
        """All threads that live now, ascending."""
        found = sorted(int(name) for name in os.listdir(f"/proc/{self.pid}/task"))
        if self._state(self.pid) == "Z":
            found.remove(self.pid)
        return found

    def _state(self, tid: int) -> str:
        return _read(f"/proc/{self.pid}/task/{tid}/stat").rpartition(") ")[2][0]

    def _is_settled(self, tid: int, state: str) -> bool:
        if tid in self.facts["spins"] and state != "T":
            return True
        if self._state(tid) != state:
            return False
        return not _read(f"/proc/{self.pid}/task/{tid}/syscall").startswith("running")

    def settle(self, *, stopped: bool = False) -> None:
        """Wait until each thread waits in the kernel again (or is stopped), those that spin aside.

        A thread that was stopped goes on by itself some time after the stop.
        """
        state = "T" if stopped else "S"
        for tid in self.tids():
            wait_until(
                lambda tid=tid: self._is_settled(tid, state),  # type: ignore[misc]
                f"thread {tid} to be in state {state}",
            )

    def observe(self) -> Observation:
        """What a dump must not change, as seen from outside."""
        states = []
        signals = []
        children = []
        tracers = []
        names = ("SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:", "Seccomp:")
        for tid in self.tids():
            task = f"/proc/{self.pid}/task/{tid}"
            status = _read(f"{task}/status").split("\n")
            state = self._state(tid)
            states.append((tid, "spins" if tid in self.facts["spins"] else state))
            signals.append((tid, tuple(line for line in status if line.startswith(names))))
            tracers += [int(line.split()[1]) for line in status if line.startswith("TracerPid:")]
            children += [int(pid) for pid in _read(f"{task}/children").split()]
        proc = self.proc
        descriptors = []
        for name in os.listdir(f"{proc}/fd"):
            descriptors.append((int(name), os.readlink(f"{proc}/fd/{name}")))
        rollup = _read(f"{proc}/smaps_rollup").split("\n")
        rss = next(int(line.split()[1]) for line in rollup if line.startswith("Rss:"))
        return Observation(
            states=tuple(states),
            signals=tuple(signals),
            children=tuple(children),
            tracers=tuple(sorted(set(tracers))),
            descriptors=tuple(sorted(descriptors)),
            cwd=os.readlink(f"{proc}/cwd"),
            maps=hashlib.sha256(_read(f"{proc}/maps").encode("latin-1")).hexdigest(),
            rss_kib=rss,
        )

    # -- act --------------------------------------------------------------------------------------

    def stop(self) -> None:
        """SIGSTOP; returns when every thread has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        self.settle(stopped=True)

    def resume(self) -> None:
        """SIGCONT; returns when every thread waits or spins again."""
        os.kill(self.pid, signal.SIGCONT)
        self.settle()

    def abort(self, *, stopped: bool = False) -> int:
        """Let the kernel write its core: SIGABRT to the first thread. Returns the wait status.

        A process that is stopped takes no signal before SIGCONT, which comes after.
        """
        if _libc.tgkill(self.pid, self.first, int(signal.SIGABRT)) != 0:
            raise OSError(ctypes.get_errno(), "tgkill")
        if stopped:
            os.kill(self.pid, signal.SIGCONT)
        try:
            return self._popen.wait(DEADLINE)
        except subprocess.TimeoutExpired as error:
            raise self._failed(f"the kernel's core: not written in {DEADLINE:.0f} s") from error

    def exit_status(self) -> int:
        """Close the scenario's input and return how it ended."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        try:
            return self._popen.wait(DEADLINE)
        except subprocess.TimeoutExpired as error:
            raise self._failed("it did not end with its input") from error
