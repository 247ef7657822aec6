# SPDX-License-Identifier: BSD-3-Clause
"""Living C programs for the tests of the library: started, asked, looked at in /proc."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

import pytest
import toolchain
from toolchain import COMPAT, CORE, NATIVE, Width

import coresnap
from lab.architectures import X86_64
from lab.patience import DEADLINE

INCLUDE = CORE / "include"
PROGRAMS = toolchain.C_PROGRAMS
NOBODY = 65534
INSTRUCTION = 8
"""Bytes of a struct sock_filter."""
BUILDS = {Width.NATIVE: "CORESNAP_BUILD", Width.COMPAT: "CORESNAP_BUILD32"}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
needs_compat = pytest.mark.skipif(
    COMPAT is None, reason="a 32-bit machine runs programs of no other width"
)
needs_64_bits = pytest.mark.skipif(
    NATIVE.bits < 64, reason="that much does not fit into a 32-bit address space"
)
only_x86_64 = pytest.mark.skipif(
    NATIVE is not X86_64, reason="only x86-64 runs 32-bit code in a 64-bit process"
)
PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg), uapi/linux/fs.h


def lists_pages_at_once() -> bool:
    """Whether the kernel has PAGEMAP_SCAN (v6.7); others tell of each page, of a hole's, too."""
    nothing = struct.pack("12Q", 96, *[0] * 11)
    with open("/proc/self/pagemap", "rb") as pagemap:
        try:
            fcntl.ioctl(pagemap, PAGEMAP_SCAN, nothing)
        except OSError:
            return False
    return True


needs_pagemap_scan = pytest.mark.skipif(
    not lists_pages_at_once(), reason="this kernel has no PAGEMAP_SCAN (v6.7)"
)


def keeps_soft_dirty_bits() -> bool:
    """Whether the page tables of this kernel say which pages were written."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, mmap.PAGESIZE, private) as page, open("/proc/self/pagemap", "rb") as pagemap:
        page[0] = 1
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        entry = os.pread(pagemap.fileno(), 8, address // mmap.PAGESIZE * 8)
    return bool(int.from_bytes(entry, sys.byteorder) >> 55 & 1)


SOFT_DIRTY = keeps_soft_dirty_bits()
TRACKS_WRITES = coresnap.Method.PRECOPY in coresnap.doctor().auto
"""Whether this kernel can, so that there is a method precopy."""
METHODS = ("stop", "fork", *(("precopy",) if TRACKS_WRITES else ()))
WIDTHS = [Width.NATIVE, pytest.param(Width.COMPAT, marks=needs_compat)]


def build(*, width: Width = Width.NATIVE) -> Path:
    """Where meson built the library of that width; skips without."""
    name = BUILDS[width]
    place = os.environ.get(name)
    if not place:
        pytest.skip(f"{name} does not name a build directory of the library")
    return Path(place)


def tool() -> Path:
    """The static coresnap-dump; skips without."""
    place = os.environ.get("CORESNAP_DUMP")
    if not place:
        pytest.skip("CORESNAP_DUMP does not name the program coresnap-dump")
    return Path(place)


def catch() -> Path:
    """The static coresnap-catch; skips without."""
    return build() / "coresnap-catch"


def need(name: str) -> str:
    """The path of a program of the system; skips without."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


@cache
def _runs_compat() -> bool:
    """Does this kernel run programs of the other width at all?"""
    try:
        subprocess.run(
            [toolchain.find("world", Width.COMPAT)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE,
        )
    except OSError:
        return False
    return True


def program(name: str, width: Width = Width.NATIVE) -> Path:
    """A C program of the tests; skips where it cannot be compiled or run."""
    try:
        if width is Width.COMPAT and not _runs_compat():
            pytest.skip(f"this kernel does not run {width.architecture.name} programs")
        return toolchain.find(name, width)
    except toolchain.Missing as reason:
        pytest.skip(str(reason))


def container_filter(*, kills: bool) -> Path:
    """The seccomp filter of a container; skips where it cannot be made."""
    try:
        return toolchain.find_filter(kills=kills)
    except toolchain.Missing as reason:
        pytest.skip(str(reason))


def filtered(code: bytes) -> Callable[[], None]:
    """What a child calls to come under a seccomp filter, of which these are the instructions."""
    text = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(code) // INSTRUCTION, ctypes.addressof(text))

    def install() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        # PR_SET_NO_NEW_PRIVS; PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
            raise OSError(ctypes.get_errno(), "no filter")
        assert text

    return install


_REMEMBERING = """if 1:
    import mmap, sys
    memory = mmap.mmap(-1, int(sys.argv[1]) << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, len(memory), 4096):
        memory[at] = at >> 12 & 255
    print("ready", flush=True)
    for line in sys.stdin:
        whole = all(memory[at] == at >> 12 & 255 for at in range(0, len(memory), 4096))
        print("pong" if whole else "damaged", flush=True)
"""


def remembering(mebibytes: int) -> tuple[str, ...]:
    """A program that has so much memory, and answers each line by whether it is as it was."""
    return (sys.executable, "-c", _REMEMBERING, str(mebibytes))


def traced(place: Path, what: str, *more: str) -> list[str]:
    """The beginning of a command by which strace tells of some calls of it."""
    # A file for each process: in one of all a call may be told of in two lines.
    return [need("strace"), "-ff", "-e", f"trace={what}", *more, "-o", str(place / "calls")]


def calls_in(place: Path) -> str:
    """What it told."""
    return "".join(path.read_text() for path in place.glob("calls.*"))


class Subject:
    """A program that answers each line on its standard input by one line."""

    def __init__(
        self, *argv: str | Path, user: int | None = None, stderr: int | None = None
    ) -> None:
        extra = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            bufsize=1,
            cwd="/",
            **extra,  # type: ignore[call-overload]
        )
        self.pid: int = self.process.pid
        said = self.line()
        assert said == "ready", said

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE)
        assert ready, f"process {self.pid} said nothing for {DEADLINE:.0f} s"
        text: str = self.process.stdout.readline()
        assert text, f"process {self.pid} ended with {self.process.wait(DEADLINE)}"
        return text.rstrip("\n")

    def ask(self, *words: object) -> str:
        """Its answer to one line."""
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)
        return self.line()

    def tell(self, *words: object) -> None:
        """Do as asked; the answer must be "ok"."""
        assert self.ask(*words) == "ok"

    def number(self, *words: object) -> int:
        """The number that is its answer."""
        return int(self.ask(*words))

    def end(self) -> None:
        """Kill it, whatever it does."""
        self.process.kill()
        self.process.wait(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def __enter__(self) -> Subject:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


def status(pid: int, field: str) -> str:
    """One line of /proc/PID/status without its name."""
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        if line.startswith(field + ":"):
            return line.partition(":")[2].strip()
    raise AssertionError(f"no {field} in the status of {pid}")


def kilobytes(pid: int, name: str) -> int:
    """A sum over all mappings of a process: a line of its smaps_rollup."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))


def threads(pid: int) -> set[int]:
    """The thread ids of a process."""
    return {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()}


def mappings(pid: int) -> set[str]:
    """The lines of /proc/PID/maps but for the stack's and the heap's, which grow."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line for line in lines if not line.endswith(("[stack]", "[heap]"))}


def parent(pid: int | str) -> int:
    """The parent's id; 0 for a process that is gone."""
    try:
        # Without a Path, since children() does it for each process of the machine.
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
            text = stat.read()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(text.rpartition(b") ")[2].split()[1])


def children(pid: int) -> list[int]:
    """All children of a process, zombies included."""
    return [
        int(entry) for entry in os.listdir("/proc") if entry.isdecimal() and parent(entry) == pid
    ]


@dataclass(frozen=True)
class Footprint:
    """What a dump must leave as it was."""

    runs: bool
    tracer: str
    threads: frozenset[int]
    children: tuple[int, ...]
    files: frozenset[tuple[str, str]]


def footprint(pid: int) -> Footprint:
    """How a process looks from outside."""
    links = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        links[entry.name] = os.readlink(entry)
    return Footprint(
        runs=status(pid, "State")[0] in "RSD",
        tracer=status(pid, "TracerPid"),
        threads=frozenset(threads(pid)),
        children=tuple(children(pid)),
        files=frozenset(links.items()),
    )


def wait_gone(fd: int, *, seconds: float = DEADLINE) -> bool:
    """Has the process behind a pidfd ended (or ends now)?"""
    return bool(select.select([fd], [], [], seconds)[0])


def wait_for_text(fd: int, sign: str) -> None:
    """Read a pipe until it has shown a text."""
    seen = ""
    while sign not in seen:
        assert select.select([fd], [], [], DEADLINE)[0], f"waited for {sign!r}, saw {seen!r}"
        piece = os.read(fd, 4096)
        assert piece, f"no {sign!r} in {seen!r}"
        seen += piece.decode(errors="replace")


@contextlib.contextmanager
def slowed(
    inject: str, sign: str, place: Path, *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the tool under strace, slow at some system calls, from the call on that shows a sign."""
    read_fd, write_fd = os.pipe()
    what, _, _ = inject.partition(":")
    # -D: the tracer is a grandchild, and what we start is the tool itself.
    options = ["-D", "-f", "-y", "-qq", "-e", f"trace={what}", "-e", f"inject={inject}"]
    process = subprocess.Popen(
        [need("strace"), *options, "-o", f"/dev/fd/{write_fd}", tool(), *arguments],
        cwd=place,
        pass_fds=[write_fd],
        stderr=subprocess.PIPE,
    )
    os.close(write_fd)
    try:
        wait_for_text(read_fd, sign)
        yield process
    finally:
        os.close(read_fd)
        process.kill()
        process.communicate(timeout=DEADLINE)


def until_undisturbed(subject: Subject, before: Footprint) -> None:
    """Wait until a subject looks as before; each look comes after an answer of it."""
    end = time.monotonic() + DEADLINE
    while True:
        assert subject.ask("ping") == "pong"
        now = footprint(subject.pid)
        if now == before:
            return
        assert time.monotonic() < end, f"{now} instead of {before}"


class Held:
    """A dump to a pipe that nobody reads yet: begun, and stuck until the pipe is read.

    The target runs already (``fork``), or is stopped (``stop`` without memory to stage bytes in).
    """

    def __init__(self, pid: int, *options: str) -> None:
        read_fd, write_fd = os.pipe()
        self.pipe = os.fdopen(read_fd, "rb", buffering=0)
        self.process = subprocess.Popen(
            [tool(), "-o", "-", *options, str(pid)], stdout=write_fd, stderr=subprocess.PIPE
        )
        os.close(write_fd)
        ready, _, _ = select.select([self.pipe], [], [], DEADLINE)
        assert ready, f"the dump of {pid} did not begin"
        # The end of the pipe would be readable, too.
        assert self.process.poll() is None, self.talk()
        found = [child for child in children(pid) if is_copy(child)]
        self.copy = found[0] if found else 0

    def talk(self) -> str:
        """What it says on standard error until it ends."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def is_going_on(self) -> bool:
        """Is it still stuck?"""
        return self.process.poll() is None

    def take(self, size: int) -> bytes:
        """Read so many bytes of the pipe, or up to its end."""
        parts = []
        while size and (part := self.pipe.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def finish(self, core: Path | None = None) -> int:
        """Read the pipe to its end, into a file if given. Returns the exit code."""
        with core.open("wb") if core else open(os.devnull, "wb") as to:
            shutil.copyfileobj(self.pipe, to, 1 << 20)
        return self.process.wait(DEADLINE)

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        self.pipe.close()
        if self.process.stderr is not None:
            self.process.stderr.close()


def is_copy(pid: int) -> bool:
    """Is it a copy that the method fork made?"""
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "coresnap-copy\n"
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_tool(
    *arguments: str | Path, program: Path | None = None, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run coresnap-dump to its end."""
    argv: Sequence[str | Path] = [program or tool(), *arguments]
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        argv,
        stdin=subprocess.DEVNULL,
        **{"capture_output": True, "text": True, "timeout": DEADLINE, **options},
    )
