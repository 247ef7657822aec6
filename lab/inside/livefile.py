# SPDX-License-Identifier: BSD-3-Clause
"""/proc/PID/livedump where its process lives: who writes what to it, and what becomes of it.

Settings of the whole system, such as core_pattern, are changed and put back.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.inside.process import DEADLINE, wait_until

PATTERN = Path("/proc/sys/kernel/core_pattern")
PIPE_LIMIT = Path("/proc/sys/kernel/core_pipe_limit")
EMPTY = "\n"
"""What a shell's `echo ""` writes."""
UNLIMITED = "core_limit=unlimited"

# The program of core_pattern: it keeps what the copy is like, waits until it is let go, and takes
# the core.
HELPER = """\
#!/bin/sh
cd {directory}
cp /proc/$1/status status
cp /proc/$1/limits limits
cp /proc/$1/oom_score_adj oom_score_adj
ls /proc/$1/task >threads
cut -d ' ' -f 19 /proc/$1/stat >nice
ionice -p $1 >ionice
echo $1 >pid.new && mv pid.new pid
read word <gate
cat >core
mv core piped
"""


@contextmanager
def setting(file: Path, value: str) -> Iterator[None]:
    """A file of /proc or /sys has this value meanwhile."""
    before = file.read_text()
    file.write_text(value)
    try:
        yield
    finally:
        file.write_text(before)


@contextmanager
def directory() -> Iterator[Path]:
    """A directory that everybody may use, on a file system that knows set-user-id programs."""
    path = Path(tempfile.mkdtemp(prefix="livedump-", dir="/run"))
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=777,suid", "cores", path], check=True)
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
        path.rmdir()


@contextmanager
def subject(
    where: Path,
    *,
    user: int | None = None,
    core: tuple[int, int] = (0, -1),
    program: str = "",
    argv: Sequence[str] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers each line with the same line, as cat does; or a Python program, or
    that of ``argv``.

    ``core`` is its RLIMIT_CORE, soft and hard. A program begins by writing a line.
    """
    begins = bool(program or argv)
    if program:
        argv = [sys.executable, "-c", program]
    with subprocess.Popen(
        argv or ["cat"],
        cwd=where,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        bufsize=0,
    ) as process:
        assert process.stdout is not None
        try:
            if begins:
                assert process.stdout.readline()
            else:
                assert echo(process)
            resource.prlimit(process.pid, resource.RLIMIT_CORE, core)
            yield process
        finally:
            process.kill()


def echo(process: subprocess.Popen[bytes]) -> bool:
    """Does it answer?"""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"still there\n")
    return process.stdout.readline() == b"still there\n"


def numbers(status: str) -> list[str]:
    """A process's numbers in each pid namespace, the outermost first, by its /proc/PID/status."""
    (found,) = (line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
    return found


class Attempt:
    """A write by a process of its own: ``user`` opens the file, or has ``fd``, and writes to it."""

    def __init__(
        self,
        pid: int | str,
        text: bytes | str,
        *,
        user: int | None = None,
        fd: int | None = None,
    ) -> None:
        data = text.encode() if isinstance(text, str) else text
        self._reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                if user is not None:
                    become(user)
                os.write(writer, _written(pid, data, fd).encode())
            finally:
                os._exit(0)
        os.close(writer)

    def over(self) -> bool:
        """Has it ended?"""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def result(self) -> str:
        """Wait for it: "ok", "open EACCES", "EINVAL" and so on; "" if it was killed."""
        with os.fdopen(self._reader) as answer:
            said = answer.read()
        os.waitpid(self.pid, 0)
        return said


def attempt(pid: int | str, text: bytes | str, *, user: int | None = None) -> str:
    """The result of an Attempt."""
    return Attempt(pid, text, user=user).result()


def expect(wanted: str, said: str) -> None:
    """Assert, and tell what it was."""
    assert said == wanted, f"{said}, not {wanted}"


def become(user: int) -> None:
    """This process is that user's from now on."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _written(pid: int | str, data: bytes, fd: int | None) -> str:
    try:
        fd = os.open(f"/proc/{pid}/livedump", os.O_WRONLY) if fd is None else fd
    except OSError as error:
        return f"open {errno.errorcode[error.errno or 0]}"
    return write(fd, data)


def write(fd: int, data: bytes) -> str:
    """What becomes of a write to the opened file: ``ok``, or an error's name."""
    try:
        count = os.write(fd, data)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok" if count == len(data) else f"{count} of {len(data)}"


def shell(words: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    """A line by a shell, as people type it."""
    return subprocess.run(
        ["sh", "-c", words],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


class Held:
    """A dump that its pipe's helper holds: what it saw of the copy, and the writer."""

    def __init__(self, where: Path, writer: Attempt) -> None:
        self._where = where
        self.writer = writer

    def seen(self, name: str) -> str:
        """What the helper kept under this name, see HELPER."""
        return (self._where / name).read_text().strip()

    @property
    def pid(self) -> int:
        """The copy's, as this namespace counts."""
        return int(self.seen("pid"))

    def go(self) -> str:
        """Let the helper take the core; the writer's result."""
        (self._where / "gate").write_text("go\n")
        return self.writer.result()


@contextmanager
def held(where: Path, pid: int, words: str = EMPTY, *, fd: int | None = None) -> Iterator[Held]:
    """A dump of the process that waits in its helper, until go(); ``fd`` is its file, opened."""
    helper = where / "helper"
    helper.write_text(HELPER.format(directory=where))
    helper.chmod(0o755)
    os.mkfifo(where / "gate")
    with setting(PIPE_LIMIT, "4"), setting(PATTERN, f"|{helper} %P"):
        writer = Attempt(pid, words, fd=fd)
        wait_until(lambda: (where / "pid").exists() or writer.over(), "the helper of core_pattern")
        assert (where / "pid").exists(), writer.result()
        yield Held(where, writer)


def cores(where: Path) -> list[Path]:
    """The files of core_pattern that are there."""
    return sorted(where.glob("core*"))
