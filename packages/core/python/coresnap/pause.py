# SPDX-License-Identifier: BSD-3-Clause
"""How large the core of a process would be, and how long it would stand still for it, as values.

An estimate is no promise: what else runs counts as much.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .result import Method

_MIB = 1 << 20


class Region(enum.StrEnum):
    """Kinds of memory of a process."""

    HEAP = "heap"
    """Of brk(2)."""
    STACK = "stack"
    """Of the main thread, and of threads that sleep in a call."""
    ANONYMOUS = "anonymous"
    """Other private memory without a file."""
    SHARED = "shared"
    """Shared memory: memfd, tmpfs, System V, MAP_SHARED."""
    FILE = "file"
    """Mapped files."""
    HUGETLB = "hugetlb"
    """Huge pages that were set aside (hugetlbfs)."""
    SPECIAL = "special"
    """Of the kernel ([vdso]) and of devices."""


@dataclass(frozen=True, kw_only=True)
class RegionSize:
    """All memory of a kind. Sizes in bytes."""

    mappings: int
    """How many."""
    mapped: int
    """Of address space."""
    resident: int
    """Of that in memory."""
    kept: int
    """That a core would have of it, holes not counted."""


@dataclass(frozen=True, kw_only=True)
class Pause:
    """How long a method is likely to stop a process, in nanoseconds."""

    expected_ns: int
    least_ns: int
    most_ns: int
    copied: int
    """Bytes that are copied while the process stands still."""
    spilled: int
    """Bytes that are written meanwhile: what exceeds the stage budget."""
    basis: str
    """What the estimate was made of."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What estimate() finds. Sizes in bytes."""

    pid: int
    method: Method
    """The one that auto would take of precopy, fork and stop, if all of them work."""
    threads: int
    stuck: int
    """Threads that sleep uninterruptibly, and are waited for in vain."""
    kept: int
    """That a core would have, holes, headers and notes not counted."""
    unforkable: int
    """Of these: what a fork does not carry over as it is, so that it copies it, too."""
    huge: int
    """Of kept: in huge pages, which are copied and forked faster."""
    forked: int
    """In small pages that a fork has to go through."""
    budget: int
    """Of memory that stop would take; what exceeds it is written while the process stands still."""
    copy_ns: int
    """What copying a MiB of it takes, measured now; 0 if that is not known."""
    beside_path: int
    """Besides the core, for the time of a dump by precopy, in the directory of a core that goes to
    a path; 0 if it copies into memory, or to where the core will have it."""
    beside_fd: int
    """The same in ``/var/tmp``, for a core that goes to a descriptor."""
    regions: Mapping[Region, RegionSize]
    pauses: Mapping[Method, Pause]

    def as_dict(self) -> dict[str, Any]:
        """As JSON objects."""
        plain = {
            name: value for name, value in vars(self).items() if name not in ("regions", "pauses")
        }
        return plain | {
            "method": self.method.value,
            "regions": {region.value: dict(vars(size)) for region, size in self.regions.items()},
            "pauses": {method.value: dict(vars(pause)) for method, pause in self.pauses.items()},
        }


def basis(
    method: Method, *, threads: int, stuck: int, forked: int, copied: int, spilled: int
) -> str:
    """What an estimate was made of, for people."""
    parts = [f"{threads} thread{'s' * (threads != 1)}"]
    if method is not Method.STOP:
        parts.append(f"{_mib(forked)} in pages to {'fork' if method is Method.FORK else 'look at'}")
        if copied:
            parts.append(f"{_mib(copied)} to copy")
        if method is Method.PRECOPY:
            # How fast it does is known when its writes are tracked, which nothing but a dump does.
            parts.append("more if it writes fast")
    else:
        parts.append(f"{_mib(copied)} to copy")
        if spilled:
            parts.append(f"{_mib(spilled)} to write out")
    if stuck:
        parts.append(f"waiting for {stuck} that will not stop")
    return ", ".join(parts)


def _mib(size: int) -> str:
    if size < _MIB:
        return f"{size >> 10} KiB"
    return f"{size / _MIB:.1f} MiB" if size < 100 * _MIB else f"{size // _MIB} MiB"
