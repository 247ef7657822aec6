# SPDX-License-Identifier: BSD-3-Clause
"""How long a dump is likely to stop a process, by what can be seen of it from outside.

The rates are those of docs/pausing.md and docs/benchmarks.md, a quiet machine's and a busy one's:
an estimate is a range, and says by what. It is no promise: what else runs counts as much.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from .result import Method

_MIB = 1 << 20
HUNG_MS = (50.0, 80.0)
"""How long a dump waits for threads that sleep uninterruptibly, unless told otherwise."""
_FUSE_WAIT = "request_wait_answer"  # looks as if it could be interrupted, but cannot
# Milliseconds, least and most.
_FIXED = {Method.PRECOPY: (0.5, 3.0), Method.FORK: (0.5, 2.0), Method.STOP: (0.2, 2.0)}
_PER_THREAD = (0.02, 0.07)
_PER_MIB_OF_TABLES = (7.5, 30.0)  # that is 15 to 60 for a GiB in pages of 4 KiB
_PER_MIB_OF_TABLES_SCANNED = (0.25, 1.0)
_PER_MIB_COPIED = (0.15, 0.6)
_PER_MIB_WRITTEN = (0.5, 10.0)  # to an output of 2 GiB/s or 100 MiB/s


@dataclass(frozen=True, kw_only=True)
class Pause:
    """An estimate, in milliseconds, and what it was made of."""

    least_ms: float
    most_ms: float
    basis: str


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a pause depends on. Sizes in bytes."""

    threads: int
    stuck: int
    """Threads that sleep uninterruptibly, and would not stop."""
    page_tables: int
    private: int
    shared: int
    """Memory that a fork does not carry over as it is, so that both methods copy it."""
    budget: int
    """What the method stop takes in memory; beyond, it writes while the process stands still."""


def look(pid: int) -> Load | None:
    """What /proc tells of a process; None if it tells nothing."""
    tasks = [task.name for task in _tasks(pid)]
    # A main thread that has exited tells nothing of memory; the others do.
    sizes = next(filter(None, (_sizes(pid, tid) for tid in tasks)), None)
    if sizes is None:
        return None
    available = re.search(r"^MemAvailable:\s+(\d+) kB$", _read("/proc/meminfo"), re.M)
    return Load(
        threads=len(tasks),
        stuck=sum(_is_stuck(pid, tid) for tid in tasks),
        page_tables=sizes["VmPTE"],
        private=sizes.get("RssAnon", 0) + sizes.get("VmSwap", 0),
        shared=sizes.get("RssShmem", 0) + sizes.get("HugetlbPages", 0),
        budget=(int(available[1]) << 10) // 8 if available else 64 * _MIB,
    )


def estimate(load: Load, method: Method) -> Pause:
    """How long this method would stop a process of that load; PRECOPY, FORK or STOP."""
    parts: list[tuple[tuple[float, float], float, str]] = [
        (_FIXED[method], 1, ""),
        (_PER_THREAD, load.threads, f"{load.threads} thread{'s' * (load.threads != 1)}"),
    ]
    copied = load.private + load.shared if method is Method.STOP else load.shared
    if method is not Method.STOP:
        tables = load.page_tables / _MIB
        fork = method is Method.FORK
        rate = _PER_MIB_OF_TABLES if fork else _PER_MIB_OF_TABLES_SCANNED
        parts.append((rate, tables, f"{tables:.1f} MiB of page tables"))
        if load.shared:
            parts.append((_PER_MIB_COPIED, copied / _MIB, f"{_mib(copied)} of shared memory"))
    else:
        staged = min(copied, load.budget)
        parts.append((_PER_MIB_COPIED, staged / _MIB, f"{_mib(staged)} to copy"))
        if copied > staged:
            rest = copied - staged
            parts.append((_PER_MIB_WRITTEN, rest / _MIB, f"{_mib(rest)} to write out"))
    if load.stuck:
        parts.append((HUNG_MS, 1, f"waiting for {load.stuck} that will not stop"))
    return Pause(
        least_ms=round(sum(rate[0] * amount for rate, amount, _ in parts), 1),
        most_ms=round(sum(rate[1] * amount for rate, amount, _ in parts), 1),
        basis=", ".join(what for _, _, what in parts if what),
    )


def _sizes(pid: int, tid: str) -> dict[str, int] | None:
    text = _read(f"/proc/{pid}/task/{tid}/status")
    sizes = {name: int(size) << 10 for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)}
    return sizes if "VmPTE" in sizes else None


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f} MiB" if size < 100 * _MIB else f"{size // _MIB} MiB"


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _is_stuck(pid: int, tid: str) -> bool:
    stat = _read(f"/proc/{pid}/task/{tid}/stat").rpartition(") ")[2]
    return stat[:1] == "D" or (
        stat[:1] == "S" and _read(f"/proc/{pid}/task/{tid}/wchan") == _FUSE_WAIT
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="surrogateescape")
    except OSError:
        return ""
