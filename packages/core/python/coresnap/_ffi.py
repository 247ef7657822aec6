# SPDX-License-Identifier: BSD-3-Clause
"""The only module that touches the extension; nothing of cffi leaves it.

How signals and exceptions cross the library, which runs without the GIL:

1. A signal arrives. Python's C handler notes it; no Python code runs yet.
2. The library calls callback_progress() (callback.h) at least every 20 ms.
3. That enters callback_python() below, with the GIL.
4. On entry the interpreter runs the program's pending signal handlers, if this is the main thread.
5. What they raise (KeyboardInterrupt), or what the caller's on_progress raises, ends the callback:
   cffi hands it to _keep_exception() and returns 1 to the library.
6. The library undoes the dump: the target runs on, what was written is deleted.
7. run() raises the kept exception.

A caller's on_stopped runs in a thread of its own, since the thread in run() waits for the library:
that thread listens, without the GIL, until the library asks (callback.h).
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

from . import errors
from ._version import __version__
from .pause import Estimate, Pause, Region, RegionSize, basis
from .result import (
    Compression,
    DumpResult,
    Keep,
    Method,
    Phase,
    Progress,
    Refusal,
    Skip,
    SkipReason,
)

try:
    from ._core import ffi, lib
except ImportError as missing:
    raise ImportError(
        f"the extension coresnap._core does not load: {missing}; "
        "install the package (pip install coresnap), do not import it from its source directory"
    ) from missing


def _text(chars: Any) -> str:
    return ffi.string(chars).decode("utf-8", "surrogateescape")


def check_version(compiled: str, package: str) -> None:
    """Raise ImportError when the extension is another version's: a stale file of an old install."""
    if compiled != package:
        raise ImportError(
            f"coresnap {package} found the extension of version {compiled}; "
            "uninstall coresnap until none is left, then install it again"
        )


check_version(_text(lib.coresnap_version()), __version__)

MAX_SKIPS: Final = 4096

METHODS: Final[Mapping[Method, int]] = {
    Method.AUTO: lib.CORESNAP_METHOD_AUTO,
    Method.STOP: lib.CORESNAP_METHOD_STOP,
    Method.FORK: lib.CORESNAP_METHOD_FORK,
    Method.PRECOPY: lib.CORESNAP_METHOD_PRECOPY,
    Method.LIVEDUMP: lib.CORESNAP_METHOD_LIVEDUMP,
}
REASONS: Final[Mapping[SkipReason, int]] = {
    SkipReason.FILTER: lib.CORESNAP_SKIP_FILTER,
    SkipReason.DONTDUMP: lib.CORESNAP_SKIP_DONTDUMP,
    SkipReason.IO: lib.CORESNAP_SKIP_IO,
    SkipReason.UNREADABLE: lib.CORESNAP_SKIP_UNREADABLE,
    SkipReason.THREAD: lib.CORESNAP_SKIP_THREAD,
    SkipReason.UNMAPPED: lib.CORESNAP_SKIP_UNMAPPED,
    SkipReason.TAGS: lib.CORESNAP_SKIP_TAGS,
    SkipReason.LIMIT: lib.CORESNAP_SKIP_LIMIT,
}
KEEPS: Final[Mapping[Keep, int]] = {
    Keep.FIRST: lib.CORESNAP_KEEP_FIRST,
    Keep.SMALL_FIRST: lib.CORESNAP_KEEP_SMALL,
}
COMPRESSIONS: Final[Mapping[Compression, int]] = {
    Compression.NONE: lib.CORESNAP_COMPRESS_NONE,
    Compression.ZSTD: lib.CORESNAP_COMPRESS_ZSTD,
    Compression.LZ4: lib.CORESNAP_COMPRESS_LZ4,
    Compression.GZIP: lib.CORESNAP_COMPRESS_GZIP,
}
PHASES: Final[Mapping[Phase, int]] = {
    Phase.AHEAD: lib.CORESNAP_PHASE_AHEAD,
    Phase.SEIZE: lib.CORESNAP_PHASE_SEIZE,
    Phase.STOP: lib.CORESNAP_PHASE_STOP,
    Phase.REGISTERS: lib.CORESNAP_PHASE_REGISTERS,
    Phase.SCAN: lib.CORESNAP_PHASE_SCAN,
    Phase.COPY: lib.CORESNAP_PHASE_COPY,
    Phase.SPILL: lib.CORESNAP_PHASE_SPILL,
    Phase.THAW: lib.CORESNAP_PHASE_THAW,
    Phase.WRITE: lib.CORESNAP_PHASE_WRITE,
}
REGIONS: Final[Mapping[Region, int]] = {
    Region.HEAP: lib.CORESNAP_REGION_HEAP,
    Region.STACK: lib.CORESNAP_REGION_STACK,
    Region.ANONYMOUS: lib.CORESNAP_REGION_ANONYMOUS,
    Region.SHARED: lib.CORESNAP_REGION_SHARED,
    Region.FILE: lib.CORESNAP_REGION_FILE,
    Region.HUGETLB: lib.CORESNAP_REGION_HUGETLB,
    Region.SPECIAL: lib.CORESNAP_REGION_SPECIAL,
}
_METHOD_OF: Final = {number: method for method, number in METHODS.items()}
_REASON_OF: Final = {number: reason for reason, number in REASONS.items()}


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where the core goes: a path, a borrowed descriptor, or memory when both are None."""

    path: bytes | None = None
    fd: int | None = None


@dataclass(frozen=True, kw_only=True)
class Options:
    """Checked options of a dump; None means the library's default."""

    method: Method = Method.AUTO
    filter: int | None = None
    strict_timeouts: bool = False
    force: bool = False
    undumpable: bool = False
    stage_budget: int | None = None
    stop_timeout_ns: int | None = None
    max_pause_ns: int | None = None
    max_size: int | None = None
    keep: Keep = Keep.FIRST
    core_limit: int | None = None
    notes: tuple[tuple[bytes, int, bytes], ...] = ()
    compression: Compression = Compression.NONE
    level: int = 0
    nice: int | None = None
    io_prio: int | None = None
    oom_adj: int | None = None
    min_free: int | None = None
    min_free_is_percentage: bool = False


class Dump:
    """One dump, which any thread may cancel while another one runs it."""

    def __init__(
        self,
        on_progress: Callable[[Progress], None] | None = None,
        on_stopped: Callable[[], bool | None] | None = None,
    ) -> None:
        self.on_progress = on_progress
        self._on_stopped = on_stopped
        self.raised: BaseException | None = None
        self._callback = ffi.new("struct callback *")

    def cancel(self) -> None:
        """Make run() end with Cancelled within some 20 ms; without effect when it has ended."""
        self._callback.cancel = 1

    def run(self, pid: int | None, to: Output, options: Options) -> DumpResult:
        """Dump process ``pid``, or this one if None. Errors as coresnap.dump() documents them.

        The GIL is released meanwhile.
        """
        handle = ffi.new_handle(self)
        if self.on_progress or threading.current_thread() is threading.main_thread():
            self._callback.handle = handle
        path = ffi.NULL if to.path is None else ffi.new("char[]", to.path)
        skips = ffi.new("struct coresnap_skip[]", MAX_SKIPS)
        c_to = _output(to, path)
        notes, _texts = _notes(options)
        c_options = _options(options, skips, notes)
        lib.callback_install(self._callback, c_options, self._on_stopped is not None)
        c_error = ffi.new("struct coresnap_error *")
        c_result = ffi.new("struct coresnap_result *")
        c_result.size = ffi.sizeof("struct coresnap_result")
        c_result.memory_fd = -1
        try:
            with self._listening():
                if pid is None:
                    code = lib.coresnap_dump_self(c_to, c_options, c_result, c_error)
                else:
                    code = lib.coresnap_dump(pid, c_to, c_options, c_result, c_error)
            raised, self.raised = self.raised, None
            if raised is not None:
                raise raised
            if code in (errors.Code.OK, errors.Code.INCOMPLETE):
                result = _result(c_result, skips, to)
            else:
                result = None
            check(code, c_error, result)
        finally:
            # The descriptor, unless _result() has handed it on.
            if c_result.memory_fd >= 0:
                os.close(c_result.memory_fd)
        assert result is not None
        return result

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """With a thread that answers the library's question, if there is a function to ask."""
        if self._on_stopped is None:
            yield
            return
        # A daemon: when the dump is given up, the caller's function may go on for any time.
        threading.Thread(target=self._answer, name="coresnap-stopped", daemon=True).start()
        try:
            yield
        finally:
            lib.callback_answer(self._callback, 1)

    def _answer(self) -> None:
        assert self._on_stopped is not None
        if not lib.callback_listen(self._callback):
            return
        refused = True
        try:
            refused = self._on_stopped() is False
        except BaseException as error:  # noqa: BLE001 (raised again by run())
            self.raised = error
        lib.callback_answer(self._callback, refused)


def _keep_exception(
    _kind: type[BaseException], raised: BaseException, traceback: TracebackType
) -> None:
    # A pending signal handler raises before the first line of callback_python() is reached, so the
    # exception cannot be caught there; the frame has its arguments already.
    dump = ffi.from_handle(traceback.tb_frame.f_locals["handle"])
    dump.raised = raised.with_traceback(traceback)


@ffi.def_extern(error=1, onerror=_keep_exception)
def callback_python(progress: Any, handle: Any) -> int:
    on_progress = ffi.from_handle(handle).on_progress
    if on_progress is not None:
        on_progress(
            Progress(done=progress.done, total=progress.total, stopped=bool(progress.stopped))
        )
    return 0


def check(code: int, c_error: Any, result: DumpResult | None) -> None:
    """Raise the exception of the class that belongs to ``code``; nothing when it is OK."""
    if code == errors.Code.OK:
        return
    if result is not None:
        raise errors.Incomplete(_text(c_error.what), result=result, **_about(c_error))
    raise _error(code, c_error)


def _error(code: int, c_error: Any) -> errors.CoresnapError:
    return _CLASS_OF.get(code, errors.Failed)(_text(c_error.what), **_about(c_error))


def _about(c_error: Any) -> dict[str, Any]:
    return {
        "remedy": _text(c_error.remedy),
        "pid": c_error.pid or None,
        "tid": c_error.tid or None,
        "address": c_error.address or None,
        "errno": c_error.os_errno or None,
    }


def check_method(pid: int, method: Method) -> errors.CoresnapError | None:
    """Why a dump by this method would fail, as far as can be told; None if it need not."""
    c_error = ffi.new("struct coresnap_error *")
    code = lib.coresnap_check(pid, METHODS[method], c_error)
    return None if code == errors.Code.OK else _error(code, c_error)


def estimate(pid: int, options: Options) -> Estimate:
    """What coresnap.estimate() returns, and raises."""
    c_estimate = ffi.new("struct coresnap_estimate *")
    c_estimate.size = ffi.sizeof("struct coresnap_estimate")
    c_error = ffi.new("struct coresnap_error *")
    c_options = _options(options, ffi.NULL, ffi.NULL)
    check(lib.coresnap_estimate(pid, c_options, c_estimate, c_error), c_error, None)
    pauses = {method: c_estimate.pauses[number] for method, number in METHODS.items()}
    return Estimate(
        pid=pid,
        method=_METHOD_OF[c_estimate.method],
        threads=c_estimate.threads,
        stuck=c_estimate.stuck,
        kept=c_estimate.kept,
        unforkable=c_estimate.unforkable,
        huge=c_estimate.huge,
        forked=c_estimate.forked,
        budget=c_estimate.budget,
        copy_ns=c_estimate.copy_ns,
        beside_path=c_estimate.beside_path,
        beside_fd=c_estimate.beside_fd,
        regions={
            region: _region_size(c_estimate.regions[number]) for region, number in REGIONS.items()
        },
        pauses={
            method: _pause(method, pause, c_estimate)
            for method, pause in pauses.items()
            if pause.expected_ns
        },
    )


def _region_size(size: Any) -> RegionSize:
    return RegionSize(
        mappings=size.mappings, mapped=size.mapped, resident=size.resident, kept=size.kept
    )


def _pause(method: Method, pause: Any, c_estimate: Any) -> Pause:
    return Pause(
        expected_ns=pause.expected_ns,
        least_ns=pause.least_ns,
        most_ns=pause.most_ns,
        copied=pause.copied,
        spilled=pause.spilled,
        basis=basis(
            method,
            threads=c_estimate.threads,
            stuck=c_estimate.stuck,
            forked=c_estimate.forked,
            copied=pause.copied,
            spilled=pause.spilled,
        ),
    )


def livedump_error(pid: int, number: int) -> errors.CoresnapError:
    """The exception for an errno of opening or writing ``/proc/PID/livedump``."""
    c_error = ffi.new("struct coresnap_error *")
    return _error(lib.coresnap_livedump_error(pid, number, c_error), c_error)


_CLASS_OF: Final = {int(code): cls for code, cls in errors.CLASSES.items()}


def _output(to: Output, path: Any) -> Any:
    if to.path is not None:
        kind = lib.CORESNAP_TO_PATH
    elif to.fd is not None:
        kind = lib.CORESNAP_TO_FD
    else:
        kind = lib.CORESNAP_TO_MEMORY
    fd = -1 if to.fd is None else to.fd
    return ffi.new("struct coresnap_output *", {"kind": kind, "path": path, "fd": fd})


def _options(options: Options, skips: Any, notes: Any) -> Any:
    flags = 0
    if options.strict_timeouts:
        flags |= lib.CORESNAP_STRICT_TIMEOUTS
    if options.force:
        flags |= lib.CORESNAP_FORCE
    if options.undumpable:
        flags |= lib.CORESNAP_UNDUMPABLE
    if options.filter is not None:
        flags |= lib.CORESNAP_FILTER
    if options.nice is not None:
        flags |= lib.CORESNAP_NICE
    if options.io_prio is not None:
        flags |= lib.CORESNAP_IO_PRIO
    if options.oom_adj is not None:
        flags |= lib.CORESNAP_OOM_ADJ
    if options.min_free_is_percentage:
        flags |= lib.CORESNAP_MIN_FREE_PERCENT
    return ffi.new(
        "struct coresnap_options *",
        {
            "size": ffi.sizeof("struct coresnap_options"),
            "method": METHODS[options.method],
            "flags": flags,
            "filter": options.filter or 0,
            "stage_budget": options.stage_budget or 0,
            "stop_timeout_ns": options.stop_timeout_ns or 0,
            "skips": skips,
            "max_skips": MAX_SKIPS if skips else 0,
            "max_size": options.max_size or 0,
            "keep": KEEPS[options.keep],
            "core_limit": options.core_limit or 0,
            "notes": notes,
            "n_notes": len(options.notes),
            "compression": COMPRESSIONS[options.compression],
            "level": options.level,
            "nice": options.nice or 0,
            "io_prio": options.io_prio or 0,
            "oom_adj": options.oom_adj or 0,
            "max_pause_ns": options.max_pause_ns or 0,
            "min_free": options.min_free or 0,
        },
    )


def _notes(options: Options) -> tuple[Any, list[Any]]:
    """The notes as the library takes them, and what must live as long."""
    names = [ffi.new("char[]", owner) for owner, _, _ in options.notes]
    texts = [ffi.from_buffer(desc) for _, _, desc in options.notes]
    notes = [
        {"name": name, "type": number, "size": len(desc), "desc": text}
        for name, text, (_, number, desc) in zip(names, texts, options.notes, strict=True)
    ]
    return ffi.new("struct coresnap_note[]", notes), [*names, *texts]


def _result(c_result: Any, skips: Any, to: Output) -> DumpResult:
    memory: BinaryIO | None = None
    if c_result.memory_fd >= 0:
        memory = os.fdopen(c_result.memory_fd, "rb")
        c_result.memory_fd = -1
        memory.seek(0)
    return DumpResult(
        method=_METHOD_OF[c_result.method],
        pause_ns=c_result.pause_ns,
        phase_ns={phase: c_result.phase_ns[number] for phase, number in PHASES.items()},
        threads=c_result.threads,
        missed=c_result.missed,
        segments=c_result.segments,
        core_size=c_result.core_size,
        whole_size=c_result.whole_size,
        bytes_read=c_result.bytes_read,
        pause_bytes=c_result.pause_bytes,
        bytes_written=c_result.bytes_written,
        bytes_skipped={
            reason: c_result.bytes_skipped[number]
            for reason, number in REASONS.items()
            if reason is not SkipReason.THREAD
        },
        skipped=tuple(_skip(skips[i]) for i in range(min(c_result.n_skips, MAX_SKIPS))),
        n_skips=c_result.n_skips,
        why_not=tuple(_refusal(c_result.why_not[i]) for i in range(c_result.n_refusals)),
        path=None if to.path is None else Path(os.fsdecode(to.path)),
        memory=memory,
    )


def _skip(skip: Any) -> Skip:
    return Skip(
        start=skip.start,
        end=skip.end,
        reason=_REASON_OF[skip.reason],
        tid=skip.tid or None,
    )


def _refusal(refusal: Any) -> Refusal:
    return Refusal(
        method=_METHOD_OF[refusal.method],
        reason=_text(refusal.reason),
        remedy=_text(refusal.remedy),
    )
