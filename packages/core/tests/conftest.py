# SPDX-License-Identifier: BSD-3-Clause
"""Processes to dump, each started for one test and ended with it."""

import contextlib
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.patience import DEADLINE

PROGRAMS = Path(__file__).parent / "programs"

Program = subprocess.Popen[str]
Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``programs/NAME.py ARGUMENT...`` in ``cwd``, with pipes as standard streams."""
    with contextlib.ExitStack() as stack:

        def start_program(name: str, *arguments: object, cwd: Path | None = None) -> Program:
            argv = [sys.executable, str(PROGRAMS / f"{name}.py"), *map(str, arguments)]
            program = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=cwd
            )
            stack.callback(_end, program)
            return program

        yield start_program


def _end(program: Program) -> None:
    program.kill()
    program.wait(DEADLINE)
    for pipe in (program.stdin, program.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@pytest.fixture
def line() -> Callable[[Program], str]:
    """Wait for the next line of a program, without its newline."""

    def next_line(program: Program) -> str:
        assert program.stdout is not None
        ready, _, _ = select.select([program.stdout], [], [], DEADLINE)
        assert ready, f"{program.args!r} printed nothing for {DEADLINE:.0f} s"
        text: str = program.stdout.readline()
        assert text, f"{program.args!r} ended with {program.wait(DEADLINE)}"
        return text.rstrip("\n")

    return next_line


@pytest.fixture
def target(start: Start, line: Callable[[Program], str]) -> Program:
    """``programs/target.py``, ready to be dumped."""
    program = start("target")
    assert line(program) == "ready"
    return program


@pytest.fixture
def runs_on(line: Callable[[Program], str]) -> Callable[[Program], bool]:
    """Does the target still answer?"""

    def answers(program: Program) -> bool:
        assert program.stdin is not None
        program.stdin.write("are you there\n")
        return line(program) == "are you there"

    return answers
