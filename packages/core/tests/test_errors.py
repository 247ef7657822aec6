# SPDX-License-Identifier: BSD-3-Clause
"""Failures of the Python API: each has its class, its fields, and leaves everything as it was."""

import errno
import io
import json
import os
import pickle
import pty
import re
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import coresnap
from coresnap import Code, _ffi, errors
from coresnap._core import lib
from lab.patience import DEADLINE, PATIENCE

Program = subprocess.Popen[str]
Start = Callable[..., Program]
Line = Callable[[Program], str]
RunsOn = Callable[[Program], bool]

HEADER = Path(__file__).parents[1] / "include/coresnap.h"
SHORT = 0.2 * PATIENCE  # seconds, in which a thread stops that can
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")


# -- the table --------------------------------------------------------------------------------


def header_enum(name: str) -> dict[str, int]:
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    found = re.search(rf"enum {name} {{(.*?)}};", text, re.DOTALL)
    assert found
    return {key: int(value) for key, value in re.findall(r"(\w+) = (\d+)", found[1])}


def test_codes_are_those_of_the_header() -> None:
    expected = {
        key.removeprefix("CORESNAP_").removeprefix("E_"): value
        for key, value in header_enum("coresnap_code").items()
    }
    assert {code.name: code.value for code in Code} == expected


def test_every_code_has_its_class_and_exit_code() -> None:
    assert set(errors.CLASSES) == set(Code) - {Code.OK}
    for code, cls in errors.CLASSES.items():
        assert cls.code is code
        assert cls.exit_code == code.value
        assert getattr(coresnap, cls.__name__) is cls


def test_names_of_methods_and_reasons_are_those_of_the_library() -> None:
    for method, number in _ffi.METHODS.items():
        assert _ffi._text(lib.coresnap_method_name(number)) == method.value
    for reason, number in _ffi.REASONS.items():
        assert _ffi._text(lib.coresnap_skip_reason_name(number)) == reason.value
    for phase, number in _ffi.PHASES.items():
        assert _ffi._text(lib.coresnap_phase_name(number)) == phase.value
    for region, number in _ffi.REGIONS.items():
        assert _ffi._text(lib.coresnap_region_name(number)) == region.value
    assert list(_ffi.REGIONS.values()) == sorted(header_enum("coresnap_region").values())
    assert list(_ffi.PHASES.values()) == sorted(header_enum("coresnap_phase").values())
    assert len(_ffi.METHODS) == len(header_enum("coresnap_method"))
    assert len(_ffi.REASONS) == header_enum("coresnap_skip_reason")["CORESNAP_SKIP_REASONS"]


def test_an_error_keeps_its_fields_through_pickle() -> None:
    error = coresnap.NoSpace("disk full", remedy="delete", pid=3, tid=4, address=5, errno=28)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is coresnap.NoSpace
    assert vars(copy) == vars(error)
    assert str(copy) == "disk full; delete"


def test_an_incomplete_keeps_its_result_through_pickle() -> None:
    result = coresnap.DumpResult(
        method=coresnap.Method.STOP, pause_ns=1, phase_ns={}, threads=2, missed=1, segments=3,
        core_size=4, whole_size=4, bytes_read=5, pause_bytes=5, bytes_written=6, bytes_skipped={},
        skipped=(), n_skips=0, why_not=(),
    )  # fmt: skip
    copy = pickle.loads(pickle.dumps(coresnap.Incomplete("one thread", result=result)))
    assert copy.result == result


def test_an_extension_of_another_version_is_refused_at_import() -> None:
    _ffi.check_version("0.1.0", "0.1.0")
    with pytest.raises(ImportError, match=r"coresnap 0\.1\.0 .* version 0\.0\.9"):
        _ffi.check_version("0.0.9", "0.1.0")


# -- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"method": "gcore"},
        {"filter": -1},
        {"filter": 2**64},
        {"stage_budget": 0},
        {"stop_timeout": 0},
        {"stop_timeout": float("nan")},
        {"stop_timeout": float("inf")},
        {"max_pause": 0},
        {"max_pause": float("nan")},
        {"max_size": 0},
        {"keep": "small-first"},
        {"keep": "large-first", "max_size": 5},
        {"core_limit": 100},
        {"min_free": 0},
        {"min_free": -1},
        {"min_free": "0%"},
        {"min_free": "100%"},
        {"min_free": "1GiB"},
        {"notes": [("a\0b", 1, b"")]},
        {"notes": [("a", -1, b"")]},
        {"compression": "xz"},
        {"compression": "gzip", "level": 10},
        {"compression": "gzip", "level": 0},
        {"level": 3},
        {"nice": 20},
        {"io_prio": -1},
        {"oom_adj": -18},
    ],
    ids=str,
)
def test_options_without_meaning_are_usage_errors(options: dict[str, object]) -> None:
    with pytest.raises(coresnap.UsageError) as caught:
        coresnap.dump(1, None, **options)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    assert caught.value.remedy


@pytest.mark.parametrize(
    "to",
    ["", b"a\0b", -1, 2**31, io.BytesIO()],
    ids=["empty", "nul", "negative", "large", "bytesio"],
)
def test_outputs_without_meaning_are_usage_errors(to: object) -> None:
    with pytest.raises(coresnap.UsageError):
        coresnap.dump_self(to)  # type: ignore[arg-type]


@pytest.mark.parametrize("pid", [0, -1, 2**31])
def test_a_pid_that_cannot_be_dumped_is_a_usage_error(pid: int) -> None:
    with pytest.raises(coresnap.UsageError):
        coresnap.dump(pid, None)


def test_arguments_of_wrong_type_are_type_errors() -> None:
    with pytest.raises(TypeError):
        coresnap.dump("1", None)  # type: ignore[arg-type]
    for call in (lambda: coresnap.dump(True, None), lambda: coresnap.open_stream(True)):
        with pytest.raises(TypeError, match="pid is a bool"):
            call()
    with pytest.raises(TypeError):
        coresnap.dump_self(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        coresnap.dump_self(True)


def test_a_stream_of_this_process_cannot_use_stop() -> None:
    with pytest.raises(coresnap.UsageError):
        coresnap.open_stream(method="stop")


# -- targets ----------------------------------------------------------------------------------


def refused(pid: int, to: object = None, **options: object) -> coresnap.CoresnapError:
    with pytest.raises(coresnap.CoresnapError) as caught:
        coresnap.dump(pid, to, **options)  # type: ignore[arg-type]
    assert caught.value.what
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.host
def test_a_pid_that_does_not_exist(tmp_path: Path) -> None:
    last = int(Path("/proc/sys/kernel/pid_max").read_text()) - 1
    if Path(f"/proc/{last}").exists():
        pytest.skip(f"process {last}, the last possible one, exists")
    error = refused(last, tmp_path / "core")
    assert type(error) is coresnap.NoProcess
    assert error.pid == last
    assert not list(tmp_path.iterdir())
    with pytest.raises(coresnap.NoProcess):
        coresnap.open_stream(last)


@pytest.mark.host
def test_a_zombie(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        assert type(refused(zombie.pid, tmp_path / "core")) is coresnap.NoProcess
    assert not list(tmp_path.iterdir())


@pytest.mark.host
def test_a_kernel_thread() -> None:
    comm = Path("/proc/2/comm")
    if not comm.exists() or comm.read_text() != "kthreadd\n":
        pytest.skip("this pid namespace has no kernel threads")
    assert type(refused(2)) is coresnap.NoProcess


@pytest.mark.host
def test_a_traced_process(target: Program, start: Start, line: Line, runs_on: RunsOn) -> None:
    tracer = start("tracer", target.pid)
    assert line(tracer) == "ready"
    error = refused(target.pid)
    assert type(error) is coresnap.NotPermitted
    assert str(tracer.pid) in str(error)
    assert runs_on(target)


@pytest.mark.host
def test_an_undumpable_process_is_dumped_only_when_asked_for(start: Start, line: Line) -> None:
    program = start("undumpable")
    assert line(program) == "ready"
    error = refused(program.pid)
    assert type(error) is coresnap.NotPermitted
    assert error.remedy
    if os.geteuid() == 0:
        with coresnap.open_stream(program.pid, undumpable=True) as core:
            assert core.read(4) == b"\x7fELF"


@needs_root
@pytest.mark.host
def test_nobody_dumps_its_own_processes_only(start: Start, target: Program, line: Line) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        program = start("unprivileged", target.pid, name)
        said = [json.loads(line(program)) for _ in range(4)]
    other, unwritable, own, files = said
    assert other[0] == "NotPermitted"
    assert other[2]
    assert unwritable[:2] == ["Failed", errno.EACCES]
    assert own == ["", None, ""]
    assert files == ["own"]


@pytest.mark.host
def test_a_target_that_dies_while_it_is_dumped(target: Program) -> None:
    read_fd, write_fd = os.pipe()

    def kill(progress: coresnap.Progress) -> None:
        # Once bytes came, the pipe fills up, since nobody has read. From here on somebody does, so
        # that the dump goes on and sees what has happened. (Waiting for the target would be for
        # ever: a traced process is collected by its tracer first.)
        if not progress.done:
            return
        target.kill()
        os.set_blocking(read_fd, False)
        while select.select([read_fd], [], [], 0)[0]:
            os.read(read_fd, 1 << 20)

    try:
        error = refused(target.pid, write_fd, method="stop", stage_budget=1, on_progress=kill)
    finally:
        os.close(read_fd)
        os.close(write_fd)
    assert type(error) is coresnap.TargetGone


@pytest.fixture
def fifos(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    ready, release = tmp_path / "ready", tmp_path / "release"
    os.mkfifo(ready)
    os.mkfifo(release)
    yield ready, release
    # Lets the child of programs/vfork.py go, if it still waits.
    try:
        os.close(os.open(release, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise


@pytest.mark.host
def test_a_thread_that_does_not_stop_makes_the_core_incomplete(
    start: Start, fifos: tuple[Path, Path]
) -> None:
    program = start("vfork", *fifos, "two-threads")
    with fifos[0].open("rb"):  # returns when the main thread is in vfork
        with pytest.raises(coresnap.Incomplete) as caught:
            coresnap.dump(program.pid, None, stop_timeout=SHORT)
        result = caught.value.result
        assert result.memory is not None
        with result.memory as core:
            assert len(core.read()) == result.core_size
        assert (result.threads, result.missed) == (1, 1)
        assert [skip.tid for skip in result.skipped if skip.tid] == [program.pid]

        # A stream of it can be read to its end, and says so when it is closed.
        stream = coresnap.open_stream(program.pid, stop_timeout=SHORT)
        assert stream.read(4) == b"\x7fELF"
        while stream.read(1 << 20):
            pass
        with pytest.raises(coresnap.Incomplete):
            stream.close()
        assert stream.closed


@pytest.mark.host
def test_no_thread_that_stops_is_a_deadline(start: Start, fifos: tuple[Path, Path]) -> None:
    program = start("vfork", *fifos, "one-thread")
    with fifos[0].open("rb"):
        error = refused(program.pid, stop_timeout=SHORT)
    assert type(error) is coresnap.DeadlineExceeded


# -- outputs ----------------------------------------------------------------------------------


@pytest.mark.host
@pytest.mark.parametrize("kind", ["file", "link", "dangling", "fifo", "directory"])
def test_a_final_name_that_exists(target: Program, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "core"
    match kind:
        case "file":
            path.write_bytes(b"mine")
        case "link":
            (tmp_path / "other").write_bytes(b"mine")
            path.symlink_to("other")
        case "dangling":
            path.symlink_to("nowhere")
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
    before = sorted(tmp_path.iterdir())
    assert type(refused(target.pid, path)) is coresnap.Failed
    assert sorted(tmp_path.iterdir()) == before
    if kind != "file":
        assert type(refused(target.pid, path, force=True)) is coresnap.Failed
    else:
        assert path.read_bytes() == b"mine"
        coresnap.dump(target.pid, path, force=True)
        assert path.read_bytes()[:4] == b"\x7fELF"


@pytest.mark.host
def test_a_directory_that_does_not_exist(target: Program, tmp_path: Path) -> None:
    error = refused(target.pid, tmp_path / "missing" / "core")
    assert type(error) is coresnap.Failed
    assert error.errno == errno.ENOENT


@pytest.mark.host
def test_a_closed_pipe(target: Program, runs_on: RunsOn) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    try:
        error = refused(target.pid, write_fd)
    finally:
        os.close(write_fd)
    assert type(error) is coresnap.Failed
    assert error.errno == errno.EPIPE
    assert runs_on(target)


@pytest.mark.host
def test_a_closed_pipe_does_not_raise_sigpipe(target: Program) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        assert refused(target.pid, write_fd).errno == errno.EPIPE
    finally:
        signal.signal(signal.SIGPIPE, before)
        os.close(write_fd)


@pytest.mark.host
def test_a_descriptor_that_cannot_be_written(target: Program, tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.touch()
    with path.open("rb") as file:
        error = refused(target.pid, file)
        assert type(error) is coresnap.UsageError
        assert error.errno == errno.EBADF
    closed = os.open(path, os.O_WRONLY)
    os.close(closed)
    assert refused(target.pid, closed).errno == errno.EBADF
    assert path.stat().st_size == 0


@pytest.mark.host
def test_a_terminal(target: Program) -> None:
    master, slave = pty.openpty()
    try:
        error = refused(target.pid, slave)
        assert not select.select([master], [], [], 0)[0]
    finally:
        os.close(master)
        os.close(slave)
    assert type(error) is coresnap.UsageError


@pytest.mark.host
def test_a_full_device(target: Program, runs_on: RunsOn) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        error = refused(target.pid, full)
    assert type(error) is coresnap.NoSpace
    assert error.errno == errno.ENOSPC
    assert runs_on(target)


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=64k", "coresnap-test", str(place)]
    mounted = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=DEADLINE)


@pytest.mark.host
def test_a_full_file_system(target: Program, small_file_system: Path, runs_on: RunsOn) -> None:
    error = refused(target.pid, small_file_system / "core")
    assert type(error) is coresnap.NoSpace
    assert not list(small_file_system.iterdir())
    assert runs_on(target)
