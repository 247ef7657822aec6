# SPDX-License-Identifier: BSD-3-Clause
"""Cores that the Python API writes, and what it says about them."""

import fcntl
import gc
import io
import json
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import living
import pytest
from elftools.elf.elffile import ELFFile

import coresnap
from coresnap import Method, SkipReason
from coresnap._core import ffi, lib
from lab.longform import CALLS
from lab.patience import DEADLINE, PATIENCE

Program = subprocess.Popen[str]
Start = Callable[..., Program]
Line = Callable[[Program], str]
RunsOn = Callable[[Program], bool]

CORE = Path(__file__).parents[1]
DOCUMENT = CORE.parents[1] / "docs/python-api.md"
NT_PRSTATUS = 1
PR_PID = 32 if sys.maxsize > 1 << 32 else 24  # offset of pr_pid in this machine's prstatus
SECRET = 65536  # as in programs/target.py

host = pytest.mark.host


def thread_ids(core: BinaryIO) -> list[int]:
    """The threads of a core, in its order."""
    elf = ELFFile(core)
    assert elf["e_type"] == "ET_CORE"
    tids: list[int] = []
    for segment in elf.iter_segments("PT_NOTE"):
        notes, at = segment.data(), 0
        while at < len(notes):
            namesz, descsz, kind = struct.unpack_from("<III", notes, at)
            desc = at + 12 + (namesz + 3 & ~3)
            if kind == NT_PRSTATUS:
                tids += struct.unpack_from("<i", notes, desc + PR_PID)
            at = desc + (descsz + 3 & ~3)
    return tids


def check_core(core: BinaryIO, result: coresnap.DumpResult, pid: int) -> None:
    size = core.seek(0, io.SEEK_END)
    assert size == result.core_size
    tids = thread_ids(core)
    assert len(tids) == result.threads
    assert pid in tids
    segments = list(ELFFile(core).iter_segments("PT_LOAD"))
    assert len(segments) == result.segments
    assert max(s["p_offset"] + s["p_filesz"] for s in segments) <= size
    assert result.missed == 0
    assert result.pause_ns > 0
    assert result.bytes_written <= size


# -- versions ---------------------------------------------------------------------------------


def test_one_version_everywhere() -> None:
    meson = re.search(r"version\s*:\s*'([^']+)'", (CORE / "meson.build").read_text())
    header = re.search(r'CORESNAP_VERSION "(.+)"', (CORE / "include/coresnap.h").read_text())
    assert meson
    assert header
    compiled = ffi.string(lib.coresnap_version()).decode()
    assert {meson[1], header[1], compiled} == {coresnap.__version__}


# -- another process --------------------------------------------------------------------------


@host
@pytest.mark.parametrize("method", [Method.AUTO, Method.STOP, Method.FORK])
def test_dump_to_a_file(target: Program, tmp_path: Path, runs_on: RunsOn, method: Method) -> None:
    path = tmp_path / "core"
    mask = os.umask(0)
    try:
        result = coresnap.dump(target.pid, path, method=method)
    finally:
        os.umask(mask)
    assert result.path == path
    assert result.memory is None
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert result.threads == 4
    if method is not Method.AUTO:
        assert result.method is method
    assert result.method is not Method.AUTO
    with path.open("rb") as core:
        check_core(core, result, target.pid)
    assert runs_on(target)


@host
def test_readelf_reads_it(target: Program, tmp_path: Path) -> None:
    readelf, core = living.need("readelf"), tmp_path / "core"
    coresnap.dump(target.pid, core)
    subprocess.run([readelf, "-hlW", core], check=True, capture_output=True, timeout=DEADLINE)


@host
def test_paths_may_be_any_bytes(target: Program, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/core \xff\n[red]\x1b"
    result = coresnap.dump(target.pid, name)
    assert result.path is not None
    assert os.fsencode(result.path) == name
    assert result.path.stat().st_size == result.core_size
    json.loads(result.to_json())


@host
def test_dump_to_an_open_file_begins_where_it_stands(target: Program, tmp_path: Path) -> None:
    path = tmp_path / "core"
    with path.open("wb") as file:
        file.write(b"before")  # still in the buffer of the file object
        result = coresnap.dump(target.pid, file)
        file.write(b"after")
    content = path.read_bytes()
    assert content[:10] == b"before\x7fELF"
    assert content[-5:] == b"after"
    assert len(content) == 6 + result.core_size + 5
    assert result.path is None
    check_core(io.BytesIO(content[6:-5]), result, target.pid)


@host
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_dump_to_a_pipe_or_socket(target: Program, kind: str) -> None:
    if kind == "pipe":
        read_fd, write_fd = os.pipe()
    else:
        read_fd, write_fd = (end.detach() for end in socket.socketpair())
    parts: list[bytes] = []

    def read() -> None:
        with os.fdopen(read_fd, "rb") as pipe:
            parts.append(pipe.read())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        result = coresnap.dump(target.pid, write_fd)
    finally:
        os.close(write_fd)
        reader.join(DEADLINE)
    check_core(io.BytesIO(parts[0]), result, target.pid)


@host
def test_dump_to_memory_gives_a_sealed_file(target: Program) -> None:
    result = coresnap.dump(target.pid, None)
    assert result.memory is not None
    with result.memory as core:
        assert core.read(4) == b"\x7fELF"
        seals = fcntl.fcntl(core, fcntl.F_GET_SEALS)
        assert seals & fcntl.F_SEAL_WRITE
        assert not os.get_inheritable(core.fileno())
        check_core(core, result, target.pid)


@host
def test_the_result_says_what_is_missing(target: Program, tmp_path: Path) -> None:
    result = coresnap.dump(target.pid, tmp_path / "core")
    assert result.bytes_skipped[SkipReason.DONTDUMP] >= SECRET
    secret = [skip for skip in result.skipped if skip.reason is SkipReason.DONTDUMP]
    assert SECRET in [skip.end - skip.start for skip in secret]
    assert result.n_skips == len(result.skipped)
    assert b"\xa5" * SECRET not in (tmp_path / "core").read_bytes()

    nothing = coresnap.dump(target.pid, tmp_path / "nothing", filter=0)
    assert nothing.bytes_read < result.bytes_read
    assert nothing.bytes_skipped[SkipReason.FILTER] > result.bytes_skipped[SkipReason.FILTER]
    assert nothing.segments == result.segments


@host
def test_a_result_as_json(target: Program) -> None:
    with coresnap.open_stream(target.pid) as core:
        core.read()
    assert core.result is not None
    values = json.loads(core.result.to_json())
    assert values == core.result.as_dict()
    assert values["schema"] == 1
    assert set(values["bytes_skipped"]) == {
        "filter",
        "dontdump",
        "io",
        "unreadable",
        "unmapped",
        "tags",
        "limit",
    }
    for skip in values["skipped"]:
        assert int(skip["start"], 16) <= int(skip["end"], 16)
    assert values["path"] is None


@host
def test_dumps_of_two_processes_at_the_same_time(start: Start, line: Line, tmp_path: Path) -> None:
    targets = [start("target"), start("target")]
    for program in targets:
        assert line(program) == "ready"
    results: dict[int, coresnap.DumpResult] = {}

    def dump(pid: int) -> None:
        results[pid] = coresnap.dump(pid, tmp_path / str(pid))

    threads = [threading.Thread(target=dump, args=(program.pid,)) for program in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    for program in targets:
        with (tmp_path / str(program.pid)).open("rb") as core:
            check_core(core, results[program.pid], program.pid)


# -- this process -----------------------------------------------------------------------------


@pytest.fixture
def other_thread() -> Iterator[None]:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield
    end.set()
    thread.join(DEADLINE)


@host
@pytest.mark.usefixtures("other_thread")
@pytest.mark.parametrize("method", [Method.AUTO, Method.STOP, Method.FORK])
def test_dump_self_has_all_threads_and_the_calling_one_first(
    tmp_path: Path, method: Method
) -> None:
    result = coresnap.dump_self(tmp_path / "core", method=method)
    with (tmp_path / "core").open("rb") as core:
        check_core(core, result, os.getpid())
        core.seek(0)
        tids = thread_ids(core)
    assert tids[0] == threading.get_native_id()
    assert {thread.native_id for thread in threading.enumerate()} <= set(tids)


@host
def test_dump_self_from_another_thread() -> None:
    found: list[tuple[int, list[int]]] = []

    def dump() -> None:
        result = coresnap.dump_self(None)
        assert result.memory is not None
        with result.memory as core:
            found.append((threading.get_native_id(), thread_ids(core)))

    thread = threading.Thread(target=dump)
    thread.start()
    thread.join(DEADLINE)
    caller, tids = found[0]
    assert tids[0] == caller
    assert os.getpid() in tids


@host
def test_dump_self_leaves_no_child() -> None:
    result = coresnap.dump_self(None, filter=0)
    assert result.memory is not None
    result.memory.close()
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | 0x40000000)  # __WALL


# -- streams ----------------------------------------------------------------------------------


@host
def test_a_stream_is_the_core(target: Program, tmp_path: Path, runs_on: RunsOn) -> None:
    with coresnap.open_stream(target.pid) as stream:
        content = stream.read()
    assert stream.result is not None
    check_core(io.BytesIO(content), stream.result, target.pid)
    assert stream.closed
    assert runs_on(target)


@host
def test_a_stream_of_this_process() -> None:
    with coresnap.open_stream() as stream:
        content = stream.read()
    assert stream.result is not None
    assert stream.result.method is Method.FORK
    check_core(io.BytesIO(content), stream.result, os.getpid())


@host
def test_a_stream_feeds_another_program(target: Program) -> None:
    with coresnap.open_stream(target.pid) as stream:
        count = subprocess.run(["wc", "-c"], stdin=stream, capture_output=True, timeout=DEADLINE)
    assert stream.result is not None
    assert int(count.stdout) == stream.result.core_size


@host
def test_closing_a_stream_early_cancels_the_dump(target: Program, runs_on: RunsOn) -> None:
    before = threading.active_count()
    with coresnap.open_stream(target.pid) as stream:
        assert stream.read(4) == b"\x7fELF"
    assert threading.active_count() == before
    assert stream.result is None
    assert runs_on(target)
    with pytest.raises(ValueError, match="closed"):
        stream.read(1)


@host
def test_a_forgotten_stream_cancels_the_dump(target: Program, runs_on: RunsOn) -> None:
    before = threading.active_count()
    coresnap.open_stream(target.pid)
    gc.collect()
    assert threading.active_count() == before
    assert runs_on(target)


@host
def test_an_open_stream_does_not_hold_up_the_end_of_a_program(
    target: Program, runs_on: RunsOn
) -> None:
    program = f"import coresnap; s = coresnap.open_stream({target.pid}); print(s.read(4)[1:])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=DEADLINE)
    assert (run.returncode, run.stdout) == (0, b"b'ELF'\n")
    assert runs_on(target)


@host
def test_a_failing_stream_raises_at_its_end(target: Program) -> None:
    # Its pipe fills up before the target dies; what the dump finds then reaches the reader.
    with (
        pytest.raises(coresnap.TargetGone),
        coresnap.open_stream(target.pid, method="stop", stage_budget=1) as stream,
    ):
        target.kill()
        while stream.read(1 << 20):
            pass


# -- signals and callbacks --------------------------------------------------------------------


@host
@pytest.mark.parametrize("callback", ["callback", "no-callback"])
@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "TerminatedError")],
    ids=str,
)
def test_a_signal_undoes_the_dump(
    target: Program, start: Start, line: Line, runs_on: RunsOn,
    number: signal.Signals, raised: str, callback: str,
) -> None:  # fmt: skip
    program = start("interrupted", target.pid, callback)
    assert line(program) == "dumping"
    began = time.monotonic()
    program.send_signal(number)
    assert line(program) == raised
    # 100 ms are promised; the rest is for a machine that is busy with other tests.
    assert time.monotonic() - began < 1.0 * PATIENCE
    assert runs_on(target)


@host
def test_what_on_progress_raises_is_raised(target: Program, runs_on: RunsOn) -> None:
    read_fd, write_fd = os.pipe()
    error = LookupError("mine")
    seen: list[coresnap.Progress] = []

    def on_progress(progress: coresnap.Progress) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append(progress)
        if len(seen) >= 3 and progress.total:
            raise error

    try:
        with pytest.raises(LookupError) as caught:
            coresnap.dump(target.pid, write_fd, on_progress=on_progress)
    finally:
        os.close(read_fd)
        os.close(write_fd)
    assert caught.value is error
    assert caught.traceback[-1].name == "on_progress"
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert seen[-1].total > seen[-1].done
    assert runs_on(target)


@host
def test_a_callback_may_dump_another_process(target: Program) -> None:
    read_fd, write_fd = os.pipe()
    inner: list[coresnap.DumpResult] = []

    def on_progress(_progress: coresnap.Progress) -> None:
        inner.append(coresnap.dump_self(None, filter=0))
        raise StopIteration

    try:
        with pytest.raises(StopIteration):
            coresnap.dump(target.pid, write_fd, on_progress=on_progress)
    finally:
        os.close(read_fd)
        os.close(write_fd)
    assert inner[0].memory is not None
    inner[0].memory.close()


# -- leaks ------------------------------------------------------------------------------------


def open_descriptors() -> dict[str, str]:
    here = Path("/proc/self/fd")
    return {fd.name: str(fd.readlink()) for fd in here.iterdir() if fd.is_symlink()}


@host
def test_fifty_dumps_leak_no_descriptor_and_no_thread(target: Program, tmp_path: Path) -> None:
    def once(number: int) -> None:
        match number % 5:
            case 0:
                coresnap.dump(target.pid, tmp_path / str(number), filter=0)
            case 1:
                result = coresnap.dump(target.pid, None, filter=0)
                assert result.memory is not None
                result.memory.close()
            case 2:
                with coresnap.open_stream(target.pid, filter=0) as stream:
                    stream.read()
            case 3:
                with pytest.raises(coresnap.Failed):
                    coresnap.dump(target.pid, tmp_path)
            case 4:
                coresnap.dump_self(tmp_path / str(number), filter=0)

    before = open_descriptors(), threading.active_count()
    for number in range(CALLS):
        once(number)
    assert (open_descriptors(), threading.active_count()) == before


# -- documentation ----------------------------------------------------------------------------


@host
def test_the_examples_of_the_document_run(
    target: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert len(examples) >= 5
    monkeypatch.chdir(tmp_path)
    for example in examples:
        exec(compile(example, str(DOCUMENT), "exec"), {"pid": target.pid})
