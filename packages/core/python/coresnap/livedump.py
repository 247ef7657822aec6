# SPDX-License-Identifier: BSD-3-Clause
"""Cores by the kernel's own dumper of living processes, ``/proc/PID/livedump``.

Kernels have that file by the patches of packages/livedump-kmod. The kernel writes the core, where
it writes those of crashes; nothing of it is copied or removed here.
"""

import errno
import operator
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._ffi import livedump_error
from .errors import Failed, NoProcess, TargetGone, UsageError
from .pattern import UNKNOWN, CorePattern, Naming, files

# A process of its own writes: it can be killed, upon which the kernel gives the dump up.
_WRITER = """
import os, sys
try:
    os.write(1, sys.argv[1].encode())
except OSError as error:
    sys.exit(error.errno)
"""
UNLIMITED = 2**64 - 1
"""A ``core_limit`` that is none."""
_RANGES = {
    "core_limit": (0, UNLIMITED),
    "nice": (-20, 19),
    "sched_prio": (-20, 19),
    "io_prio": (0, 7),
    "oom_adj": (-17, 15),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LivedumpResult:
    """What became of a dump by the kernel.

    ``core`` is the file, by way of ``/proc/PID`` if the process has another root than the caller;
    None if there is none to be found. Then ``handler`` is the program of core_pattern that got it,
    or None if the core limit let nothing be written, or the name of the file cannot be told.
    """

    pid: int
    core: Path | None
    handler: str | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON objects."""
        core = None if self.core is None else str(self.core)
        return {"pid": self.pid, "core": core, "handler": self.handler}


def livedump(
    pid: int,
    *,
    core_limit: int | None = None,
    sched_prio: int | None = None,
    io_prio: int | None = None,
    oom_adj: int | None = None,
) -> LivedumpResult:
    """Let the kernel dump a process that goes on, and wait until it has.

    ``core_limit`` are bytes, as RLIMIT_CORE, or UNLIMITED; without it the limit of the process
    holds, which is often 0. ``sched_prio`` (a nice value), ``io_prio`` (0 to 7) and ``oom_adj``
    (-17 to 15) are the copy's. No thread of the process is woken, and no system call interrupted.

    A core of that name that is there already is an error before anything is done: the kernel would
    replace it. If this call is left by an exception, such as KeyboardInterrupt, the dump is given
    up. Errors: UsageError, NoProcess, NotPermitted, TargetGone, DeadlineExceeded, Failed. From any
    thread.
    """
    asked = {
        "core_limit": core_limit,
        "sched_prio": sched_prio,
        "io_prio": io_prio,
        "oom_adj": oom_adj,
    }
    options = {name: in_range(name, value) for name, value in asked.items() if value is not None}
    descriptor = _opened(pid)
    try:
        handler, path = _place(pid)
        before = _before(path, pid) if handler is None else []
        text = " ".join(f"{name}={value}" for name, value in options.items())
        _write(pid, descriptor, text + "\n")
    finally:
        os.close(descriptor)
    new = [file for file in files(path, pid) if file not in before] if handler is None else []
    return LivedumpResult(pid=pid, core=_seen_from_here(new[0]) if new else None, handler=handler)


def in_range(name: str, value: int | None) -> int | None:
    """The value of an option, if it may have it. Raises UsageError if not."""
    low, high = _RANGES[name]
    if value is not None and not low <= operator.index(value) <= high:
        raise UsageError(
            f"{name} is {value}, which is not from {low} to {high}", remedy="leave it out"
        )
    return value


def _opened(pid: int) -> int:
    place = Path("/proc") / str(pid)
    try:
        return os.open(place / "livedump", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if not place.exists():
            raise NoProcess(f"there is no process {pid}", pid=pid, errno=errno.ESRCH) from None
        raise Failed(
            f"process {pid} cannot be dumped by the kernel: this kernel has no {place}/livedump",
            remedy="use `coresnap dump`, or a kernel with CONFIG_LIVEDUMP",
            pid=pid,
            errno=errno.ENOENT,
        ) from None
    except OSError as error:
        raise livedump_error(pid, error.errno or 0) from None


def _place(pid: int) -> tuple[str | None, bytes]:
    """The program of core_pattern, if it is one; the path of the core, as CorePattern has it."""
    try:
        pattern = CorePattern.current()
        return pattern.handler, pattern.path(Naming.of(pid))
    except FileNotFoundError:
        raise TargetGone(f"process {pid} is gone", pid=pid, errno=errno.ESRCH) from None
    except OSError as error:
        raise livedump_error(pid, error.errno or 0) from None


def _before(path: bytes, pid: int) -> list[Path]:
    """What is there already. Raises Failed if the kernel would replace one of it."""
    there = files(path, pid)
    if there and UNKNOWN not in path:
        raise Failed(
            f"the core of process {pid} would replace {_seen_from_here(there[0])}, which exists",
            remedy="move it away",
            pid=pid,
            errno=errno.EEXIST,
        )
    return there


def _write(pid: int, descriptor: int, text: str) -> None:
    argv = [sys.executable, "-I", "-S", "-c", _WRITER, text]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=descriptor) as writer:
        try:
            status = writer.wait()
        except BaseException:
            writer.kill()
            raise
    if status != 0:
        raise livedump_error(pid, status if status > 0 else errno.ECANCELED)


def _seen_from_here(path: Path) -> Path:
    """The same file without /proc/PID, if that way leads to it for the caller too."""
    found = re.fullmatch(r"(/proc/\d+/(?:cwd|root))/(.*)", str(path), re.DOTALL)
    if found is None:
        return path
    try:
        plain = Path(os.readlink(found[1]), found[2])
        return plain if plain.samefile(path) else path
    except OSError:
        return path
