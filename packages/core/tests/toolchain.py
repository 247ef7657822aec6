# SPDX-License-Identifier: BSD-3-Clause
"""The C programs of these tests: compiled here, or found where CORESNAP_TEST_PROGRAMS has them.

A guest of the lab has no compiler. Its programs are made on another machine, by

    toolchain.py DIRECTORY ARCHITECTURE=BUILD…

of which the first architecture is the guest's own, and BUILD is where meson built the library for
it. Programs of other widths are static, so that they need no C library there.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

import container_filter

from lab import architectures
from lab.architectures import ARCHITECTURES, BY_NAME, X86_32, Architecture

TESTS = Path(__file__).resolve().parent
CORE = TESTS.parent
SRC = CORE / "src"
C_PROGRAMS = TESTS / "programs"
CALLS = CORE.parents[1] / "lab" / "pausing" / "calls.c"

_INCLUDE = f"-I{CORE / 'include'}"
_CFLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-pthread", "-Wall", "-Wextra", "-Werror")
_MORE_CFLAGS = {X86_32.name: ("-msse2",)}  # busy_x86.h fills those registers
_SECONDS = 240  # for a compiler on a machine under load
# Put there by what prepares a checkout for tests.
_PROFILE = CORE.parents[1] / "build" / "docker-seccomp.json"
_SHARED = "libcoresnap.so"
_STATIC = "libcoresnap.a"
_COREDUMPER = "libcoredumper.so"


class Missing(Exception):
    """There is no such program here, and the text says why."""


class Width(StrEnum):
    """Whose programs: those of this machine's own width, or those that a 64-bit kernel runs too."""

    NATIVE = "native"
    COMPAT = "compat"

    @property
    def architecture(self) -> Architecture:
        """The architecture of such programs. Raises Missing: a 32-bit machine has no other."""
        found = NATIVE if self is Width.NATIVE else COMPAT
        if found is None:
            raise Missing(f"{NATIVE.name} runs programs of no other width")
        return found


NATIVE = next(a for a in ARCHITECTURES if a.multiarch == sysconfig.get_config_var("MULTIARCH"))
"""The architecture of the Python that runs this."""
COMPAT = architectures.COMPAT.get(NATIVE.name)
"""The other one that this machine runs, or None."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program: sources, flags, and whether libcoresnap is linked into it or beside it."""

    name: str
    sources: tuple[Path, ...]
    flags: tuple[str, ...] = ()
    library: str = ""
    stub: Path | None = None  # linked to this instead, as the library's name; runs on the library
    static: bool = False
    native_only: bool = False


# What a copy is made of, without the rest of the library; coresnap_step() is the driver's own.
# fmt: off
_COPY = (
    "arena", "blank", "cgroup", "copy", "copy_afford", "copy_page", "copy_release",
    "copy_self", "copy_settle", "direct", "errand", "error", "freeze", "gadget", "maps",
    "pagemap", "procfs", "remote", "remote_entry", "remote_frame", "restart",
    "restart_rewind", "seccomp", "target", "victim", "victim_stack",
)
# fmt: on
PROGRAMS = {
    program.name: program
    for program in (
        Program(
            name="copy_driver",
            sources=(
                TESTS / "copy_driver.c",
                *sorted((SRC / "arch").glob("*.c")),
                *(SRC / f"{name}.c" for name in _COPY),
            ),
            flags=(f"-I{SRC}", "-D_FILE_OFFSET_BITS=64", "-DCORESNAP_KILL_POINTS"),
        ),
        Program(name="copy_target", sources=(TESTS / "copy_target.c",), flags=("-lrt",)),
        Program(name="core_subject", sources=(TESTS / "core_subject.c",)),
        Program(name="calls", sources=(CALLS,)),
        Program(name="works", sources=(C_PROGRAMS / "works.c",), flags=(f"-I{CALLS.parent}",)),
        Program(name="direct", sources=(C_PROGRAMS / "direct.c",)),
        Program(name="world", sources=(C_PROGRAMS / "world.c",)),
        Program(name="writers", sources=(C_PROGRAMS / "writers.c", C_PROGRAMS / "writers_areas.c")),
        Program(name="torrent", sources=(C_PROGRAMS / "torrent.c",)),
        Program(name="untracked", sources=(C_PROGRAMS / "untracked.c",), native_only=True),
        Program(name="growers", sources=(C_PROGRAMS / "growers.c",)),
        # Its coroutine's stack has no room for the loader, which binds calls at their first use.
        Program(name="hard", sources=(C_PROGRAMS / "hard.c",), flags=("-Wl,-z,now",)),
        Program(name="hostile", sources=(C_PROGRAMS / "hostile.c",), native_only=True),
        Program(
            name="library_calls",
            sources=(C_PROGRAMS / "library_calls.c",),
            library=_SHARED,
            native_only=True,
        ),
        Program(
            name="hostile_calls",
            sources=(C_PROGRAMS / "hostile_calls.c",),
            library=_SHARED,
            native_only=True,
        ),
        Program(
            name="self_dump",
            sources=(C_PROGRAMS / "self_dump.c", C_PROGRAMS / "self_parts.c"),
            library=_STATIC,
            static=True,
        ),
        Program(
            name="coredumper_calls",
            sources=(C_PROGRAMS / "coredumper_calls.c",),
            library=_COREDUMPER,
            native_only=True,
        ),
        Program(
            name="coredumper_stub_calls",
            sources=(C_PROGRAMS / "coredumper_calls.c",),
            library=_COREDUMPER,
            stub=C_PROGRAMS / "coredumper_stub.c",
            native_only=True,
        ),
        *(
            Program(
                name=name,
                sources=(CORE / "examples" / f"{name}.c",),
                library=_SHARED,
                native_only=True,
            )
            for name in ("service", "tftpd")
        ),
        Program(
            name="open_self",
            sources=(C_PROGRAMS / "open_self.c",),
            library=_STATIC,
            static=True,
        ),
        Program(
            name="dlopen_dump",
            sources=(C_PROGRAMS / "dlopen_dump.c",),
            flags=("-ldl",),
            native_only=True,
        ),
    )
}


def _compiler(architecture: Architecture) -> str:
    name = "gcc" if architecture is NATIVE else f"{architecture.compiler}gcc"
    found = shutil.which(name)
    if found is None:
        package = f"gcc-{architecture.compiler.rstrip('-').replace('_', '-')}"
        raise Missing(f"no compiler for {architecture.name} ({package})")
    return found


def make(
    program: Program,
    architecture: Architecture,
    to: Path,
    *,
    own: Architecture,
    build: Path | None,
    found_at: str,
) -> Path:
    """Compile a program for a machine whose own architecture is ``own``; raises Missing.

    ``build`` has the library, and ``found_at`` is where the program looks for the shared one.
    """
    library: list[str | Path] = []
    if program.library and build is None:
        raise Missing(f"no build directory of the library for {architecture.name} is named")
    if program.library and build is not None:
        linked = build / program.library
        if program.stub is not None:
            linked = _stub(program, architecture, to)
        library = [linked, f"-Wl,-rpath,{found_at}"]
    made = to / program.name
    argv: list[str | Path] = [
        *(_compiler(architecture), *_CFLAGS, *_MORE_CFLAGS.get(architecture.name, ()), _INCLUDE),
        *["-static"] * (program.static or architecture is not own),
        *("-o", made, *program.sources, *library, *program.flags),
    ]
    _run(argv)
    return made


def _run(argv: list[str | Path]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_SECONDS)
    assert done.returncode == 0, done.stderr


def _stub(program: Program, architecture: Architecture, to: Path) -> Path:
    """A library of the soname of ours, in a directory where nothing looks for it."""
    assert program.stub is not None
    made = to / "stub" / program.library
    made.parent.mkdir(exist_ok=True)
    soname = f"-Wl,-soname,{program.library}.1"
    _run([_compiler(architecture), "-shared", "-fPIC", soname, "-o", made, program.stub])
    return made


@cache
def _place() -> Path:
    """Where programs are compiled to; it goes when Python ends."""
    place = Path(tempfile.mkdtemp(prefix="coresnap-programs-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


@cache
def find(name: str, width: Width) -> Path:
    """The program of that name, compiled at its first use if it was not made before.

    Raises Missing.
    """
    program, architecture = PROGRAMS[name], width.architecture
    made_before = os.environ.get("CORESNAP_TEST_PROGRAMS")
    if made_before:
        found = Path(made_before, architecture.name, name)
        assert found.exists(), f"CORESNAP_TEST_PROGRAMS names a directory without {found}"
        return found
    to = _place() / architecture.name
    to.mkdir(exist_ok=True)
    build = os.environ.get("CORESNAP_BUILD" if width is Width.NATIVE else "CORESNAP_BUILD32")
    return make(
        program,
        architecture,
        to,
        own=NATIVE,
        build=Path(build) if build else None,
        found_at=build or "",
    )


def _make_filters(architecture: Architecture, to: Path) -> None:
    """The seccomp filters of a container on such a machine; raises Missing."""
    if not _PROFILE.exists():
        raise Missing(f"no {_PROFILE.name} in build, Docker's profile: see CONTRIBUTING.md")
    try:
        for kills in (False, True):
            container_filter.make(_PROFILE, architecture, to / _filter_name(kills), kills=kills)
    except OSError as error:
        raise Missing(f"a container's filter takes libseccomp2: {error}") from error


def _filter_name(kills: bool) -> str:
    return f"container-{'kills' if kills else 'denies'}.bpf"


@cache
def find_filter(*, kills: bool) -> Path:
    """The seccomp filter of a container on this machine, for programs of each width.

    What it forbids fails, or ``kills``. Raises Missing.
    """
    made_before = os.environ.get("CORESNAP_TEST_PROGRAMS")
    to = Path(made_before) if made_before else _place()
    to /= NATIVE.name
    if not made_before:
        to.mkdir(exist_ok=True)
        _make_filters(NATIVE, to)
    found = to / _filter_name(kills)
    if not found.exists():
        raise Missing("no filters of containers were made with this guest's programs")
    return found


def _jobs(
    to: Path, builds: dict[Architecture, Path]
) -> Iterator[tuple[Program, Architecture, Path]]:
    own = next(iter(builds))
    for architecture in builds:
        place = to / architecture.name
        place.mkdir(parents=True)
        for program in PROGRAMS.values():
            if architecture is own or not program.native_only:
                yield program, architecture, place


def main(directory: str, *named: str) -> None:
    """Make all programs for a guest, and put the library beside those of its own width."""
    pairs = (word.partition("=") for word in named)
    builds = {BY_NAME[name]: Path(build) for name, _, build in pairs}
    own = next(iter(builds))
    to = Path(directory)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(make, program, architecture, place, own=own,
                        build=builds[architecture], found_at="$ORIGIN")
            for program, architecture, place in _jobs(to, builds)
        ]  # fmt: skip
        for job in jobs:
            job.result()
    try:
        _make_filters(own, to / own.name)
    except Missing as reason:
        print(f"toolchain: {reason}", file=sys.stderr)
    for architecture, build in builds.items():
        shutil.copy(build / _STATIC, to / architecture.name)
        for library in (*build.glob(f"{_SHARED}*"), *build.glob(f"{_COREDUMPER}*")):
            if library.is_file():
                shutil.copy(library, to / architecture.name, follow_symlinks=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
