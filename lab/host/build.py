# SPDX-License-Identifier: BSD-3-Clause
"""Compiles scenarios and the lab's own C helpers, once per content, safely from many processes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from lab.architectures import BY_NAME, X86_32, X86_64, Architecture

LAB = Path(__file__).resolve().parent.parent
SCENARIOS = LAB / "scenarios"
INSIDE = LAB / "inside"

# Debian's cross compiler for i386 (gcc-multilib cannot be installed beside the ARM ones) keeps its
# C library here and not where the programs' default interpreter path points.
_SYSROOT_32 = Path("/usr/i686-linux-gnu/lib")
_INCLUDE = LAB.parent / "packages" / "core" / "include"
_LIBRARY = "libcoresnap.a"
# Where meson built the library for this machine, by width; tox sets them.
_BUILDS = {X86_64.name: "CORESNAP_BUILD", X86_32.name: "CORESNAP_BUILD32"}
_CFLAGS = (
    *("-std=gnu11", "-O1", "-g", "-fno-omit-frame-pointer", "-pthread"),
    *("-Wall", "-Wextra", "-Wconversion", "-Werror"),
    # A lazily bound function would write to the GOT between two dumps.
    "-Wl,-z,now",
)


class NotBuildable(Exception):
    """This system lacks what the program needs to be built or run; the text says what."""


def _native(architecture: Architecture) -> bool:
    return architecture is X86_64 and platform.machine() == "x86_64"


def _compiler(architecture: Architecture) -> str:
    """The compiler's path, when the C library that it links is there too."""
    override = os.environ.get("CORESNAP_LAB_CC") if architecture is X86_64 else None
    native = _native(architecture)
    name = override or ("gcc" if native else f"{architecture.compiler}gcc")
    package = "gcc" if native else f"gcc-{architecture.compiler.rstrip('-').replace('_', '-')}"
    libc = "libc6-dev" if native else f"libc6-dev-{architecture.debian}-cross"
    found = shutil.which(name)
    if found is None:
        raise NotBuildable(
            f"programs for {architecture.name} cannot be compiled because {name} is not installed: "
            f"apt-get install {package} {libc}"
        )
    start = subprocess.run(
        [found, "-print-file-name=crt1.o"], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    if not Path(start).is_absolute():  # of a file that it does not find it prints the bare name
        raise NotBuildable(
            f"programs for {architecture.name} cannot be linked because {name} finds no C library: "
            f"apt-get install {libc}"
        )
    return found


def _link_flags(architecture: Architecture, *, static: bool, guest: bool) -> tuple[str, ...]:
    if static:
        return ("-static",)
    if guest or architecture is not X86_32:
        return ()
    loader = _SYSROOT_32 / "ld-linux.so.2"
    if not loader.exists():
        return ("-static",)
    return (f"-Wl,--dynamic-linker={loader}", f"-Wl,-rpath,{_SYSROOT_32}")


def compile_program(
    source: Path,
    to: Path,
    *,
    width: str = X86_64.name,
    static: bool = False,
    library: Path | None = None,
    guest: bool = False,
) -> Path:
    """The executable of one C file, in the directory ``to``; built if this content is new.

    ``width`` is the name of its architecture. It is linked to run on this machine, or with
    ``guest`` to find its C library where Debian's own port has it. With ``library``, libcoresnap is
    linked and the scenario can dump itself. Raises NotBuildable without a compiler,
    subprocess.CalledProcessError if it does not compile.
    """
    architecture = BY_NAME[width]
    argv = [
        _compiler(architecture),
        *_CFLAGS,
        *_link_flags(architecture, static=static, guest=guest),
    ]
    if library is not None:
        argv += ["-DSCENARIO_CORESNAP", f"-I{_INCLUDE}"]
    content = hashlib.sha256("\0".join(argv).encode())
    for file in (source, *sorted(source.parent.glob("*.h")), *([library] if library else [])):
        content.update(file.read_bytes())
    to.mkdir(parents=True, exist_ok=True)
    program = to / f"{source.stem}-{width}-{content.hexdigest()[:16]}"
    with (to / f"{program.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            part = program.with_suffix(".part")
            inputs = [str(file) for file in (source, library) if file is not None]
            subprocess.run([*argv, *inputs, "-o", str(part)], check=True, timeout=120)
            part.rename(program)
    return program


def cross(architecture: str) -> Path:
    """Where ci/cross puts what it builds for guests: $CORESNAP_CROSS, or build/cross."""
    above = Path(os.environ.get("CORESNAP_CROSS") or LAB.parent / "build" / "cross")
    return above / architecture


def _built(width: str, *, guest: bool) -> tuple[Path, str]:
    """The directory to search libcoresnap in, and what to do when it is not there."""
    name = _BUILDS.get(width)
    if name is not None and not guest:
        directory = os.environ.get(name)
        if not directory:
            raise NotBuildable(
                f"{name} does not name the build directory of libcoresnap for {width}"
            )
        return Path(directory), f"{name} names it: build there, or name another"
    return cross(width), f"run ci/cross {width}"


def library(width: str, *, guest: bool = False) -> Path:
    """The static libcoresnap of that architecture. Raises NotBuildable if it is not built.

    With ``guest`` it is the one that ci/cross makes for guests, of any architecture.
    """
    directory, remedy = _built(width, guest=guest)
    found = sorted(directory.rglob(_LIBRARY))
    if not found:
        raise NotBuildable(f"there is no {_LIBRARY} below {directory}: {remedy}")
    return found[0]


def scenario(
    name: str,
    to: Path,
    *,
    width: str,
    static: bool = False,
    dumps_itself: bool = False,
    guest: bool = False,
) -> Path:
    """The executable of lab/scenarios/``name``.c, with or without libcoresnap in it."""
    return compile_program(
        SCENARIOS / f"{name}.c",
        to,
        width=width,
        static=static,
        library=library(width, guest=guest) if dumps_itself else None,
        guest=guest,
    )


def helper(name: str, to: Path, *, width: str = X86_64.name) -> Path:
    """The static executable of lab/inside/``name``.c, which needs nothing where it runs."""
    return compile_program(INSIDE / f"{name}.c", to, width=width, static=True)
