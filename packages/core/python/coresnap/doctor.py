# SPDX-License-Identifier: BSD-3-Clause
"""What this system lets coresnap do, and what it would do with a process; nothing is touched."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._ffi import Options, check_method
from ._ffi import estimate as find_estimate
from .errors import CoresnapError, NoProcess
from .pattern import CorePattern
from .pause import Estimate, Pause
from .result import Method

_PIPE_LIMIT = Path("/proc/sys/kernel/core_pipe_limit")
_FILTER = {
    Method.FORK: "its seccomp filter is asked when it stands still: if that forbids a call that a "
    "copy needs, there is none, and auto takes stop",
    Method.PRECOPY: "its seccomp filter is asked when a thread of it stands still: if that forbids "
    "to make a userfaultfd, its writes may not be tracked, and auto takes fork or stop",
}
_LADDER = (Method.LIVEDUMP, Method.PRECOPY, Method.FORK, Method.STOP)


@dataclass(frozen=True, kw_only=True)
class MethodCheck:
    """Whether dumps by a method would begin; ``error`` is what they would raise, or None."""

    method: Method
    error: CoresnapError | None
    doubt: str = ""
    """What may still refuse it, as only the dump can find out; a sentence, or empty."""
    pause: Pause | None = None
    """How long the process is likely to stand still; None if that is not known."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON objects."""
        return {
            "method": self.method.value,
            "works": self.error is None,
            "why_not": self.error.what if self.error else "",
            "remedy": self.error.remedy if self.error else "",
            "doubt": self.doubt,
            "pause_ms": self._milliseconds(),
            "pause_expected_ms": round(self.pause.expected_ns / 1e6, 1) if self.pause else None,
            "pause_basis": self.pause.basis if self.pause else "",
            "exit_code": int(self.error.exit_code) if self.error else 0,
        }

    def _milliseconds(self) -> list[float] | None:
        if self.pause is None:
            return None
        return [round(ns / 1e6, 1) for ns in (self.pause.least_ns, self.pause.most_ns)]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What doctor() found."""

    pid: int | None
    livedump: bool
    """Has this kernel /proc/PID/livedump?"""
    core_pattern: str | None
    """Where the kernel puts cores; None if it writes none."""
    catch: bool
    """Is that coresnap-catch?"""
    handler: str | None
    """The program that gets the cores of crashes; None if a file does, or nobody."""
    core_pipe_limit: int | None
    methods: tuple[MethodCheck, ...]
    """Each method, the best first; without a process livedump alone."""
    auto: tuple[Method, ...]
    """What the method auto would try, in this order; no fork where a stop is as short, and
    precopy for large processes only."""
    notes: tuple[str, ...]
    """What else is worth knowing, a sentence each."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON objects."""
        return {
            "pid": self.pid,
            "livedump": self.livedump,
            "core_pattern": self.core_pattern,
            "catch": self.catch,
            "handler": self.handler,
            "core_pipe_limit": self.core_pipe_limit,
            "methods": [method.as_dict() for method in self.methods],
            "auto": [method.value for method in self.auto],
            "notes": list(self.notes),
        }


def doctor(pid: int | None = None) -> Diagnosis:
    """Find out what dumps this system allows; with ``pid``, of that process.

    The process is looked at as anybody may, and asked nothing. What shows only when it stands still
    is a doubt, such as whether its seccomp filter allows a fork. Errors: NoProcess. From any
    thread.
    """
    here = os.getpid() if pid is None else pid
    kinds = (Method.LIVEDUMP,) if pid is None else _LADDER
    load = None if pid is None else _estimate(pid)
    methods = tuple(_check(here, kind, load) for kind in kinds)
    for method in methods:
        if isinstance(method.error, NoProcess):
            raise method.error
    works = [method.method for method in methods if method.error is None]
    pattern = _pattern()
    return Diagnosis(
        pid=pid,
        livedump=Path(f"/proc/{here}/livedump").exists(),
        core_pattern=None if pattern is None else os.fsdecode(pattern.text),
        catch=pattern is not None and pattern.is_catch,
        handler=None if pattern is None else pattern.crash_handler,
        core_pipe_limit=_number(_PIPE_LIMIT),
        methods=methods,
        auto=_order(works, load)
        if pid is not None
        else (*works, *_of_kernel(here), Method.FORK, Method.STOP),
        notes=(*_of_system(pattern), *(() if pid is None else _of_process(pid, load))),
    )


def _of_kernel(here: int) -> list[Method]:
    return [] if check_method(here, Method.PRECOPY) else [Method.PRECOPY]


def _check(pid: int, kind: Method, load: Estimate | None) -> MethodCheck:
    error = check_method(pid, kind)
    if error is not None:
        return MethodCheck(method=kind, error=error)
    return MethodCheck(
        method=kind,
        error=None,
        doubt=_FILTER.get(kind, "") if pid != os.getpid() and _has_filter(pid) else "",
        pause=None if load is None else load.pauses.get(kind),
    )


def _estimate(pid: int) -> Estimate | None:
    """None if it may not be known."""
    try:
        return find_estimate(pid, Options())
    except CoresnapError:
        return None


def _order(works: list[Method], load: Estimate | None) -> tuple[Method, ...]:
    if load is None:
        return tuple(works)
    without = {Method.PRECOPY} if load.method is not Method.PRECOPY else set()
    if load.method is Method.STOP and Method.STOP in works:
        without |= {Method.FORK}
    return tuple(method for method in works if method not in without)


def _pattern() -> CorePattern | None:
    try:
        return CorePattern.current()
    except OSError:
        return None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _of_system(pattern: CorePattern | None) -> list[str]:
    if pattern is not None and pattern.is_catch and pattern.crash_handler is None:
        return ["coresnap-catch has no HANDLER, so cores of crashes are lost"]
    return []


def _has_filter(pid: int) -> bool:
    return bool(re.search(r"^Seccomp:\t2$", _text(pid, "status"), re.MULTILINE))


def _of_process(pid: int, load: Estimate | None) -> list[str]:
    notes = []
    limits = _text(pid, "limits")
    found = re.search(r"^Max core file size +(\S+) +(\S+)", limits, re.MULTILINE)
    if found and found[1] == "0":
        notes.append(
            "its core limit is 0: its crashes leave no core file, nor does `coresnap livedump` "
            "without --core-limit"
        )
    if load is not None and 0 < load.stuck < load.threads:
        notes.append(
            f"{load.stuck} of its {load.threads} threads sleep uninterruptibly (state D, a file "
            "system that hangs, or vfork): dumps wait for them for a fifth of the stop "
            "timeout, and cores lack their registers"
        )
    return notes


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="surrogateescape")
    except OSError:
        return ""
