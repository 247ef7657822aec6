# SPDX-License-Identifier: BSD-3-Clause
"""The program under test, as a black box: coresnap-dump."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DEADLINE = 120.0  # seconds

INCOMPLETE = 5  # the exit code that says: written, but something is missing


class DumpFailed(AssertionError):
    """coresnap-dump wrote no core; the text is what it said."""


@dataclass(frozen=True)
class Dump:
    """One core of ours: the file, what --json said, and what was said on standard error."""

    core: Path
    status: int
    result: dict[str, Any]
    words: str

    def to_json(self) -> dict[str, Any]:
        """The dump as JSON objects; the core is the name of a file."""
        return {**asdict(self), "core": self.core.name}


def dump(
    program: Path,
    pid: int,
    to: Path,
    *,
    method: str,
    user: int | None = None,
    before: Sequence[str] = (),
    options: Sequence[str] = (),
) -> Dump:
    """Dump a process into a new file; ``before`` are words that stand before the program's name.

    ``options`` are more of those that stand behind it.

    Raises DumpFailed.
    """
    argv = [*before, str(program), str(pid), "-o", to.name, "--method", method, "--json", *options]
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
