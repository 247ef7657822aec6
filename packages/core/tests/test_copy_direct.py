# SPDX-License-Identifier: BSD-3-Clause
"""What is read with O_DIRECT while a dump is made reaches the program, and its core.

The bytes of such a read come to the pages that the memory had when it began. A fork can take these
away, and no write-protection sees what comes there (src/direct.h). programs/direct.c reads all the
time, and knows every byte.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import living
import pytest
from living import WIDTHS, Subject
from toolchain import Width

import coresnap
from coresnap import Core, Method
from lab.patience import DEADLINE

pytestmark = pytest.mark.host

PIECE, PIECES = 65536, 128
LARGE = 64  # MiB, of which auto thinks of precopy
DUMPS = 25

Start = Callable[..., Subject]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs that use files with O_DIRECT, each in its way."""
    with contextlib.ExitStack() as stack:

        def start_one(mode: str, *more: str, width: Width = Width.NATIVE) -> Subject:
            program = living.program("direct", width)
            subject = stack.enter_context(Subject(program, tmp_path / "file", *more))
            answer = subject.ask("begin", mode)
            if answer.startswith("errno"):
                pytest.skip(f"not possible here ({mode}): {os.strerror(int(answer.split()[1]))}")
            return subject

        yield start_one


def pieces_in(core: Core, flags: int, memory: int) -> Iterator[tuple[int, bytes]]:
    """The pieces that were not being read, by their numbers."""
    for number, flag in enumerate(core.read(flags, PIECES)):
        if not flag:
            yield number, core.read(memory + number * PIECE, PIECE)


def right(number: int) -> bytes:
    """What a piece is in the file."""
    return struct.pack(f"={PIECE // 8}Q", *(number << 32 | i for i in range(1, PIECE // 8 + 1)))


@pytest.fixture(scope="module")
def file() -> list[bytes]:
    """The pieces of the file."""
    return [right(number) for number in range(PIECES)]


@pytest.mark.parametrize(
    ("mode", "method"), [("read", "fork"), ("read", "stop"), ("aio", "auto"), ("aio", "stop")]
)
@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_read_meanwhile_reaches_the_program_and_the_core(
    start: Start, tmp_path: Path, file: list[bytes], width: Width, mode: str, method: str
) -> None:
    subject = start(mode, width=width)
    flags, memory = (int(word, 16) for word in subject.ask("memory").split())
    before = living.footprint(subject.pid)
    for _ in range(DUMPS):
        path = tmp_path / "core"
        done = living.run_tool("-m", method, "-q", "-f", "-o", path, str(subject.pid))
        assert done.returncode == 0, done.stderr
        with Core(path) as core:
            pieces = list(pieces_in(core, flags, memory))
        assert len(pieces) >= PIECES - 4
        assert [number for number, piece in pieces if piece != file[number]] == []
    count, end = subject.number("rounds"), time.monotonic() + DEADLINE
    while subject.number("rounds") == count:
        assert time.monotonic() < end, "it reads no more"
    assert subject.number("check") == 0
    living.until_undisturbed(subject, before)


# What keeps a method from a program that uses a file in such a way.
FORK, PRECOPY = "in the background", "cannot be tracked"
REFUSED = {
    "read": {Method.PRECOPY: PRECOPY},
    "aio": {Method.PRECOPY: PRECOPY, Method.FORK: FORK},
    "ring": {Method.PRECOPY: PRECOPY, Method.FORK: FORK},
    "write": {},
}


@pytest.mark.parametrize("mode", REFUSED)
def test_a_method_that_could_lose_what_is_read_is_not_taken(start: Start, mode: str) -> None:
    subject = start(mode, str(LARGE))
    told = {each.method: each for each in coresnap.doctor(subject.pid).methods}
    for method, why in REFUSED[mode].items():
        said = told[method]
        assert said.error is not None
        assert "O_DIRECT" in said.error.what
        assert why in said.error.what
        with pytest.raises(coresnap.Failed) as raised:
            coresnap.dump(subject.pid, None, method=method)
        assert (raised.value.what, raised.value.remedy) == (said.error.what, said.error.remedy)
    result = coresnap.dump(subject.pid, None)
    assert result.method not in REFUSED[mode]
    refused = {refusal.method: refusal.reason for refusal in result.why_not}
    for method, why in REFUSED[mode].items():
        assert why in refused[method]
    for method in {Method.FORK, Method.STOP} - set(REFUSED[mode]):
        assert coresnap.dump(subject.pid, None, method=method).method == method
    assert subject.number("check") == 0
