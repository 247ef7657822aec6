# SPDX-License-Identifier: BSD-3-Clause
"""What a dump is told and what it tells, as values."""

import enum
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

SCHEMA = 1
"""Version of the layout of DumpResult.as_dict(); grows when a key changes its meaning."""


class Method(enum.StrEnum):
    """How the memory image is kept still while it is read."""

    AUTO = "auto"
    """The best that target, kernel and permissions allow; never in a result."""
    STOP = "stop"
    """Nothing is injected; the target is stopped while bytes are staged in memory or written."""
    FORK = "fork"
    """The target is stopped for the time of a fork; the bytes come from the copy."""
    PRECOPY = "precopy"
    """Memory is copied while the target runs; it is stopped for what was written at the last."""
    LIVEDUMP = "livedump"
    """The kernel dumps a copy, and coresnap-catch hands the core over. No thread is woken."""


class SkipReason(enum.StrEnum):
    """Why a byte range (or a thread) is not in the core."""

    FILTER = "filter"
    """coredump_filter leaves this kind of mapping out."""
    DONTDUMP = "dontdump"
    """MADV_DONTDUMP."""
    IO = "io"
    """Device memory."""
    UNREADABLE = "unreadable"
    """The kernel refused the read (EFAULT, EIO)."""
    THREAD = "thread"
    """A thread that did not stop in time: its registers are missing."""
    UNMAPPED = "unmapped"
    """Shared memory that the target has not mapped in; reading it would make it."""
    TAGS = "tags"
    """The bytes are there, their allocation tags are not (AArch64's MTE)."""
    LIMIT = "limit"
    """Behind ``max_size`` or ``core_limit``."""


class Phase(enum.StrEnum):
    """What a dump spends its time with, in this order; each ends where the next one begins."""

    AHEAD = "ahead"
    """By method precopy: tracking writes, and copying memory while the target runs."""
    SEIZE = "seize"
    """Attaching to the threads, and what is read and made ready before they are asked to stop."""
    STOP = "stop"
    """Until every thread has stopped, or is not waited for any more."""
    REGISTERS = "registers"
    """Until those of all threads are read, and calls that were interrupted are mended."""
    SCAN = "scan"
    """Finding out which mappings and which of their pages there are."""
    COPY = "copy"
    """Making the copy, and copying what it does not carry over; by method stop, copying memory."""
    SPILL = "spill"
    """By method stop: writing what exceeds ``stage_budget``."""
    THAW = "thaw"
    """From the first thread that is let go to the last one."""
    WRITE = "write"
    """Until the core is complete; by method fork also the scan of the copy."""

    @property
    def stopped(self) -> bool:
        """Does the target stand still meanwhile?"""
        return self not in (Phase.AHEAD, Phase.SEIZE, Phase.WRITE)


class Keep(enum.StrEnum):
    """What of a core is kept when it is larger than ``max_size``."""

    FIRST = "first"
    """Its beginning: the file is cut at that size."""
    SMALL_FIRST = "small-first"
    """The smaller segments: the largest ones are shortened or have no bytes."""


class Compression(enum.StrEnum):
    """How a core is compressed while it is written: as files of zstd -d, lz4 -d or gzip -d."""

    NONE = "none"
    ZSTD = "zstd"
    """Levels -7 to 19, usually 3."""
    LZ4 = "lz4"
    """Level 1, and -1 to -65537, which are faster."""
    GZIP = "gzip"
    """Levels 1 to 9, usually 6."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a dump stands."""

    done: int
    """Bytes of the core passed so far, holes included."""
    total: int
    """Size of the core in bytes; 0 until it is known."""
    stopped: bool
    """Is the target stopped at this moment?"""


@dataclass(frozen=True, kw_only=True)
class Skip:
    """One thing left out: target addresses from start to end, both 0 for a thread."""

    start: int
    end: int
    reason: SkipReason
    tid: int | None
    """Thread id, for SkipReason.THREAD only."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a better method was not taken, and what would change that (may be empty)."""

    method: Method
    reason: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class DumpResult:
    """What a dump did. Sizes are in bytes, times in nanoseconds."""

    method: Method
    """The method that was taken."""
    pause_ns: int
    """From the first request to stop until the last thread ran again; 0 for method livedump, whose
    pause only the kernel knows."""
    phase_ns: Mapping[Phase, int]
    """What was spent with each phase; 0 for one that did not occur, as all by method livedump.
    Those in which the target stands still, and the time of ``on_stopped``, make pause_ns."""
    threads: int
    """Threads in the core."""
    missed: int
    """Threads that did not stop in time and have no registers in the core."""
    segments: int
    """PT_LOAD headers: one per mapping."""
    core_size: int
    """Apparent size of the core, holes included."""
    whole_size: int
    """What core_size would be without ``max_size`` and ``core_limit``."""
    bytes_read: int
    """Bytes read from the target's memory; for method livedump, of the kernel's core."""
    pause_bytes: int
    """Of bytes_read, what was read while the target stood still; 0 for method livedump."""
    bytes_written: int
    """Bytes given to the output, holes excluded where it has them."""
    bytes_skipped: Mapping[SkipReason, int]
    """Bytes left out, by reason; has every reason but THREAD."""
    skipped: tuple[Skip, ...] = field(repr=False)
    """What was left out: the first 4096 of n_skips."""
    n_skips: int
    """How many ranges and threads were left out."""
    why_not: tuple[Refusal, ...]
    """Why better methods were not taken; empty when the best one was."""
    path: Path | None = None
    """The core's file, when one was asked for by name."""
    memory: BinaryIO | None = field(default=None, repr=False, compare=False)
    """With ``to=None``: the core as a file object over a sealed memfd, at its start. Close it."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: addresses are hexadecimal strings, a path may hold surrogates.

        The key ``schema`` tells the version of this layout.
        """
        return {
            "schema": SCHEMA,
            "method": self.method.value,
            "pause_ns": self.pause_ns,
            "phase_ns": {phase.value: ns for phase, ns in self.phase_ns.items()},
            "threads": self.threads,
            "missed": self.missed,
            "segments": self.segments,
            "core_size": self.core_size,
            "whole_size": self.whole_size,
            "bytes_read": self.bytes_read,
            "pause_bytes": self.pause_bytes,
            "bytes_written": self.bytes_written,
            "bytes_skipped": {reason.value: n for reason, n in self.bytes_skipped.items()},
            "skipped": [
                {
                    "start": hex(skip.start),
                    "end": hex(skip.end),
                    "reason": skip.reason.value,
                    "tid": skip.tid,
                }
                for skip in self.skipped
            ],
            "n_skips": self.n_skips,
            "why_not": [
                {
                    "method": refusal.method.value,
                    "reason": refusal.reason,
                    "remedy": refusal.remedy,
                }
                for refusal in self.why_not
            ],
            "path": None if self.path is None else os.fspath(self.path),
        }

    def to_json(self) -> str:
        """as_dict() as one line of ASCII."""
        return json.dumps(self.as_dict())
