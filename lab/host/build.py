# SPDX-License-Identifier: BSD-3-Clause
"""Compiles scenarios and the lab's own C helpers, once per content, safely from many processes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

LAB = Path(__file__).resolve().parent.parent
SCENARIOS = LAB / "scenarios"
INSIDE = LAB / "inside"

# Debian's cross compiler for i386 (gcc-multilib cannot be installed beside the ARM ones) keeps its
# C library here and not where the programs' default interpreter path points.
_SYSROOT_32 = Path("/usr/i686-linux-gnu/lib")
_INCLUDE = LAB.parent / "packages" / "core" / "include"
_LIBRARY = "libcoresnap.a"
# Where meson built the library, by width; tox sets them.
_BUILDS = {"x86-64": "CORESNAP_BUILD", "x86-32": "CORESNAP_BUILD32"}
_COMPILERS = {"x86-64": "gcc", "x86-32": "i686-linux-gnu-gcc"}
_CFLAGS = (
    *("-std=gnu11", "-O1", "-g", "-fno-omit-frame-pointer", "-pthread"),
    *("-Wall", "-Wextra", "-Wconversion", "-Werror"),
    # A lazily bound function would write to the GOT between two dumps.
    "-Wl,-z,now",
)


class NotBuildable(Exception):
    """This system lacks what the program needs to be built or run; the text says what."""


def _compiler(width: str, override: str | None) -> str:
    name = override or _COMPILERS[width]
    found = shutil.which(name)
    if found is None:
        raise NotBuildable(f"{name} is not installed")
    return found


def _width_flags(width: str, *, static: bool) -> tuple[str, ...]:
    if static:
        return ("-static",)
    if width != "x86-32":
        return ()
    loader = _SYSROOT_32 / "ld-linux.so.2"
    if not loader.exists():
        return ("-static",)
    return (f"-Wl,--dynamic-linker={loader}", f"-Wl,-rpath,{_SYSROOT_32}")


def compile_program(
    source: Path,
    to: Path,
    *,
    width: str = "x86-64",
    static: bool = False,
    library: Path | None = None,
) -> Path:
    """The executable of one C file, in the directory ``to``; built if this content is new.

    With ``library``, libcoresnap is linked and the scenario can dump itself. Raises NotBuildable
    without a compiler, subprocess.CalledProcessError if it does not compile.
    """
    override = os.environ.get("CORESNAP_LAB_CC") if width == "x86-64" else None
    argv = [_compiler(width, override), *_CFLAGS, *_width_flags(width, static=static)]
    if library is not None:
        argv += ["-DSCENARIO_CORESNAP", f"-I{_INCLUDE}"]
    content = hashlib.sha256("\0".join(argv).encode())
    for file in (source, *sorted(SCENARIOS.glob("*.h")), *([library] if library else [])):
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


def library(width: str) -> Path:
    """The static libcoresnap of that width. Raises NotBuildable if it is not built."""
    name = _BUILDS[width]
    directory = os.environ.get(name)
    if not directory:
        raise NotBuildable(f"{name} does not name the build directory of libcoresnap for {width}")
    found = sorted(Path(directory).rglob(_LIBRARY))
    if not found:
        raise NotBuildable(f"there is no {_LIBRARY} below {name}={directory}")
    return found[0]


def scenario(
    name: str, to: Path, *, width: str, static: bool = False, dumps_itself: bool = False
) -> Path:
    """The executable of lab/scenarios/``name``.c, with or without libcoresnap in it."""
    return compile_program(
        SCENARIOS / f"{name}.c",
        to,
        width=width,
        static=static,
        library=library(width) if dumps_itself else None,
    )


def helper(name: str, to: Path) -> Path:
    """The executable of lab/inside/``name``.c."""
    return compile_program(INSIDE / f"{name}.c", to)
