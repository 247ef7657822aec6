# SPDX-License-Identifier: BSD-3-Clause
"""What coresnap-dump refuses: an exit code, one line of text, target and files untouched."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import living
import pytest
from living import NOBODY, Held, Subject, needs_root

from coresnap.corefile import Core
from lab.patience import DEADLINE

pytestmark = pytest.mark.host

FAILED, USAGE, NO_PROCESS, NOT_PERMITTED, NO_SPACE, TARGET_GONE = 1, 2, 3, 4, 6, 7
NEVER_A_PID = 1 << 22  # PID_MAX_LIMIT: one more than the highest

Start = Callable[..., Subject]


@pytest.fixture(scope="session")
def public() -> Iterator[Path]:
    """A directory that every user may enter, with the programs in it."""
    with tempfile.TemporaryDirectory(prefix="coresnap-") as name:
        place = Path(name)
        place.chmod(0o755)
        compiled = living.program("world")
        shutil.copy(compiled, place / "world")
        shutil.copy(compiled, place / "other-world")
        shutil.copy(living.tool(), place / "coresnap-dump")
        yield place


@pytest.fixture
def start(public: Path) -> Iterator[Start]:
    """Start targets."""
    with contextlib.ExitStack() as stack:

        def start_one(program: str = "world", *, user: int | None = None) -> Subject:
            return stack.enter_context(Subject(public / program, user=user))

        yield start_one


@pytest.fixture
def subject(start: Start) -> Subject:
    started = start()
    started.tell("threads", 2)
    return started


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """An empty directory that everybody may write to."""
    with tempfile.TemporaryDirectory(prefix="coresnap-") as name:
        place = Path(name)
        place.chmod(0o777)
        yield place


def listing(place: Path) -> list[tuple[str, int, int]]:
    """The names of a directory with what they are."""
    found = sorted(place.iterdir())
    return [(p.name, p.lstat().st_ino, p.lstat().st_size) for p in found]


def one_line(text: str) -> str:
    """The one line of a refusal, without the program's name."""
    found = re.fullmatch(r"coresnap-dump: ([^\n]+)\n", text)
    assert found, text
    assert found[1].isprintable()
    return found[1]


def refused(
    place: Path,
    code: int,
    *arguments: object,
    target: Subject | None = None,
    program: Path | None = None,
    user: int | None = None,
) -> str:
    """Run the tool in a directory; it must refuse and change nothing. Returns what it says."""
    before = listing(place)
    state = living.footprint(target.pid) if target else None
    who = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    done = living.run_tool(*map(str, arguments), program=program, cwd=place, **who)
    assert done.returncode == code, done.stderr
    assert not done.stdout
    assert listing(place) == before
    if target:
        assert living.footprint(target.pid) == state
        assert target.ask("ping") == "pong"
    return one_line(done.stderr)


# -- processes -------------------------------------------------------------------------------------


def test_a_pid_that_does_not_exist(tmp_path: Path) -> None:
    assert str(NEVER_A_PID) in refused(tmp_path, NO_PROCESS, NEVER_A_PID)


def test_a_thread_id(tmp_path: Path, subject: Subject) -> None:
    tid = max(living.threads(subject.pid) - {subject.pid})
    text = refused(tmp_path, NO_PROCESS, tid, target=subject)
    assert f"thread of process {subject.pid}" in text


def test_a_zombie(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert "zombie" in refused(tmp_path, NO_PROCESS, process.pid)


def test_a_kernel_thread(tmp_path: Path) -> None:
    if not Path("/proc/2/comm").exists() or Path("/proc/2/comm").read_text() != "kthreadd\n":
        pytest.skip("kernel threads are not visible here")
    assert "kernel thread" in refused(tmp_path, NO_PROCESS, 2)


@needs_root
def test_a_process_of_another_user(public: Path, open_directory: Path, subject: Subject) -> None:
    program = public / "coresnap-dump"
    text = refused(
        open_directory, NOT_PERMITTED, subject.pid, target=subject, program=program, user=NOBODY
    )
    assert "belongs to user 0" in text
    assert "Run as root" in text


@needs_root
@pytest.mark.parametrize("user", [0, NOBODY])
def test_an_undumpable_process(public: Path, open_directory: Path, start: Start, user: int) -> None:
    program = public / "coresnap-dump"
    subject = start(user=NOBODY)
    subject.tell("undumpable")

    def refuse(*arguments: object) -> str:
        options = [*arguments, subject.pid]
        return refused(
            open_directory, NOT_PERMITTED, *options, target=subject, program=program, user=user
        )

    assert "--undumpable" in refuse()
    if user == NOBODY:
        refuse("--undumpable")


@needs_root
def test_an_undumpable_process_that_root_asks_for(tmp_path: Path, start: Start) -> None:
    for user in (None, NOBODY):
        subject = start(user=user)
        subject.tell("undumpable")
        path = tmp_path / str(user)
        done = living.run_tool("--undumpable", "-q", "-o", path, str(subject.pid))
        assert (done.returncode, done.stderr) == (0, "")
        assert path.stat().st_mode & 0o777 == 0o600
        assert subject.ask("ping") == "pong"


@needs_root
def test_a_setuid_program(public: Path, open_directory: Path, start: Start) -> None:
    if os.statvfs(public).f_flag & os.ST_NOSUID:
        pytest.skip("the temporary directory is mounted nosuid")
    program = public / "setuid-world"
    shutil.copy(public / "world", program)
    program.chmod(0o4755)
    subject = start("setuid-world", user=NOBODY)
    assert living.status(subject.pid, "Uid").split()[:2] == [str(NOBODY), "0"]
    for user in (0, NOBODY):
        refused(
            open_directory,
            NOT_PERMITTED,
            subject.pid,
            target=subject,
            program=public / "coresnap-dump",
            user=user,
        )
    core = open_directory / "core"
    done = living.run_tool("--undumpable", "-q", "-o", core, str(subject.pid))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_under_a_debugger(tmp_path: Path, subject: Subject, start: Start) -> None:
    debugger = start()
    debugger.tell("trace", subject.pid)
    text = refused(tmp_path, NOT_PERMITTED, subject.pid, target=subject)
    assert f"traced by process {debugger.pid}" in text


# -- processes that change during the dump ---------------------------------------------------------


def test_a_target_killed_while_it_is_stopped_and_written(subject: Subject) -> None:
    with Held(subject.pid, "-m", "stop", "--stage-budget", "1") as held:
        subject.process.kill()
        assert held.finish() == TARGET_GONE
        assert "went away" in one_line(held.talk())
        assert subject.process.wait(DEADLINE) == -signal.SIGKILL


@contextlib.contextmanager
def delayed_at_interrupt(pid: int, place: Path) -> Iterator[subprocess.Popen[str]]:
    """A dump that has attached to a process of one thread and waits before it stops it."""
    strace = living.need("strace")
    read_fd, write_fd = os.pipe()
    # -D: the tracer is a grandchild, and what we start is the tool itself.
    options = ["-D", "-f", "-qq", "-e", "trace=ptrace", "-o", f"/dev/fd/{write_fd}"]
    inject = "inject=ptrace:delay_enter=1000000:when=2"
    process = subprocess.Popen(
        [strace, *options, "-e", inject, living.tool(), "-o", "core", str(pid)],
        cwd=place,
        pass_fds=[write_fd],
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write_fd)
    try:
        living.wait_for_text(read_fd, f"PTRACE_SEIZE, {pid}, NULL, 0) = 0")
        yield process
    finally:
        os.close(read_fd)
        process.kill()
        process.wait(DEADLINE)


@pytest.mark.parametrize("change", ["exec", "exit"])
def test_a_target_that_changes_between_attach_and_stop(
    public: Path, tmp_path: Path, start: Start, change: str
) -> None:
    subject = start()
    with delayed_at_interrupt(subject.pid, tmp_path) as process:
        if change == "exec":
            assert subject.ask("exec", public / "other-world") == "ready"
        else:
            subject.process.kill()
        _, text = process.communicate(timeout=DEADLINE)
        assert process.returncode == TARGET_GONE, text
        assert ("execve" if change == "exec" else "exited") in one_line(text)
    assert list(tmp_path.iterdir()) == []
    if change == "exec":
        assert living.status(subject.pid, "TracerPid") == "0"
        assert subject.ask("ping") == "pong"


# -- outputs ---------------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("method", living.METHODS)
def test_a_full_disk(tmp_path: Path, subject: Subject, method: str) -> None:
    script = (
        'mount -t tmpfs -o size=64k tmpfs "$1" && cd "$1" || exit 99; shift; "$@"; code=$?; '
        "ls -A; exit $code"
    )
    before = living.footprint(subject.pid)
    done = living.run_tool(
        *("--mount", "sh", "-c", script, "sh", tmp_path),
        *(living.tool(), "-m", method, "-o", "core", str(subject.pid)),
        program=Path(living.need("unshare")),
    )
    assert done.returncode == NO_SPACE, done.stderr
    assert done.stdout == ""
    assert "no space left" in one_line(done.stderr)
    living.until_undisturbed(subject, before)


@pytest.mark.parametrize("method", living.METHODS)
def test_a_pipe_whose_reader_left(subject: Subject, method: str) -> None:
    before = living.footprint(subject.pid)
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    try:
        done = living.run_tool(
            *("-m", method, "-o", "-", str(subject.pid)),
            capture_output=False,
            stdout=write_fd,
            stderr=subprocess.PIPE,
        )
    finally:
        os.close(write_fd)
    assert done.returncode == FAILED
    assert "EPIPE" in one_line(done.stderr)
    living.until_undisturbed(subject, before)


@pytest.mark.parametrize("options", [["-m", "fork"], ["-m", "stop", "--stage-budget", "1"]])
def test_a_pipe_whose_reader_leaves_during_the_dump(subject: Subject, options: list[str]) -> None:
    before = living.footprint(subject.pid)
    with Held(subject.pid, *options) as held:
        held.pipe.close()
        assert held.process.wait(DEADLINE) == FAILED
        assert "EPIPE" in one_line(held.talk())
    living.until_undisturbed(subject, before)


@needs_root
def test_a_directory_that_may_not_be_written_to(public: Path, start: Start) -> None:
    subject = start(user=NOBODY)
    text = refused(
        public,
        FAILED,
        subject.pid,
        target=subject,
        program=public / "coresnap-dump",
        user=NOBODY,
    )
    assert "may not create files" in text


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing/core", "does not exist"),
        ("file/core", "not a directory"),
        ("x" * 256, "255 bytes"),
        (".", "names a directory"),
        ("../", "names a directory"),
        ("/proc/core", "no file can be created"),
    ],
)
def test_a_name_that_no_file_can_have(
    tmp_path: Path, subject: Subject, name: str, why: str
) -> None:
    (tmp_path / "file").touch()
    assert why in refused(tmp_path, FAILED, "-o", name, subject.pid, target=subject)


def make_existing(kind: str, path: Path) -> None:
    if kind == "file":
        path.write_text("precious")
    elif kind == "link":
        path.with_name("other").write_text("precious")
        path.symlink_to("other")
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    elif kind == "socket":
        with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)


KINDS = ["file", "link", "dangling link", "FIFO", "directory", "socket"]


@pytest.mark.parametrize("force", [False, True], ids=["plain", "force"])
@pytest.mark.parametrize("kind", [*KINDS, pytest.param("device", marks=needs_root)])
def test_a_name_that_exists(tmp_path: Path, subject: Subject, kind: str, force: bool) -> None:
    path = tmp_path / "core"
    make_existing(kind, path)
    options = ["--force"] if force else []
    if kind == "file" and force:
        done = living.run_tool("-q", *options, "-o", path, str(subject.pid))
        assert (done.returncode, done.stderr) == (0, "")
        assert path.stat().st_mode & 0o777 == 0o600
        assert [p.name for p in tmp_path.iterdir()] == ["core"]
        with Core(path) as core:
            assert len(core.threads) == 3
        return
    text = refused(tmp_path, FAILED, *options, "-o", path, subject.pid, target=subject)
    assert re.search(f"exists|is a (symbolic )?{kind.removeprefix('dangling ')}", text)


def test_a_terminal(subject: Subject) -> None:
    ours, terminal = pty.openpty()
    try:
        before = living.footprint(subject.pid)
        done = living.run_tool(
            *("-o", "-", str(subject.pid)),
            capture_output=False,
            stdout=terminal,
            stderr=subprocess.PIPE,
        )
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)
    finally:
        os.close(ours)
        os.close(terminal)
    assert done.returncode == USAGE
    assert "terminal" in one_line(done.stderr)
    assert living.footprint(subject.pid) == before


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["PID", "PID"],
        ["abc"],
        ["0"],
        ["-5"],
        ["4294967297"],
        ["-m", "gcore", "PID"],
        ["--filter", "x", "PID"],
        ["--filter", "-1", "PID"],
        ["--stage-budget", "1k", "PID"],
        ["--stop-timeout", "0", "PID"],
        ["--stop-timeout", "nan", "PID"],
        ["--bogus", "PID"],
        ["--force=1", "PID"],
        ["-xq", "PID"],
        ["PID", "-o"],
        ["PID", "--output"],
        ["-o", "", "PID"],
    ],
    ids=" ".join,
)
def test_options_that_mean_nothing(tmp_path: Path, subject: Subject, arguments: list[str]) -> None:
    given = [str(subject.pid) if word == "PID" else word for word in arguments]
    refused(tmp_path, USAGE, *given, target=subject)
