# SPDX-License-Identifier: BSD-3-Clause
"""Cores that somebody else wrote (the kernel, gdb) of a program that says what is in it."""

import os
import re
import resource
import select
import shutil
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import living
import pytest
from toolchain import Width

from lab.patience import DEADLINE


@dataclass(frozen=True)
class Subject:
    """A core, the program it is of, and what the program printed (numbers by name)."""

    program: Path
    core: Path
    said: dict[str, list[int]]


def kernel_core(directory: Path, *, width: Width) -> Subject:
    """Let the program die and take the kernel's core of it."""
    program = living.program("core_subject", width)
    require_core_files()
    place = directory / f"kernel-{width}"
    place.mkdir()
    done = subprocess.run(
        [program],
        cwd=place,
        preexec_fn=_allow_cores,
        stdout=subprocess.PIPE,
        timeout=DEADLINE,
    )
    cores = list(place.glob("core*"))
    assert done.returncode == -4, done
    assert len(cores) == 1, "the kernel wrote no core"
    return Subject(program, cores[0], _parse(done.stdout))


def gdb_core(directory: Path) -> Subject:
    """Let the program wait and have gdb's gcore write its core."""
    if shutil.which("gcore") is None:
        pytest.skip("no gcore here")
    program = living.program("core_subject")
    with subprocess.Popen([program, "wait"], stdout=subprocess.PIPE) as process:
        try:
            said = _parse(_read_until(process, b"ready 1\n"))
            subprocess.run(
                ["gcore", "-o", directory / "gdb", str(process.pid)],
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=DEADLINE,
                env=os.environ | {"DEBUGINFOD_URLS": ""},
            )
        finally:
            process.kill()
    return Subject(program, directory / f"gdb.{said['pid'][0]}", said)


def require_core_files() -> None:
    """Skip where a dying process leaves no core in its working directory."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith("|") or "/" in pattern or not pattern.startswith("core"):
        pytest.skip(f"core_pattern {pattern!r} gives no file in the working directory")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("the hard limit of core files is 0")


def _allow_cores() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def _read_until(process: "subprocess.Popen[bytes]", mark: bytes) -> bytes:
    assert process.stdout is not None
    output = b""
    while mark not in output:
        readable, _, _ = select.select([process.stdout], [], [], DEADLINE)
        assert readable, f"waited for {mark!r}, got {output!r}"
        piece = os.read(process.stdout.fileno(), 4096)
        assert piece, f"the program ended; it said {output!r}"
        output += piece
    return output


def _parse(output: bytes) -> dict[str, list[int]]:
    said: dict[str, list[int]] = defaultdict(list)
    for name, value in re.findall(rb"^(\w+) (\d+)$", output, re.MULTILINE):
        said[name.decode()].append(int(value))
    return dict(said)


def gdb(program: Path, core: Path, *commands: str) -> str:
    """What gdb prints about a core."""
    if shutil.which("gdb") is None:
        pytest.skip("no gdb here")
    options = [item for command in commands for item in ("-ex", command)]
    done = subprocess.run(
        [
            *("gdb", "-nx", "-batch"),
            *("-iex", "set auto-load off", "-iex", "set debuginfod enabled off"),
            *(*options, str(program), str(core)),
        ],
        capture_output=True,
        check=True,
        timeout=DEADLINE,
        text=True,
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


def readelf(*arguments: str) -> str:
    if shutil.which("readelf") is None:
        pytest.skip("no readelf here")
    done = subprocess.run(
        ["readelf", "-W", *arguments],
        capture_output=True,
        timeout=DEADLINE,
        text=True,
        errors="surrogateescape",
        env=os.environ | {"LC_ALL": "C"},
    )
    return done.stdout
