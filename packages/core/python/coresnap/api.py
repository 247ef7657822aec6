# SPDX-License-Identifier: BSD-3-Clause
"""Dump another process, this process, or either as a stream."""

import math
import operator
import os
import re
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from ._ffi import Dump, Options, Output
from ._ffi import estimate as find_estimate
from .errors import UsageError
from .livedump import in_range
from .pause import Estimate
from .result import Compression, DumpResult, Keep, Method, Progress
from .stream import DumpStream


class SupportsFileno(Protocol):
    """An open file, pipe or socket object."""

    def fileno(self) -> int: ...


Destination: TypeAlias = (
    str | bytes | os.PathLike[str] | os.PathLike[bytes] | int | SupportsFileno | None
)
"""Where a core goes: a new file's path, an open descriptor or file object, or memory (None)."""

OwnNote: TypeAlias = tuple[str | bytes, int, bytes]
"""A note of one's own: its owner, a name that the kernel does not use, its type, its content."""


def dump(
    pid: int,
    to: Destination,
    *,
    method: Method | str = Method.AUTO,
    filter: int | None = None,  # noqa: A002 (the kernel's word)
    strict_timeouts: bool = False,
    force: bool = False,
    undumpable: bool = False,
    stage_budget: int | None = None,
    stop_timeout: float | None = None,
    max_pause: float | None = None,
    max_size: int | None = None,
    keep: Keep | str = Keep.FIRST,
    core_limit: int | None = None,
    min_free: int | str | None = None,
    notes: Sequence[OwnNote] = (),
    compression: Compression | str = Compression.NONE,
    level: int | None = None,
    nice: int | None = None,
    io_prio: int | None = None,
    oom_adj: int | None = None,
    on_stopped: Callable[[], bool | None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> DumpResult:
    """Write an ELF core of process ``pid``, which runs on; for this process see dump_self().

    ``to`` is the path of a new file (written under a temporary name, mode 0600, renamed when it is
    complete), an open descriptor or an object with ``fileno()`` (a file, pipe or socket; written
    forward from where it stands, not closed; a buffered file is flushed first), or None for memory
    (``DumpResult.memory``).

    ``method``: how the memory is kept still; the result tells which one was taken. Method livedump
    needs a kernel and settings for it (doctor() tells), and has none of filter, undumpable,
    stop_timeout, max_pause, keep, core_limit, notes and on_stopped.
    ``filter``: bits of core(5) coredump_filter, instead of the target's own.
    ``strict_timeouts``: let interrupted calls with a finite timeout fail with EINTR (signal(7)),
    instead of starting their timeout anew.
    ``force``: replace an existing regular file.
    ``undumpable``: dump also what the kernel would refuse to dump (setuid, PR_SET_DUMPABLE 0).
    ``stage_budget``: bytes of memory that method stop may take; an eighth of what is available,
    and in any case no more than half of what this control group has left.
    ``stop_timeout``: seconds to wait for threads to stop; one second. For one that sleeps
    uninterruptibly, when others have stopped, a fifth of it.
    ``max_pause``: seconds that the target may stand still. Nothing is begun that is expected to
    take longer (estimate()), copying ends when they have passed, and the target is let go:
    PauseTooLong. A fork cannot be interrupted, and a busy machine makes any pause longer.
    ``max_size``: the core has so many bytes at most; the result's whole_size is what it would have.
    ``keep``: what of it is kept then, the file's beginning or the smaller segments.
    ``core_limit``: bytes as the kernel counts them against RLIMIT_CORE; at least a page.
    ``min_free``: bytes, or a percentage such as "10%", of the core's file system that must still be
    free when the core is there. A core that by its estimate would leave less is refused (NoSpace)
    before anything is done to the target; what is free is looked at again while it is written.
    Of a compressed one only that, since its size is not known beforehand.
    ``notes``: notes of one's own, behind the kernel's.
    ``compression``, ``level``: compress the core while it is written; Core() reads such files, too.
    The limits and sizes are those of the core before that, but for the result's bytes_written.
    ``nice``, ``io_prio``: nice value (-20 to 19) and I/O priority (0 to 7, the lowest) of what
    reads and writes, from the time on at which the target runs again; threads of this process
    keep theirs.
    ``oom_adj``: how soon the copy that method fork makes is killed when memory runs out, -17 to 15;
    15, first.
    ``on_stopped``: called once when all threads of the target stand still, in a thread of its own;
    the pause lasts until it returns. False, or what it raises, gives the dump up.
    ``on_progress``: called in this thread about every 20 ms; a short dump may never call it. What
    it raises cancels the dump and is raised by this function.

    Raises UsageError, NoProcess, NotPermitted, TargetGone, NoSpace, DeadlineExceeded, PauseTooLong,
    Failed, and Incomplete when the core exists but lacks something (the result is in the
    exception). After any other error nothing is left under the final name. TypeError for arguments
    of wrong type.

    Other Python threads run meanwhile (the GIL is released), and dumps of different processes may
    run at the same time. Called in the main thread, it runs the program's signal handlers within
    some 20 ms; what they raise (KeyboardInterrupt) cancels the dump and is raised.
    """
    options = Options(
        method=_method(method),
        filter=_filter(filter),
        strict_timeouts=strict_timeouts,
        force=force,
        undumpable=undumpable,
        stage_budget=_size("stage_budget", stage_budget),
        stop_timeout_ns=_nanoseconds("stop_timeout", stop_timeout),
        max_pause_ns=_nanoseconds("max_pause", max_pause),
        max_size=_size("max_size", max_size),
        keep=_keep(keep),
        core_limit=_size("core_limit", core_limit),
        min_free=_min_free(min_free),
        min_free_is_percentage=isinstance(min_free, str),
        notes=tuple(map(_note, notes)),
        compression=_compression(compression),
        level=_level(level),
        nice=in_range("nice", nice),
        io_prio=in_range("io_prio", io_prio),
        oom_adj=in_range("oom_adj", oom_adj),
    )
    number = _pid(pid)
    if number == os.getpid():
        _refuse_to_ask(on_stopped)
    return Dump(on_progress, on_stopped).run(number, _output(to), options)


def dump_self(
    to: Destination,
    *,
    method: Method | str = Method.AUTO,
    filter: int | None = None,  # noqa: A002 (the kernel's word)
    strict_timeouts: bool = False,
    force: bool = False,
    undumpable: bool = False,
    stage_budget: int | None = None,
    stop_timeout: float | None = None,
    max_pause: float | None = None,
    max_size: int | None = None,
    keep: Keep | str = Keep.FIRST,
    core_limit: int | None = None,
    min_free: int | str | None = None,
    notes: Sequence[OwnNote] = (),
    compression: Compression | str = Compression.NONE,
    level: int | None = None,
    nice: int | None = None,
    io_prio: int | None = None,
    oom_adj: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> DumpResult:
    """Write an ELF core of this process, all threads included; the calling thread comes first.

    Arguments and errors are those of dump(), but for on_stopped and method livedump. All other
    threads, Python's and others, are stopped for the pause; on_progress and signal handlers run
    only after it. Do not give a pipe that this same process reads: with method stop nobody would
    read it; open_stream() takes care of that. Calls from several threads wait for each other.
    """
    options = Options(
        method=_method(method),
        filter=_filter(filter),
        strict_timeouts=strict_timeouts,
        force=force,
        undumpable=undumpable,
        stage_budget=_size("stage_budget", stage_budget),
        stop_timeout_ns=_nanoseconds("stop_timeout", stop_timeout),
        max_pause_ns=_nanoseconds("max_pause", max_pause),
        max_size=_size("max_size", max_size),
        keep=_keep(keep),
        core_limit=_size("core_limit", core_limit),
        min_free=_min_free(min_free),
        min_free_is_percentage=isinstance(min_free, str),
        notes=tuple(map(_note, notes)),
        compression=_compression(compression),
        level=_level(level),
        nice=in_range("nice", nice),
        io_prio=in_range("io_prio", io_prio),
        oom_adj=in_range("oom_adj", oom_adj),
    )
    return Dump(on_progress).run(None, _output(to), options)


def open_stream(
    pid: int | None = None,
    *,
    method: Method | str = Method.AUTO,
    filter: int | None = None,  # noqa: A002 (the kernel's word)
    strict_timeouts: bool = False,
    undumpable: bool = False,
    stage_budget: int | None = None,
    stop_timeout: float | None = None,
    max_pause: float | None = None,
    max_size: int | None = None,
    keep: Keep | str = Keep.FIRST,
    core_limit: int | None = None,
    min_free: int | str | None = None,
    notes: Sequence[OwnNote] = (),
    compression: Compression | str = Compression.NONE,
    level: int | None = None,
    nice: int | None = None,
    io_prio: int | None = None,
    oom_adj: int | None = None,
    on_stopped: Callable[[], bool | None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> DumpStream:
    """Open the core of process ``pid`` (None: of this one) for reading, while it is written.

    Returns when the first byte is there; what fails before is raised here, as dump() does. Close
    the stream, best by ``with``; see DumpStream for errors and for what closing does.

    The dump runs in a thread of its own, which also calls ``on_progress``. A core of this process
    is always taken by method fork, since a stopped process could not read it: UsageError for
    methods stop and livedump. The other arguments are those of dump().
    """
    options = Options(
        method=_method(method),
        filter=_filter(filter),
        strict_timeouts=strict_timeouts,
        force=False,
        undumpable=undumpable,
        stage_budget=_size("stage_budget", stage_budget),
        stop_timeout_ns=_nanoseconds("stop_timeout", stop_timeout),
        max_pause_ns=_nanoseconds("max_pause", max_pause),
        max_size=_size("max_size", max_size),
        keep=_keep(keep),
        core_limit=_size("core_limit", core_limit),
        min_free=_min_free(min_free),
        min_free_is_percentage=isinstance(min_free, str),
        notes=tuple(map(_note, notes)),
        compression=_compression(compression),
        level=_level(level),
        nice=in_range("nice", nice),
        io_prio=in_range("io_prio", io_prio),
        oom_adj=in_range("oom_adj", oom_adj),
    )
    if pid is not None and (other := _pid(pid)) != os.getpid():
        return DumpStream(other, options, Dump(on_progress, on_stopped))
    _refuse_to_ask(on_stopped)
    return DumpStream(None, _readable_by_self(options), Dump(on_progress))


def estimate(
    pid: int,
    *,
    filter: int | None = None,  # noqa: A002 (the kernel's word)
    undumpable: bool = False,
    stage_budget: int | None = None,
    stop_timeout: float | None = None,
) -> Estimate:
    """How large would a core of process ``pid`` be, and how long would it stand still for it?

    The arguments are those of dump(). The process is not stopped; it may be held up for a moment
    when it maps memory. Whether a method would work is what doctor() tells. Raises UsageError,
    NoProcess, NotPermitted, TargetGone, Failed.
    """
    options = Options(
        filter=_filter(filter),
        undumpable=undumpable,
        stage_budget=_size("stage_budget", stage_budget),
        stop_timeout_ns=_nanoseconds("stop_timeout", stop_timeout),
    )
    return find_estimate(_pid(pid), options)


def _readable_by_self(options: Options) -> Options:
    if options.method is Method.LIVEDUMP:
        raise UsageError(
            "a process cannot have its own core by method livedump", remedy="use method fork"
        )
    if options.method is Method.STOP:
        raise UsageError(
            "a stopped process cannot read the stream of its own core",
            remedy="use method fork, or dump_self() to a file or to memory",
        )
    return Options(**{**vars(options), "method": Method.FORK})


def _refuse_to_ask(on_stopped: object) -> None:
    if on_stopped is not None:
        raise UsageError(
            "on_stopped cannot run in a process that stands still itself",
            remedy="leave it out, or dump another process",
        )


def _pid(pid: int) -> int:
    if isinstance(pid, bool):
        raise TypeError("pid is a bool; give a number")
    try:
        number = operator.index(pid)
    except TypeError:
        raise TypeError(f"pid is a {type(pid).__name__}; give a number") from None
    if not 0 < number < 2**31:
        raise UsageError(f"{number} is no process id", remedy="give a positive number")
    return number


def _output(to: Destination) -> Output:
    if to is None:
        return Output()
    if isinstance(to, bool):
        raise TypeError("to is a bool; give a path, a descriptor, a file object or None")
    if isinstance(to, int):
        return Output(fd=_fd(to))
    if isinstance(to, (str, bytes, os.PathLike)):
        return Output(path=_path(to))
    return Output(fd=_fileno(to))


def _path(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bytes:
    encoded = os.fsencode(path)
    if not encoded or b"\0" in encoded:
        raise UsageError(f"{encoded!r} is no file name", remedy="give the path of a new file")
    return encoded


def _fd(fd: int) -> int:
    if not 0 <= fd < 2**31:
        raise UsageError(f"{fd} is no file descriptor", remedy="give an open one, or a path")
    return fd


def _fileno(file: SupportsFileno) -> int:
    try:
        fileno = file.fileno
    except AttributeError:
        raise TypeError(
            f"to is a {type(file).__name__}; give a path, a descriptor, a file object or None"
        ) from None
    try:
        fd = fileno()
    except OSError as error:  # io.UnsupportedOperation of io.BytesIO and its like
        raise UsageError(
            f"the {type(file).__name__} to write to has no descriptor: {error}",
            remedy="give None and read DumpResult.memory",
        ) from error
    flush = getattr(file, "flush", None)
    if flush is not None:
        flush()
    return _fd(fd)


def _method(method: Method | str) -> Method:
    try:
        return Method(method)
    except ValueError:
        raise UsageError(
            f"there is no method {method!r}", remedy=f"use one of {', '.join(Method)}"
        ) from None


def _filter(bits: int | None) -> int | None:
    if bits is not None and not 0 <= operator.index(bits) < 2**64:
        raise UsageError(
            f"filter {bits} is no set of bits", remedy="see core(5), for instance 0x33"
        )
    return bits


def _size(name: str, size: int | None) -> int | None:
    if size is not None and not 0 < operator.index(size) < 2**64:
        raise UsageError(f"{name} {size} is no number of bytes", remedy="give a positive number")
    return size


def _min_free(room: int | str | None) -> int | None:
    if not isinstance(room, str):
        return _size("min_free", room)
    found = re.fullmatch(r"([1-9][0-9]?)%", room, re.ASCII)
    if found is None:
        raise UsageError(
            f"min_free {room!r} is no percentage", remedy="give one from 1% to 99%, or bytes"
        )
    return int(found[1])


def _keep(keep: Keep | str) -> Keep:
    try:
        return Keep(keep)
    except ValueError:
        raise UsageError(
            f"there is no order of keeping {keep!r}", remedy=f"use one of {', '.join(Keep)}"
        ) from None


def _compression(compression: Compression | str) -> Compression:
    try:
        return Compression(compression)
    except ValueError:
        raise UsageError(
            f"there is no compression {compression!r}",
            remedy=f"use one of {', '.join(Compression)}",
        ) from None


def _level(level: int | None) -> int:
    if level is not None and not (level and -(2**31) <= operator.index(level) < 2**31):
        raise UsageError(f"{level} is no level of compression", remedy="leave it out for the usual")
    return level or 0


def _note(note: OwnNote) -> tuple[bytes, int, bytes]:
    owner, number, desc = note
    name = os.fsencode(owner)
    if b"\0" in name:
        raise UsageError(f"{owner!r} is no owner of a note", remedy="leave the NUL out")
    if not 0 <= operator.index(number) < 2**32:
        raise UsageError(f"{number} is no type of a note", remedy="give a number of 32 bits")
    return name, number, bytes(desc)


def _nanoseconds(name: str, seconds: float | None) -> int | None:
    if seconds is None:
        return None
    if not (math.isfinite(seconds) and 1e-9 <= seconds < 2**32):
        raise UsageError(
            f"{name} {seconds} is no number of seconds to wait",
            remedy="give a positive number",
        )
    return int(seconds * 1e9)
