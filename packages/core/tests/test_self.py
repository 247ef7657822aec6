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
from living import WIDTHS
from toolchain import Width

from coresnap.corefile import Core, Thread
from lab.patience import DEADLINE

pytestmark = pytest.mark.host

METHODS = living.METHODS
HELD = {"nested", "fork-during-dump"}  # these start reading the pipe when it is time
CANARY = 0x43616E6172795F31
MEMORY = bytes((i * 7 + i // 256) % 256 for i in range(1 << 16))  # as say_memory() fills it
# What hold_registers() holds, by the core's architecture.
PATTERN = {
    "x86-64": {f"r{n}": int(f"{n}" * 8, 16) for n in range(12, 16)} | {"rbx": 0x0B0B0B0B0B0B0B0B},
    "x86-32": {"ebx": 0x0B0B0B0B, "esi": 0x51515151, "edi": 0xD1D1D1D1},
    "arm": {f"r{n}": int(f"{n:02}" * 4, 16) for n in (4, 5, 6, 8, 9, 10)},
    "arm64": {f"x{n}": int(f"{n}" * 8, 16) for n in range(19, 29)},
}
NT_ARM_TLS = 0x401
ROOM_FOR_NOTES = 4 << 20  # and more is left before memory that is written before they are


@dataclass
class Report:
    """What a program said about its dump, and the core of it."""

    width: Width
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


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run self_dump in a situation; it must have noticed nothing, and the core must be right."""

    def run_one(
        situation: str, method: str, *, width: Width = Width.NATIVE, output: str = "file"
    ) -> Report:
        output = "pipe" if situation in HELD else output
        path, report = tmp_path / "core", tmp_path / "report"
        done = subprocess.run(
            [living.program("self_dump", width), situation, method, output, path, report],
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
        result = Report(width, path, Core(path), said, memory)
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
    assert core.arch == report.width.architecture.name
    expected = PATTERN[core.arch]
    assert {name: pattern.regs[name] for name in expected} == expected
    assert len({t.sp for t in core.threads}) == len(core.threads)
    for start, size in report.memory.values():
        assert core.read(start, size) == (MEMORY * (size // len(MEMORY) + 1))[:size]
    # The kernel's word for a note of this type; it has none of a 32-bit process of arm64.
    assert caller.prstatus.fpvalid == any(note.name == "NT_PRFPREG" for note in caller.notes)


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
    if report.core.arch == "x86-64":
        assert caller.regs["fs_base"] == report.number("tcb")
    if report.core.arch == "arm64":
        tls = caller.regset(NT_ARM_TLS)
        assert tls is not None
        assert int.from_bytes(tls[:8], "little") == report.number("tcb")


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


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_program_dumps_itself_and_nothing_changes(
    run: Run, situation: str, method: str, width: Width
) -> None:
    report = run(situation, method, width=width)
    assert report.said["method"] == [method]
    assert report.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("output", ["pipe", "memory"])
def test_a_program_dumps_itself_to_every_output(
    run: Run, output: str, method: str, width: Width
) -> None:
    run("main", method, output=output, width=width)


@pytest.mark.parametrize("width", WIDTHS)
def test_auto_copies_a_small_program_and_forks_a_large_one(run: Run, width: Width) -> None:
    small = run("main", "auto", width=width)
    assert (small.said["method"], small.said["refusals"]) == (["stop"], ["1"])
    small.path.unlink()
    big = run("big", "auto", width=width)
    assert (big.said["method"], big.said["refusals"]) == (["fork"], ["0"])


@pytest.mark.skipif(not living.TRACKS_WRITES, reason="no precopy here")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("method", ["precopy", "auto"])
def test_a_large_program_writes_its_memory_ahead_to_its_place(
    run: Run, method: str, width: Width
) -> None:
    report = run("large", method, width=width)
    assert report.said["method"] == ["precopy"]
    loads = [mapping.offset for mapping in report.core.maps if mapping.filesz]
    assert min(loads) > ROOM_FOR_NOTES


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("method", METHODS)
def test_two_threads_dump_their_program_at_the_same_time(
    run: Run, method: str, width: Width
) -> None:
    run("two-threads", method, width=width)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("method", METHODS)
def test_a_handler_that_interrupted_a_dump_gets_ebusy(run: Run, method: str, width: Width) -> None:
    report = run("nested", method, width=width)
    assert report.said["nested"] == ["1", "16"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("method", METHODS)
def test_fifty_dumps_while_threads_hold_the_allocator(run: Run, method: str, width: Width) -> None:
    run("malloc", method, width=width)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("method", METHODS)
def test_the_child_of_a_fork_during_a_dump_dumps_itself(
    run: Run, method: str, width: Width
) -> None:
    run("fork-during-dump", method, width=width)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("method", METHODS)
def test_a_core_is_complete_although_its_program_exits_during_the_dump(
    tmp_path: Path, method: str, width: Width
) -> None:
    path, report = tmp_path / "core", tmp_path / "report"
    situation = ["exit-during-dump", method, "stdout"]
    with subprocess.Popen(
        [living.program("self_dump", width), *situation, path, report], stdout=subprocess.PIPE
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
    program = living.program("dlopen_dump")
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
