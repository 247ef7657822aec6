# SPDX-License-Identifier: BSD-3-Clause
"""Other people's programs: found or named with their package, run with a deadline, quoted when
they fail."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_log = logging.getLogger(__name__)
# Lines of a failed program's output that are shown.
_TAIL = 15
DYING = 10
"""Seconds for killed programs to be gone."""
# Debian keeps some of them where only root looks.
_SEARCH = "/usr/local/sbin:/usr/sbin:/sbin"


class MissingTool(Exception):
    """A program is not installed; the text names it and its package."""


class ToolFailed(Exception):
    """A program failed or took too long; the text says what for and shows its last words."""


def find(program: str, *, package: str, purpose: str) -> str:
    """The path of a program. Raises MissingTool."""
    found = shutil.which(program) or shutil.which(program, path=_SEARCH)
    if found is None:
        raise MissingTool(
            f"{purpose} needs the program {program}, which is not installed. It is in Debian's "
            f"package {package}: apt-get install {package}"
        )
    return found


def run(
    argv: Sequence[str],
    *,
    purpose: str,
    timeout: float = 600,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> str:
    """Run a program and return its output as text; ``env`` adds to the environment, ``timeout`` is
    in s. Messages are in English, so that they can be parsed. However this ends, the program and
    what it started have ended. Raises ToolFailed."""
    _log.debug("%s", " ".join(argv))
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as process:
        try:
            output, errors = process.communicate(stdin.encode(), timeout)
        except subprocess.TimeoutExpired as error:
            raise ToolFailed(
                f"{purpose} failed: {argv[0]} did not end in {timeout:g} s and was killed. It "
                f"said:\n{_tail(_kill(process))}"
            ) from error
        except BaseException:
            _kill(process)
            raise
    if process.returncode != 0:
        raise ToolFailed(
            f"{purpose} failed: {argv[0]} ended with status {process.returncode}. It said:\n"
            f"{_tail(errors or output)}"
        )
    return (output or b"").decode(errors="replace")


def _kill(process: subprocess.Popen[bytes]) -> bytes:
    """Kill a program and what it started; returns its messages, whose end tells that all have
    closed them, as the last thing but one that they do."""
    os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=DYING)[1]
    except subprocess.TimeoutExpired as error:
        return error.stderr or b""


def _tail(output: bytes | None) -> str:
    lines = (output or b"").decode(errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-_TAIL:]) or "    (nothing)"
