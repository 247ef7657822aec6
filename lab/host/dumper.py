# SPDX-License-Identifier: BSD-3-Clause
"""The program under test, as a black box: coresnap-dump."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE = 120.0  # seconds


INCOMPLETE = 5  # the exit code that says: written, but something is missing


class DumpFailed(AssertionError):
    """coresnap-dump wrote no core; the text is what it said."""


class NoDumper(Exception):
    """coresnap-dump is not built; the text says where it was looked for."""


def find() -> Path:
    """The program: $CORESNAP_DUMP, or in the meson build directory $CORESNAP_BUILD."""
    named = os.environ.get("CORESNAP_DUMP")
    if named:
        path = Path(named)
        if not os.access(path, os.X_OK):
            raise NoDumper(f"CORESNAP_DUMP is {named!r}, which is not an executable file")
        return path.resolve()
    build = os.environ.get("CORESNAP_BUILD")
    if not build:
        raise NoDumper(
            "the lab needs coresnap-dump: set CORESNAP_DUMP to the program, or CORESNAP_BUILD to "
            "the build directory of meson, as tox does"
        )
    found = [path for path in Path(build).rglob("coresnap-dump") if os.access(path, os.X_OK)]
    programs = [path for path in found if path.is_file()]
    if not programs:
        raise NoDumper(f"there is no coresnap-dump below CORESNAP_BUILD={build}")
    return programs[0].resolve()


def find_32() -> Path | None:
    """The program built for x86-32, $CORESNAP_DUMP32, or None."""
    named = os.environ.get("CORESNAP_DUMP32")
    return Path(named).resolve() if named and os.access(named, os.X_OK) else None


def why_missing() -> str | None:
    """A sentence that says why there is no program to test, or None."""
    try:
        find()
    except NoDumper as error:
        return str(error)
    return None


@dataclass(frozen=True)
class Dump:
    """One core of ours: the file, what --json said, and what was said on standard error."""

    core: Path
    status: int
    result: dict[str, Any]
    words: str


def dump(program: Path, pid: int, to: Path, *, method: str, user: int | None = None) -> Dump:
    """Dump a process into a new file. Raises DumpFailed."""
    argv = [str(program), str(pid), "-o", to.name, "--method", method, "--json"]
    done = subprocess.run(
        argv,
        cwd=to.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        umask=0o022,
    )
    words = done.stderr.decode(errors="backslashreplace")
    if done.returncode not in (0, INCOMPLETE):
        raise DumpFailed(f"{' '.join(argv)}: exit {done.returncode}: {words.strip()}")
    result = json.loads(done.stdout) if done.stdout.strip() else {}
    return Dump(core=to, status=done.returncode, result=result, words=words)
