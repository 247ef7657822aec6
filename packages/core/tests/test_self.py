# SPDX-License-Identifier: BSD-3-Clause
"""Programs that dump themselves: from any place, and without noticing anything afterwards.

programs/self_dump.c is put into a situation, dumps itself and reports what changed under its feet:
descriptors, mappings, errno, signal mask, children, signals. The core is compared with what it
reported.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import living
import pytest
from living import DEADLINE

from coresnap.corefile import Core, Thread

pytestmark = pytest.mark.host

METHODS = ["stop", "fork"]
HELD = {"nested", "fork-during-dump"}  # these start reading the pipe when it is time
CANARY = 0x43616E6172795F31
MEMORY = bytes((i * 7 + i // 256) % 256 for i in range(1 << 16))  # as say_memory() fills it
PATTERN = {
    64: {f"r{n}": n // 10 * 0x1010101010101010 + n % 10 * 0x0101010101010101 for n in range(12, 16)}
    | {"rbx": 0x0B0B0B0B0B0B0B0B},
    32: {"ebx": 0x0B0B0B0B, "esi": 0x51515151, "edi": 0xD1D1D1D1},
}


@dataclass
class Report:
    """What a program said about its dump, and the core of it."""

    bits: int
    path: Path
    core: Core
    said: dict[str, list[str]]
    memory: dict[str, tuple[int, int]] = field(default_factory=dict)

    def number(self, name: str) -> int:
        return int(self.said[name][0])

    @property
    def caller(self) -> Thread:
        return self.core.threads[0]


Run = Callable[..., Report]


@pytest.fixture(scope="session")
def programs() -> dict[int, Path]:
    """The programs that are compiled already, by word size."""
    return {}


@pytest.fixture
def compiled(
    programs: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Path]:
    """The program of a word size."""

    def compile_one(bits: int) -> Path:
        library = living.build(bits=bits) / "libcoresnap.a"
        if bits not in programs:
            parts = living.PROGRAMS / "self_parts.c"
            programs[bits] = living.compile_program(
                "self_dump", tmp_path_factory.mktemp("self"), parts, library, "-static", bits=bits
            )
        if bits == 32 and not living.runs_32bit(programs[bits]):
            pytest.skip("this kernel does not run 32-bit x86 programs")
        return programs[bits]

    return compile_one


@pytest.fixture
def run(compiled: Callable[[int], Path], tmp_path: Path) -> Run:
    """Run self_dump in a situation; it must have noticed nothing, and the core must be right."""

    def run_one(situation: str, method: str, *, bits: int = 64, output: str = "file") -> Report:
        output = "pipe" if situation in HELD else output
        path, report = tmp_path / "core", tmp_path / "report"
        done = subprocess.run(
            [compiled(bits), situation, method, output, path, report],
            capture_output=True,
            timeout=DEADLINE,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        text = report.read_text()
        assert not re.findall(r"^trouble.*", text, re.MULTILINE), text
        lines = [line.split() for line in text.splitlines()]
        said = {words[0]: words[1:] for words in lines if words[0] != "memory"}
        assert said["code"] == ["0"], said["error"]
        memory = {w[1]: (int(w[2]), int(w[3])) for w in lines if w[0] == "memory"}
        result = Report(bits, path, Core(path), said, memory)
        check(result)
        return result

    return run_one


def check(report: Report) -> None:
    """What holds for the core of every situation."""
    core, caller = report.core, report.caller
    assert sorted(t.tid for t in core.threads) == sorted(map(int, report.said["threads"]))
    assert len(core.threads) == report.number("result_threads")
    check_caller(report)
    (pattern,) = (t for t in core.threads if t.tid == report.number("pattern_tid"))
    expected = PATTERN[report.bits]
    assert {name: pattern.regs[name] for name in expected} == expected
    assert len({t.sp for t in core.threads}) == len(core.threads)
    for start, size in report.memory.values():
        assert core.read(start, size) == (MEMORY * (size // len(MEMORY) + 1))[:size]
    assert caller.prstatus.fpvalid


def check_caller(report: Report) -> None:
    """The calling thread comes first, with the registers of its call of the library."""
    caller = report.caller
    assert caller.tid == report.number("tid")
    start, end = map(int, report.said["text"])
    vdso = report.core.mapping_at(caller.pc)
    assert start <= caller.pc < end or (vdso is not None and vdso.path is None)
    canary = report.number("canary")
    assert 0 < canary - caller.sp < 16 << 10
    assert int.from_bytes(report.core.read(canary, 8), "little") == CANARY
    if report.bits == 64:
        assert caller.regs["fs_base"] == report.number("tcb")


SITUATIONS = [
    "main",
    "thread",
    "small-stack",
    "handler",
    "alternate-stack",
    "sigchld-ignored",
    "sigchld-nocldwait",
    "sigchld-handled",
    "forked-child",
    "no-standard-files",
]


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_program_dumps_itself_and_nothing_changes(
    run: Run, situation: str, method: str, bits: int
) -> None:
    report = run(situation, method, bits=bits)
    assert report.said["method"] == [method]
    assert report.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("output", ["pipe", "memory"])
def test_a_program_dumps_itself_to_every_output(
    run: Run, output: str, method: str, bits: int
) -> None:
    run("main", method, output=output, bits=bits)


@pytest.mark.parametrize("bits", [64, 32])
def test_auto_copies_a_small_program_and_forks_a_large_one(run: Run, bits: int) -> None:
    small = run("main", "auto", bits=bits)
    assert (small.said["method"], small.said["refusals"]) == (["stop"], ["1"])
    small.path.unlink()
    big = run("big", "auto", bits=bits)
    assert (big.said["method"], big.said["refusals"]) == (["fork"], ["0"])


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("method", METHODS)
def test_two_threads_dump_their_program_at_the_same_time(run: Run, method: str, bits: int) -> None:
    run("two-threads", method, bits=bits)


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("method", METHODS)
def test_a_handler_that_interrupted_a_dump_gets_ebusy(run: Run, method: str, bits: int) -> None:
    report = run("nested", method, bits=bits)
    assert report.said["nested"] == ["1", "16"]


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("method", METHODS)
def test_fifty_dumps_while_threads_hold_the_allocator(run: Run, method: str, bits: int) -> None:
    run("malloc", method, bits=bits)


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("method", METHODS)
def test_the_child_of_a_fork_during_a_dump_dumps_itself(run: Run, method: str, bits: int) -> None:
    run("fork-during-dump", method, bits=bits)


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("method", METHODS)
def test_a_core_is_complete_although_its_program_exits_during_the_dump(
    compiled: Callable[[int], Path], tmp_path: Path, method: str, bits: int
) -> None:
    path, report = tmp_path / "core", tmp_path / "report"
    situation = ["exit-during-dump", method, "stdout"]
    with subprocess.Popen(
        [compiled(bits), *situation, path, report], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        # The pipe holds the dump up until the program has ended.
        assert process.wait(DEADLINE) == 0
        with path.open("wb") as to:
            shutil.copyfileobj(process.stdout, to)
    threads = re.search(r"^threads (.*)", report.read_text(), re.MULTILINE)
    assert threads
    with Core(path) as core:
        assert sorted(t.tid for t in core.threads) == sorted(map(int, threads[1].split()))


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_was_not_linked_to_the_library(tmp_path: Path, method: str) -> None:
    library = living.build() / "libcoresnap.so"
    program = living.compile_program("dlopen_dump", tmp_path, "-ldl")
    path = tmp_path / "core"
    done = subprocess.run(
        [program, library, method, path], capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stderr
    tids = [int(tid) for tid in done.stdout.split()]
    with Core(path) as core:
        assert [thread.tid for thread in core.threads] == tids
        mapping = core.mapping_at(core.threads[0].pc)
        assert mapping is not None
        assert mapping.path == str(library.resolve()).encode()
