# SPDX-License-Identifier: BSD-3-Clause
"""Bad input, given to the command as real processes.

Every case: the exit code of the table, one paragraph that says what to do, the target untouched,
no file under the final name and none under a temporary one.
"""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coresnap_cli.exit_codes import ExitCode
from packages.cli.tests.actors import DEADLINE, NOBODY, Command, Program, started

pytestmark = pytest.mark.host

# Above PID_MAX_LIMIT of the kernel's include/linux/threads.h.
NO_PID = 4_194_305
PF_KTHREAD = 0x00200000


# -- which process ------------------------------------------------------------------------------


def test_a_pid_that_does_not_exist(command: Command) -> None:
    done = command("dump", NO_PID)
    assert done.code == ExitCode.NO_PROCESS
    done.one_paragraph(str(NO_PID))
    assert command.files() == []


@pytest.mark.parametrize("text", ["0", "-1", "abc", "12x", "99999999999", "\x1b[2J", ""])
def test_what_is_no_pid(command: Command, text: str) -> None:
    done = command("dump", "--", text)
    assert done.code == ExitCode.USAGE
    done.one_paragraph("is not a process id")
    assert "\x1b" not in done.err
    assert command.files() == []


def test_a_thread_is_not_a_process(command: Command) -> None:
    tid = _thread_of_ours()
    done = command("dump", tid)
    assert done.code == ExitCode.NO_PROCESS
    done.one_paragraph(f"id you mean `coresnap dump {os.getpid()}`")


def _thread_of_ours() -> int:
    import threading

    release = threading.Event()
    thread = threading.Thread(target=release.wait, args=(DEADLINE,), daemon=True)
    thread.start()
    assert thread.native_id is not None
    return thread.native_id


def test_a_zombie(command: Command) -> None:
    child = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        done = command("dump", child.pid)
    finally:
        child.wait(DEADLINE)
    assert done.code == ExitCode.NO_PROCESS
    done.one_paragraph(str(child.pid))
    assert command.files() == []


def test_a_kernel_thread(command: Command) -> None:
    pid = next(_kernel_threads(), None)
    if pid is None:
        pytest.skip("no kernel thread can be seen from this pid namespace")
    done = command("dump", pid)
    assert done.code == ExitCode.NO_PROCESS
    done.one_paragraph(str(pid))
    assert command.files() == []


def _kernel_threads() -> Iterator[int]:
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (place / "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[6]) & PF_KTHREAD:
                    yield int(place.name)


def test_a_process_of_another_user(command: Command, target: Program, root: None) -> None:
    command.cwd.chmod(0o777)
    done = command("dump", target.pid, uid=NOBODY)
    assert done.code == ExitCode.NOT_PERMITTED
    done.one_paragraph(str(target.pid))
    target.untouched()
    assert command.files() == []


def test_ones_own_process_without_rights(command: Command, root: None) -> None:
    command.cwd.chmod(0o777)
    with started("target", "--uid", str(NOBODY)) as own:
        done = command("dump", own.pid, uid=NOBODY)
        own.untouched()
    assert (done.code, command.files()) == (0, [f"core.{own.pid}"]), done.err
    assert (command.cwd / f"core.{own.pid}").stat().st_uid == NOBODY


@pytest.mark.parametrize("uid", [None, NOBODY])
@pytest.mark.parametrize("way", [["--undumpable"], ["--setuid", str(NOBODY)]])
def test_an_undumpable_process(
    command: Command, root: None, uid: int | None, way: list[str]
) -> None:
    command.cwd.chmod(0o777)
    extra = ["--uid", str(NOBODY)] if way == ["--undumpable"] else []
    with started("target", *extra, *way) as hidden:
        done = command("dump", hidden.pid, uid=uid)
        hidden.untouched()
    assert done.code == ExitCode.NOT_PERMITTED
    done.one_paragraph(str(hidden.pid))
    assert command.files() == []


def test_an_undumpable_process_when_asked_for(command: Command, root: None) -> None:
    with started("target", "--undumpable") as hidden:
        done = command("dump", hidden.pid, "--undumpable")
        hidden.untouched()
    assert (done.code, command.files()) == (0, [f"core.{hidden.pid}"]), done.err


def test_a_process_under_a_debugger(command: Command, target: Program) -> None:
    with started("tracer", str(target.pid)) as tracer:
        done = command("dump", target.pid)
        target.untouched(tracer=tracer.pid)
    assert done.code == ExitCode.NOT_PERMITTED
    done.one_paragraph(str(target.pid))
    target.untouched()
    assert command.files() == []


def test_an_ambiguous_name(command: Command) -> None:
    # A name of this test process's own: other workers run the same test.
    name = f"two{os.getpid()}"
    hexed = name.encode().hex()
    evil = "\x1b[31m[red]\u202e"
    with (
        started("target", "--name", hexed, evil) as one,
        started("target", "--name", hexed) as two,
    ):
        done = command("dump", "-n", name)
        one.untouched()
        two.untouched()
    assert done.code == ExitCode.USAGE
    assert str(one.pid) in done.err
    assert str(two.pid) in done.err
    assert "\\x1b[31m[red]\\u202e" in done.err
    assert "\x1b" not in done.err
    assert done.err.splitlines()[-2].startswith("coresnap: 2 processes")
    assert command.files() == []


def test_an_unambiguous_name(command: Command) -> None:
    name = f"one{os.getpid()}"
    with started("target", "--name", name.encode().hex()) as one:
        done = command("dump", "-n", name)
        one.untouched()
    assert (done.code, command.files()) == (0, [f"core.{one.pid}"]), done.err


def test_a_name_of_nobody(command: Command) -> None:
    done = command("dump", "-n", "no such \x1b[2J")
    assert done.code == ExitCode.NO_PROCESS
    done.one_paragraph("no such \\x1b[2J")


# -- what happens meanwhile ----------------------------------------------------------------------


def test_a_target_that_is_killed_during_the_dump(command: Command) -> None:
    with started("target", "--memory", "16") as victim:
        run = command.start(
            "dump", victim.pid, "--method", "stop", "--stage-budget", "4096", "-o", "-"
        )
        assert run.stdout is not None
        assert run.stdout.read(4) == b"\x7fELF"
        # The pipe is full long before 16 MiB, so the target is stopped in the middle of it.
        victim.process.kill()
        _, err = run.communicate(timeout=DEADLINE)
    assert run.returncode == ExitCode.TARGET_GONE, err
    assert err.startswith(b"coresnap: ")
    assert err.count(b"\n") <= 2


def test_a_pause_that_would_be_too_long(command: Command) -> None:
    with started("target") as target:
        done = command("dump", target.pid, "--max-pause", "1us", "--json")
        assert done.code == ExitCode.PAUSE
        done.one_paragraph("would stand still", "1 us are allowed")
        assert json.loads(done.out)["dumps"][0]["error"]["exit_code"] == 11
        assert command.files() == []
        target.untouched()
        done = command("dump", target.pid, "--max-pause", "10 m")
        assert done.code == ExitCode.USAGE and "like 20ms" in done.err
        assert command("dump", target.pid, "--max-pause", "0.6e3s").code == ExitCode.USAGE
        assert command("dump", target.pid, "--max-pause", "600s").code == ExitCode.OK
        target.untouched()


def test_a_target_that_calls_execve_all_the_time(command: Command) -> None:
    with started("target", "--exec-loop") as restless:
        for number in range(8):
            path = command.cwd / str(number)
            done = command("dump", restless.pid, "-o", path)
            assert done.code in (0, ExitCode.TARGET_GONE), done.err
            assert path.exists() == (done.code == 0)
            if done.code:
                done.one_paragraph(str(restless.pid))
            assert restless.process.poll() is None
            assert restless.status("TracerPid") == "0"
        assert all(name.isdecimal() for name in command.files())


def test_a_thread_that_cannot_be_stopped(command: Command, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with started("vfork", str(fifo)) as stuck:
        _wait_for_state(stuck.pid, "D")
        done = command("dump", stuck.pid, "--stop-timeout", "0.2", "--json")
        core = command.cwd / f"core.{stuck.pid}"
        assert done.code == ExitCode.INCOMPLETE, done.err
        done.one_paragraph("did not stop in time")
        [dump] = json.loads(done.out)["dumps"]
        assert dump["missed"] == 1
        assert [skip["reason"] for skip in dump["skipped"] if skip["tid"]] == ["thread"]
        assert core.exists()
        assert stuck.status("TracerPid") == "0"
        fifo.write_text("")  # waits until the child has opened it
        assert stuck.line() == "done"


def _wait_for_state(pid: int, letter: str) -> None:
    """Wait until a thread of the process is in a state."""
    until = time.monotonic() + DEADLINE
    while True:
        for task in Path(f"/proc/{pid}/task").iterdir():
            if (task / "stat").read_bytes().rpartition(b") ")[2][:1] == letter.encode():
                return
        assert time.monotonic() < until, f"no thread came into state {letter}"


def test_a_closed_pipe(command: Command) -> None:
    with started("target", "--memory", "4") as piped:
        for method in ("precopy", "fork", "stop"):
            run = command.start("dump", piped.pid, "--method", method, "-o", "-")
            assert run.stdout is not None
            assert run.stdout.read(4) == b"\x7fELF"
            run.stdout.close()
            assert run.stderr is not None
            err = run.stderr.read().decode()
            run.stderr.close()
            assert run.wait(DEADLINE) == ExitCode.FAILED, err
            assert err.startswith("coresnap: ")
            assert "Traceback" not in err
            piped.untouched()
    assert command.files() == []


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
@pytest.mark.parametrize("method", ["precopy", "fork", "stop"])
def test_a_signal_while_the_reader_is_slow(
    command: Command, method: str, signum: signal.Signals, code: ExitCode
) -> None:
    with started("target", "--memory", "4") as target:
        # Precopy has to stage what was written at the last.
        budget = () if method == "precopy" else ("--stage-budget", "4096")
        run = command.start("dump", target.pid, "--method", method, *budget, "-o", "-")
        assert run.stdout is not None
        assert run.stdout.read(4) == b"\x7fELF"
        run.send_signal(signum)
        _, err = run.communicate(timeout=DEADLINE)
        assert run.returncode == code, err
        assert b"Traceback" not in err
        if signum == signal.SIGINT:
            goes_on = f"process {target.pid} goes on, and its core was given up."
            assert err.decode() == f"coresnap: interrupted; {goes_on}\n"
        target.untouched()
    assert command.files() == []


def test_sighup_cleans_up_and_ends_by_it(command: Command, target: Program) -> None:
    run = command.start("dump", target.pid, "--method", "stop", "--stage-budget", "4096", "-o", "-")
    assert run.stdout is not None
    assert run.stdout.read(4) == b"\x7fELF"
    run.send_signal(signal.SIGHUP)
    run.communicate(timeout=DEADLINE)
    assert run.returncode == -signal.SIGHUP
    target.untouched()


@pytest.mark.parametrize("method", ["precopy", "fork", "stop"])
def test_sigterm_deletes_what_was_written(command: Command, method: str) -> None:
    with started("target", "--memory", "192") as target:
        run = command.start("dump", target.pid, "--method", method)
        _stop_when(run, lambda: command.files() != [])
        assert command.files() != []
        run.send_signal(signal.SIGTERM)
        run.send_signal(signal.SIGCONT)
        _, err = run.communicate(timeout=DEADLINE)
        assert run.returncode == ExitCode.TERMINATED, err
        assert command.files() == []
        target.untouched()


def _stop_when(run: subprocess.Popen[bytes], seen: Callable[[], bool]) -> None:
    """Freeze a process as soon as something can be seen of it."""
    until = time.monotonic() + DEADLINE
    while not seen():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < until, "nothing was seen"
    run.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, run.pid, os.WSTOPPED | os.WNOWAIT | os.WEXITED)


# -- where the core goes -------------------------------------------------------------------------


def _mounts(command: Command) -> list[str]:
    """Start of a command line that runs with a tmpfs of 256 KiB at ./full."""
    (command.cwd / "full").mkdir()
    script = 'mount -t tmpfs -o size=256k none full && "$@"; code=$?; ls -A full; exit $code'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


@pytest.mark.parametrize("method", ["precopy", "fork", "stop"])
def test_a_full_disk(command: Command, target: Program, root: None, method: str) -> None:
    done = command.wrapped(
        _mounts(command), "dump", target.pid, "--method", method, "-o", "full/core"
    )
    if "mount:" in done.err:
        pytest.skip("mounts are not possible here: " + done.err)
    assert done.code == ExitCode.NO_SPACE, done.err
    done.one_paragraph("full")
    assert done.out == b"", "something was left in the file system"
    target.untouched()


@pytest.mark.parametrize("method", ["auto", "precopy", "fork", "stop"])
def test_a_disk_of_which_too_little_would_stay_free(
    command: Command, target: Program, root: None, method: str
) -> None:
    words = ("dump", target.pid, "--method", method, "-o", "full/core")
    prefix = [part.replace("256k", "256m") for part in _mounts(command)]
    done = command.wrapped(prefix, *words, "--min-free", "99%", "--on-stopped", "touch stopped")
    if "mount:" in done.err:
        pytest.skip("mounts are not possible here: " + done.err)
    assert (done.code, done.out) == (ExitCode.NO_SPACE, b""), done.err
    done.one_paragraph("the core takes about", "of the 256 MiB", "are to stay free", "--min-free")
    assert command.files() == ["full"]
    target.untouched()
    done = command.wrapped(prefix, *words, "--min-free", "100MiB")
    assert (done.code, done.out) == (ExitCode.OK, b"core\n"), done.err
    target.untouched()


def test_an_unwritable_directory(command: Command, root: None) -> None:
    command.cwd.chmod(0o755)
    with started("target", "--uid", str(NOBODY)) as own:
        done = command("dump", own.pid, uid=NOBODY)
        own.untouched()
    assert done.code == ExitCode.FAILED
    done.one_paragraph()
    assert command.files() == []


@pytest.mark.parametrize("place", ["missing/core", "/proc/core", "file/core", "x" * 300])
def test_a_place_that_takes_no_file(command: Command, target: Program, place: str) -> None:
    (command.cwd / "file").write_text("")
    done = command("dump", target.pid, "-o", place)
    assert done.code == ExitCode.FAILED, done.err
    done.one_paragraph()
    target.untouched()
    assert command.files() == ["file"]


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "fifo", "device"])
@pytest.mark.parametrize("force", [False, True])
def test_a_final_name_that_exists(
    command: Command, target: Program, kind: str, force: bool
) -> None:
    path, other = command.cwd / "core", command.cwd / "other"
    path_of: Path = path
    if kind == "file":
        path.write_text("kept")
    elif kind == "link":
        other.write_text("kept")
        path.symlink_to(other)
    elif kind == "dangling":
        path.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path_of = Path("/dev/null")
    before = command.files()
    done = command("dump", target.pid, "-o", path_of, *(["--force"] if force else []))
    target.untouched()
    assert command.files() == before
    if kind == "file" and force:
        assert done.code == 0, done.err
        assert path.read_bytes()[:4] == b"\x7fELF"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        return
    assert done.code == ExitCode.FAILED, done.err
    done.one_paragraph()
    if kind == "file":
        assert path.read_text() == "kept"
    if kind == "link":
        assert other.read_text() == "kept"
    assert Path("/dev/null").is_char_device()


def test_several_processes_and_one_of_them_is_bad(command: Command, target: Program) -> None:
    done = command("dump", NO_PID, target.pid)
    assert done.code == ExitCode.NO_PROCESS
    assert done.err.startswith("coresnap: ")
    assert command.files() == [f"core.{target.pid}"]
    target.untouched()


def test_the_core_is_private_whatever_the_umask(command: Command, target: Program) -> None:
    done = command.wrapped(["sh", "-c", 'umask 0; "$@"', "sh"], "dump", target.pid)
    assert done.code == 0, done.err
    path = command.cwd / f"core.{target.pid}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_terminal_as_output(command: Command, target: Program) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            command.argv("dump", target.pid, "-o", "-"), cwd=command.cwd, env=command.env(),
            stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, timeout=DEADLINE,
        )  # fmt: skip
        ready, _, _ = select.select([ours], [], [], 0)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == ExitCode.USAGE
    assert b"terminal" in done.stderr
    assert not ready, "something was written to the terminal"
    target.untouched()
    assert command.files() == []


def test_a_bar_on_a_terminal_and_no_colour_with_no_color(command: Command) -> None:
    ours, theirs = pty.openpty()
    with started("target", "--memory", "64") as target, os.fdopen(ours, "rb", buffering=0) as seen:
        fcntl.ioctl(theirs, 0x5414, b"\x18\x00\x50\x00\0\0\0\0")  # TIOCSWINSZ: 24 × 80
        run = subprocess.Popen(
            command.argv("dump", target.pid), cwd=command.cwd,
            env={**command.env(), "TERM": "xterm"},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # EIO: nobody holds the other side any more
            while piece := seen.read(4096):
                text += piece
        assert run.wait(DEADLINE) == 0
    assert f"coresnap debug core.{target.pid}".encode() in text
    assert b"\x1b[3" not in text, "a colour"


def test_a_command_that_fails_while_the_process_stands_still(
    command: Command, target: Program
) -> None:
    done = command("dump", target.pid, "--on-stopped", "exit 1")
    assert done.code == ExitCode.FAILED
    done.one_paragraph("refused while it was stopped")
    target.untouched()
    assert command.files() == []


def test_options_that_make_no_sense(command: Command, target: Program) -> None:
    for arguments in (
        ("--method", "magic"), ("--filter", "zz"), ("--stop-timeout", "-1"),
        ("--stop-timeout", "nan"), ("--stage-budget", "1.5"), ("--what",), ("-n", "x"),
        ("--max-size", "0"), ("--max-size", "-1"), ("--keep", "small-first"), ("--keep", "x"),
        ("--core-limit", "100"), ("--note", "a"), ("--note", "a:b:c"), ("--note", "a:1:nosuch"),
        ("--note", f"a:{1 << 32}:/dev/null"), ("--nice", "20"), ("--io-prio", "-1"),
        ("--oom-adj", "16"), ("--oom-adj", "first"), ("--min-free", "0"), ("--min-free", "-1"),
        ("--min-free", "100%"), ("--min-free", "0%"), ("--min-free", "1.5GiB"),
        ("--min-free", "all"),
    ):  # fmt: skip
        done = command("dump", target.pid, *arguments)
        assert done.code == ExitCode.USAGE, arguments
        done.one_paragraph()
    for words in ("", "dump", "nosuch", "info"):
        done = command(*words.split())
        assert done.code == ExitCode.USAGE, words
    target.untouched()
    assert command.files() == []
