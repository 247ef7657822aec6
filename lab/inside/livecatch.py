# SPDX-License-Identifier: BSD-3-Clause
"""coresnap-catch where it works: in a guest, as core_pattern, each promise a function.

Assertions are seen on the host as the error of the call.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.inside.livefile import PATTERN, PIPE_LIMIT, become, directory, echo, setting, subject
from lab.inside.process import DEADLINE, wait_until
from lab.matrix import NOBODY

CATCH = Path("/run/coresnap-catch")
DUMP = Path("/run/coresnap-dump")
SLOW = "import os, sys; held = bytearray(os.urandom(4096)) * 1024; print(flush=True); input()"
"""A process of 4 MiB that are no hole: its core fills the pipes."""


@contextmanager
def caught(where: Path, handler: str = "") -> Iterator[None]:
    """core_pattern is coresnap-catch; ``handler`` is a script that gets other cores."""
    line = f"|{CATCH} %P %c"
    if handler:
        script = where / "handler"
        script.write_text(f"#!/bin/sh\ncd {where}\n{handler}\n")
        script.chmod(0o755)
        line += f" {script} %P"
    with setting(PIPE_LIMIT, "4"), setting(PATTERN, line):
        yield


KEEP = "cat >kept.new && mv kept.new kept.$1"


def dumped(pid: int, *options: str, user: int | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run coresnap-dump to its end."""
    argv: list[str | Path] = [DUMP, *options, str(pid)]
    return subprocess.run(
        argv,
        capture_output=True,
        timeout=DEADLINE,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


def told(done: subprocess.CompletedProcess[bytes], code: int = 0) -> dict[str, object]:
    """What it says with --json."""
    assert done.returncode == code, (done.returncode, done.stderr.decode())
    said = json.loads(done.stdout)
    assert isinstance(said, dict)
    return said


def _is_core(file: Path) -> bool:
    return file.read_bytes()[:4] == b"\x7fELF"


def a_core_goes_to_a_file_a_pipe_or_a_compressor() -> None:
    with directory() as where, subject(where) as process, caught(where, KEEP):
        said = told(dumped(process.pid, "--json", "-m", "livedump", "-o", str(where / "one")))
        assert said["method"] == "livedump" and said["pause_ns"] == 0 and said["threads"] == 1
        piped = dumped(process.pid, "-m", "livedump", "-o", "-").stdout
        assert len(piped) == said["core_size"] == (where / "one").stat().st_size
        told(
            dumped(
                process.pid, "--json", "-m", "livedump", "--compress", "zstd",
                "-o", str(where / "packed"),
            )
        )  # fmt: skip
        assert (where / "packed").read_bytes()[:4] == b"\x28\xb5\x2f\xfd"
        assert _is_core(where / "one") and not list(where.glob("kept*"))
        assert echo(process)


def max_size_cuts_it_there() -> None:
    with directory() as where, subject(where) as process, caught(where):
        said = told(
            dumped(
                process.pid, "--json", "-m", "livedump", "--max-size", "10000",
                "-o", str(where / "cut"),
            )
        )  # fmt: skip
        assert (where / "cut").stat().st_size == 10000 == said["core_size"]
        assert isinstance(said["whole_size"], int) and said["whole_size"] > 100_000
        assert echo(process)


def a_small_core_is_not_lost() -> None:
    """The copy waits in /proc until the core is read, also if it fits into the pipe."""
    with directory() as where, subject(where) as process, caught(where):
        Path(f"/proc/{process.pid}/coredump_filter").write_text("0")
        for _ in range(5):
            said = told(dumped(process.pid, "--json", "-f", "-m", "livedump", "-o", "/tmp/small"))
            assert isinstance(said["core_size"], int) and said["core_size"] < 65536


def auto_takes_it_and_steps_down_with_the_reason() -> None:
    with directory() as where, subject(where) as process:
        with caught(where):
            said = told(dumped(process.pid, "--json", "-o", str(where / "a")))
            assert (said["method"], said["why_not"]) == ("livedump", [])
            said = told(dumped(process.pid, "--json", "--filter", "0x33", "-o", str(where / "b")))
            assert said["method"] in ("fork", "stop")
            assert "filter" in str(said["why_not"]), said
            with setting(Path("/proc/sys/user/max_pid_namespaces"), "0"):
                said = told(dumped(process.pid, "--json", "-o", str(where / "c")))
            assert said["method"] in ("fork", "stop")
            assert "pid namespaces" in str(said["why_not"]), said
            with setting(PIPE_LIMIT, "0"):
                said = told(dumped(process.pid, "--json", "-o", str(where / "d")))
            assert "core_pipe_limit" in str(said["why_not"]), said
        # Of a system that is not set up for it nothing is said.
        said = told(dumped(process.pid, "--json", "-o", str(where / "e")))
        assert "livedump" not in str(said["why_not"]), said


def its_user_may_have_it_and_needs_a_hard_limit_that_is_none() -> None:
    with directory() as where, subject(where, user=NOBODY) as process, caught(where):
        out = str(where / "mine")
        said = told(dumped(process.pid, "--json", "-m", "livedump", "-o", out, user=NOBODY))
        assert said["method"] == "livedump" and echo(process)
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 4096))
        done = dumped(process.pid, "-m", "livedump", "-o", out + "2", user=NOBODY)
        assert done.returncode == 4 and b"hard core limit" in done.stderr, done
        assert told(dumped(process.pid, "--json", "-m", "livedump", "-o", out + "3"))


def refusals_have_their_codes() -> None:
    with directory() as where, subject(where) as process:
        out = str(where / "core")
        done = dumped(process.pid, "-m", "livedump", "-o", out)
        assert done.returncode == 1 and b"coresnap-catch %P %c" in done.stderr, done
        with caught(where):
            done = dumped(process.pid, "-m", "livedump", "-o", out, user=NOBODY)
            assert done.returncode == 4, done
            done = dumped(process.pid, "-m", "livedump", "--core-limit", "10000", "-o", out)
            assert done.returncode == 2 and b"core limit" in done.stderr, done
            done = dumped(2, "-m", "livedump", "-o", out)
            assert done.returncode == 3, done
        assert not list(where.glob("core*"))


def a_crash_goes_to_handler_also_with_a_limit_like_a_token() -> None:
    with directory() as where, caught(where, KEEP):
        for limit in (0, -1, 2**30 + 5, 2**62 + 7):
            if limit > 2**32 and os.uname().machine == "armv7l":
                continue
            with subject(where, core=(limit, -1)) as process:
                process.send_signal(signal.SIGSEGV)
                process.wait(DEADLINE)
                kept = where / f"kept.{process.pid}"
                wait_until(kept.exists, "the core of a crash")
                assert _is_core(kept)


def without_a_listener_the_core_goes_to_handler() -> None:
    """Somebody else's dump, with a limit that is a token by chance; one that is not read by us."""
    with directory() as where, subject(where) as process, caught(where, KEEP):
        for limit in (2**30 + 77, "unlimited"):
            Path(f"/proc/{process.pid}/livedump").write_text(f"core_limit={limit}\n")
        wait_until(lambda: len(list(where.glob("kept.*"))) == 2, "the handler's cores")
        assert all(map(_is_core, where.glob("kept.*"))) and echo(process)


@contextmanager
def listening(token: int, user: int | None = None) -> Iterator[socket.socket]:
    """An impostor's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.settimeout(DEADLINE)
        if user is not None:
            os.seteuid(user)
        try:
            listener.bind(f"\0coresnap-catch/{token}")
            listener.listen()
        finally:
            os.seteuid(0)
        yield listener


def an_impostor_that_listens_gets_nothing() -> None:
    """Another user's process; one of root's, or of a setuid program's, are not nobody's to have."""
    token = 2**30 + 99
    with directory() as where, subject(where) as process, caught(where, KEEP):
        with listening(token, user=NOBODY) as listener:
            Path(f"/proc/{process.pid}/livedump").write_text(f"core_limit={token}\n")
            wait_until(lambda: bool(list(where.glob("kept.*"))), "the handler's core")
            (kept,) = where.glob("kept.*")
            assert _is_core(kept)
            peer, _ = listener.accept()
            with peer:
                assert peer.recv(100) == b""
        assert echo(process)


def an_impostor_that_dumps_with_the_token_pushes_nothing_in() -> None:
    """It reads the token of a dump under way; its own core goes to HANDLER."""
    with (
        directory() as where,
        caught(where, KEEP),
        subject(where, user=NOBODY) as other,
        subject(where, program=SLOW) as process,
        _held(process.pid) as (dump, copy),
    ):
        token = _core_limit(copy)
        child = os.fork()
        if child == 0:
            try:
                become(NOBODY)
                Path(f"/proc/{other.pid}/livedump").write_text(f"core_limit={token}\n")
            finally:
                os._exit(0)
        wait_until(lambda: bool(list(where.glob("kept.*"))), "the handler's core")
        os.waitpid(child, 0)
        assert dump.stdout is not None
        core = dump.stdout.read()
        assert dump.wait(DEADLINE) == 0
        assert len(core) > 4 << 20


def _core_limit(pid: int) -> int:
    (line,) = (
        line
        for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
        if line.startswith("Max core file size")
    )
    return int(line.split()[4])


def _copies(pid: int) -> list[int]:
    """The copies of it that there are."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = Path("/proc", entry, "status").read_text()
        except OSError:  # it is gone
            continue
        if f"\nNSpid:\t{entry}\t{pid}\n" in status:
            found.append(int(entry))
    return found


@contextmanager
def _held(pid: int, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A dump whose reader does not read, and the copy."""
    argv = [str(DUMP), "-m", "livedump", *options, "-o", "-", str(pid)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as dump:
        assert dump.stdout is not None
        try:
            # There is something to read when coresnap has taken the core.
            assert select.select([dump.stdout], [], [], DEADLINE)[0]
            wait_until(lambda: len(_copies(pid)) == 1, "the copy")
            yield dump, _copies(pid)[0]
        finally:
            dump.kill()


def a_killed_coresnap_ends_the_copy() -> None:
    with directory() as where, subject(where, program=SLOW) as process, caught(where):
        for signum in (signal.SIGKILL, signal.SIGINT):
            with _held(process.pid) as (dump, _):
                dump.send_signal(signum)
                dump.wait(DEADLINE)
            wait_until(lambda: not _copies(process.pid), "the end of the copy")
        assert process.poll() is None


def a_killed_copy_is_an_error_and_leaves_no_file() -> None:
    with directory() as where, subject(where, program=SLOW) as process, caught(where):
        with _held(process.pid) as (dump, copy):
            os.kill(copy, signal.SIGKILL)
            assert dump.stdout is not None
            dump.stdout.read()
            assert dump.wait(DEADLINE) == 1
        assert process.poll() is None


def _priorities(tid: int) -> tuple[int, str]:
    """The nice value of a thread, and its I/O priority as ionice(1) prints it."""
    ionice = subprocess.run(["ionice", "-p", str(tid)], capture_output=True, text=True, check=True)
    return os.getpriority(os.PRIO_PROCESS, tid), ionice.stdout.strip()


def _threads_of_children(pid: int) -> list[int]:
    """All threads of the children of a process."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(tid) for child in listed for tid in os.listdir(f"/proc/{child}/task")]


def priorities_are_those_of_the_copy_and_of_what_takes_its_core() -> None:
    asked = (7, "best-effort: prio 6")
    options = ("--nice", "7", "--io-prio", "6", "--oom-adj", "3")
    with directory() as where, subject(where, program=SLOW) as process, caught(where):
        usual = _priorities(process.pid), Path(f"/proc/{process.pid}/oom_score_adj").read_text()
        with _held(process.pid, *options) as (dump, copy):
            assert _priorities(copy) == asked, _priorities(copy)
            assert int(Path(f"/proc/{copy}/oom_score_adj").read_text()) == 3 * 1000 // 17
            wait_until(
                lambda: asked in map(_priorities, _threads_of_children(dump.pid)),
                "a thread of coresnap with the priorities",
            )
            now = _priorities(process.pid), Path(f"/proc/{process.pid}/oom_score_adj").read_text()
            assert now == usual, now
            assert dump.stdout is not None
            assert len(dump.stdout.read()) > 4 << 20
            assert dump.wait(DEADLINE) == 0
        wait_until(lambda: not _copies(process.pid), "the end of the copy")
        assert process.poll() is None


def two_at_once_get_each_their_own() -> None:
    with directory() as where, subject(where) as one, subject(where, program=SLOW) as two:
        with caught(where):
            running = [
                subprocess.Popen(
                    [str(DUMP), "-q", "-m", "livedump", "-o", f"{where}/{p.pid}", str(p.pid)]
                )
                for p in (one, two)
            ]
            assert [each.wait(DEADLINE) for each in running] == [0, 0]
        assert (where / str(one.pid)).stat().st_size < 4 << 20
        assert (where / str(two.pid)).stat().st_size > 4 << 20


def pair(ours: str, standard: str) -> None:
    """A core that came to coresnap, and one of the same process by the standard way."""
    with directory() as where, subject(where) as process:
        with caught(where):
            assert told(dumped(process.pid, "--json", "-m", "livedump", "-o", ours))
        with setting(PATTERN, standard):
            Path(f"/proc/{process.pid}/livedump").write_text("core_limit=unlimited\n")


def from_within_a_container_the_kernel_is_not_asked() -> None:
    """Its core would be taken for one of a crash, also by the method auto."""
    with directory() as where, caught(where, KEEP):
        script = f"{DUMP} --json -o {where}/own $$; exit $?"
        done = subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script],
            capture_output=True,
            timeout=DEADLINE,
        )
        said = told(done)
        assert said["method"] in ("fork", "stop") and "container" in str(said["why_not"]), said
        assert not list(where.glob("kept*"))


CASES: tuple[Callable[[], None], ...] = (
    a_core_goes_to_a_file_a_pipe_or_a_compressor,
    max_size_cuts_it_there,
    a_small_core_is_not_lost,
    auto_takes_it_and_steps_down_with_the_reason,
    its_user_may_have_it_and_needs_a_hard_limit_that_is_none,
    refusals_have_their_codes,
    a_crash_goes_to_handler_also_with_a_limit_like_a_token,
    without_a_listener_the_core_goes_to_handler,
    an_impostor_that_listens_gets_nothing,
    an_impostor_that_dumps_with_the_token_pushes_nothing_in,
    a_killed_coresnap_ends_the_copy,
    a_killed_copy_is_an_error_and_leaves_no_file,
    priorities_are_those_of_the_copy_and_of_what_takes_its_core,
    two_at_once_get_each_their_own,
    from_within_a_container_the_kernel_is_not_asked,
)
