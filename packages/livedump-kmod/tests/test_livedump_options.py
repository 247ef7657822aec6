# SPDX-License-Identifier: BSD-3-Clause
"""The parser of /proc/PID/livedump, as the series has it, in user space under sanitizers."""

from __future__ import annotations

import errno
import random
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lab.patience import DEADLINE

HERE = Path(__file__).resolve().parent
PATCHES = HERE.parent / "6.1"
UNLIMITED = 2**64 - 1
DEFAULTS = (19, 7, 15, 0, 0, 0, 0)
FUZZED = 100_000

Parse = Callable[[Sequence[bytes]], list[tuple[int, ...]]]


@pytest.fixture(scope="module")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Parse:
    """The parser, compiled from the patch that adds it: seven numbers for a text, or an error."""
    to = tmp_path_factory.mktemp("parser")
    (patch,) = PATCHES.glob("0002-*.patch")
    argv = ["git", "apply", "--include=kernel/livedump/options.*", str(patch)]
    subprocess.run(argv, cwd=to, check=True, timeout=DEADLINE)
    parser = to / "kernel" / "livedump"
    program = to / "parser"
    argv = ["gcc", "-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror"]
    argv += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    argv += ["-I", str(HERE / "user"), "-I", str(parser), "-o", str(program)]
    argv += [str(HERE / "user" / "main.c"), str(parser / "options.c")]
    subprocess.run(argv, check=True, timeout=DEADLINE)

    def run(texts: Sequence[bytes]) -> list[tuple[int, ...]]:
        lines = "".join(f"{text.hex()}\n" for text in texts)
        done = subprocess.run(
            [program], input=lines, capture_output=True, text=True, timeout=DEADLINE, check=True
        )
        return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]

    return run


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (b"", DEFAULTS),
        (b"\n", DEFAULTS),
        (b"\0", DEFAULTS),
        (b" ,\t\n,,", DEFAULTS),
        (b"core_limit=unlimited\n", (19, 7, 15, UNLIMITED, 0, 0, 1)),
        (b"core_limit=0", (19, 7, 15, 0, 0, 0, 1)),
        (b"core_limit=4096\0", (19, 7, 15, 4096, 0, 0, 1)),
        (b"core_limit=18446744073709551615", (19, 7, 15, UNLIMITED, 0, 0, 1)),
        (b"core_limit=99999999999999999999", (19, 7, 15, UNLIMITED, 0, 0, 1)),
        (b"core_limit=1 core_limit=2", (19, 7, 15, 2, 0, 0, 1)),
        (b"sched_prio=-20,io_prio=0,oom_adj=-17", (-20, 0, -17, 0, 1, 1, 0)),
        (b"sched_prio=19\nio_prio=7\noom_adj=15\n", (19, 7, 15, 0, 1, 1, 0)),
        (b"sched_prio=+5", (5, 7, 15, 0, 1, 0, 0)),
    ],
)
def test_what_is_understood(parse: Parse, text: bytes, numbers: tuple[int, ...]) -> None:
    assert parse([text]) == [numbers]


@pytest.mark.parametrize(
    "text",
    [
        b"x",
        b"=",
        b"=1",
        b"core_limit",
        b"core_limit=",
        b"core_limit =1",
        b"core_limit= 1",
        b"core_limit=-1",
        b"core_limit=0x10",
        b"core_limit=1k",
        b"core_limit=Unlimited",
        b"core_limit=1=1",
        b"CORE_LIMIT=1",
        b"core_limit=1;",
        b"core_limit=1 x",
        b"core_limit=1\0\0",
        b"core_limit=1\0core_limit=2",
        b"sched_prio=-21",
        b"sched_prio=20",
        b"sched_prio=4294967296",
        b"io_prio=-1",
        b"io_prio=8",
        b"oom_adj=-18",
        b"oom_adj=16",
        b"oom_adj=--1",
        b"\xff",
    ],
)
def test_what_is_not_understood_is_einval(parse: Parse, text: bytes) -> None:
    assert parse([text]) == [(-errno.EINVAL,)]


_RANGES = {b"sched_prio": (-20, 19), b"io_prio": (0, 7), b"oom_adj": (-17, 15)}


def _option(option: bytes, numbers: list[int]) -> bool:
    """The grammar of the documentation, said once more."""
    key, equals, value = option.partition(b"=")
    if not equals:
        return False
    if key == b"core_limit":
        if value != b"unlimited" and not re.fullmatch(rb"\+?[0-9]+", value):
            return False
        limit = UNLIMITED if value == b"unlimited" else min(int(value), UNLIMITED)
        numbers[3], numbers[6] = limit, 1
        return True
    if key not in _RANGES or not re.fullmatch(rb"[-+]?[0-9]+", value):
        return False
    low, high = _RANGES[key]
    place = list(_RANGES).index(key)
    numbers[place] = int(value)
    if place != 1:
        numbers[4 + place // 2] = 1
    return low <= int(value) <= high


def _expected(text: bytes) -> tuple[int, ...]:
    numbers = list(DEFAULTS)
    text = text.removesuffix(b"\0")
    options = re.split(rb"[ \t\n,]", text)
    if b"\0" in text or not all(_option(option, numbers) for option in options if option):
        return (-errno.EINVAL,)
    return tuple(numbers)


_WORDS = [
    *(b"core_limit", b"sched_prio", b"io_prio", b"oom_adj", b"unlimited", b"=", b"=", b"=", b"="),
    *(b" ", b"\n", b",", b"\t", b"\0", b"-", b"+", b"0", b"1", b"7", b"9", b"15", b"-17", b"20"),
    *(b"18446744073709551616", b"2147483648", b"\xff", b"x", b"\x0b", b"0x", b""),
]


def _random_text(source: random.Random) -> bytes:
    if source.random() < 0.5:
        option = (b"%s=%d" % (source.choice(list(_RANGES)), source.randint(-25, 25)) for _ in "123")
        return source.choice([b" ", b",", b"\n", b"  "]).join(option)
    return b"".join(source.choice(_WORDS) for _ in range(source.randint(0, 12)))


def test_any_text_is_an_error_or_means_what_the_documentation_says(parse: Parse) -> None:
    source = random.Random(5)
    texts = [_random_text(source) for _ in range(FUZZED)]
    wanted = [_expected(text) for text in texts]
    assert sum(len(each) > 1 for each in wanted) > FUZZED // 20
    for text, said, want in zip(texts, parse(texts), wanted, strict=True):
        assert said == want, text
