# SPDX-License-Identifier: BSD-3-Clause
"""Targets, callers and surroundings that make a dump hard: none is harmed, and none is misled."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hard
import living
import pytest
from living import NOBODY, Held, Subject, needs_root, only_x86_64

from coresnap.corefile import Core
from lab.patience import AT_ONCE, DEADLINE

pytestmark = pytest.mark.host

MIB = 1 << 20
PAGE = 4096
FAILED, USAGE, NO_PROCESS, INCOMPLETE, CANCELLED = 1, 2, 3, 5, 130

Start = Callable[..., Subject]


@pytest.fixture(scope="session")
def public() -> Iterator[Path]:
    """A directory that every user may enter, with the programs in it."""
    with tempfile.TemporaryDirectory(prefix="coresnap-") as name:
        place = Path(name)
        place.chmod(0o755)
        shutil.copy(living.program("hostile"), place / "hostile")
        shutil.copy(living.tool(), place / "coresnap-dump")
        yield place


@pytest.fixture
def start(public: Path) -> Iterator[Start]:
    """Start targets, with the command before them and the arguments behind."""
    with contextlib.ExitStack() as stack:

        def start_one(
            *arguments: str, before: tuple[str, ...] = (), user: int | None = None
        ) -> Subject:
            return stack.enter_context(Subject(*before, public / "hostile", *arguments, user=user))

        yield start_one


@pytest.fixture(scope="session")
def calls() -> Path:
    """The program that uses the shared library."""
    return living.program("hostile_calls")


def tell_or_skip(subject: Subject, what: str) -> str:
    """What a subject answers; skips when the kernel refuses it."""
    answer = subject.ask(what)
    if answer.startswith("errno"):
        number = int(answer.split()[1])
        pytest.skip(f"this kernel refuses it ({what}): {os.strerror(number)}")
    return answer


def facts(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object of a dump."""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# -- a target that changes or holds on -------------------------------------------------------------


def test_a_target_that_enters_its_sandbox_while_its_copy_is_read_lives(start: Start) -> None:
    """The injected page stays then: munmap would be the target's end."""
    subject = start()
    subject.tell("threads", 2)
    with Held(subject.pid, "-m", "fork") as held:
        assert held.copy
        assert tell_or_skip(subject, "sandbox") == "ok"
        assert held.finish() == 0
    assert subject.ask("ping") == "pong"
    assert living.status(subject.pid, "TracerPid") == "0"
    assert living.children(subject.pid) == []


@needs_root
@pytest.mark.parametrize("method", ["stop", "fork"])
def test_a_dumper_that_waits_for_a_page_of_its_target_can_be_cancelled(
    start: Start, tmp_path: Path, method: str
) -> None:
    subject = start()
    tell_or_skip(subject, "userfault")
    before = living.footprint(subject.pid)
    process = subprocess.Popen(
        [living.tool(), "-m", method, "-o", "core", str(subject.pid)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert subject.line() == "fault"
        assert living.status(subject.pid, "State").startswith("t")
        pidfd = os.pidfd_open(process.pid)
        process.send_signal(signal.SIGINT)
        gone = living.wait_gone(pidfd, seconds=AT_ONCE)
        os.close(pidfd)
        assert gone, "the dumper does not end"
        _, said = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)
    assert process.returncode == CANCELLED
    assert said.startswith("coresnap-dump: cancelled")
    assert list(tmp_path.iterdir()) == []
    living.until_undisturbed(subject, before)


# -- a thread in 32-bit code of a 64-bit process ---------------------------------------------------


@only_x86_64
@pytest.mark.parametrize("method", [*living.METHODS, "auto"])
@pytest.mark.parametrize("where", ["thread", "main"])
def test_a_thread_in_32_bit_code_is_told_as_missing_and_the_others_are_right(
    start: Start, tmp_path: Path, method: str, where: str
) -> None:
    subject = start(*["32"] * (where == "main"))
    tid = subject.pid if where == "main" else int(tell_or_skip(subject, "thread32"))
    subject.tell("threads", 2)
    before = living.footprint(subject.pid)
    path = tmp_path / "core"
    done = living.run_tool("-m", method, "--json", "-o", path, str(subject.pid))
    assert done.returncode == INCOMPLETE, done.stderr
    told = facts(done)
    assert [skip["tid"] for skip in told["skipped"] if skip["reason"] == "thread"] == [tid]
    assert (told["threads"], told["missed"]) == (len(before.threads) - 1, 1)
    with Core(path) as core:
        assert {thread.tid for thread in core.threads} == before.threads - {tid}
        for thread in core.threads:
            code, stack = core.mapping_at(thread.pc), core.mapping_at(thread.sp)
            assert code is not None
            assert code.perms == "r-x"
            assert stack is not None
            assert stack.perms == "rw-"
    living.until_undisturbed(subject, before)
    count, end = subject.number("rounds"), time.monotonic() + DEADLINE
    while subject.number("rounds") == count:
        assert time.monotonic() < end, "the 32-bit code does not run on"


@only_x86_64
def test_that_a_thread_runs_32_bit_code_shows_only_when_it_has_stopped(start: Start) -> None:
    """Its registers tell, and nothing that can be seen of it before: the doctor cannot know."""
    subject = start()
    tell_or_skip(subject, "thread32")
    before = living.footprint(subject.pid)
    done = hard.judge(hard.Hard(subject=subject, pid=subject.pid))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    works = {check["method"]: check["works"] for check in told["doctor"]["methods"]}
    for method in (*living.METHODS, "auto"):
        came = told["dumps"][method]
        assert (came["error"], came["missed"]) == ("Incomplete", 1)
        assert "32-bit code" in came["what"]
        assert works.get(method, True)
    assert not [note for note in told["doctor"]["notes"] if "threads" in note]
    living.until_undisturbed(subject, before)


# -- address spaces that are alike -----------------------------------------------------------------


def mapped(pid: int) -> set[tuple[int, int]]:
    """The ranges of a process, but for [vsyscall], which the kernel alone owns."""
    lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
    ranges = [line.split()[0].split("-") for line in lines if "[vsyscall]" not in line]
    return {(int(start, 16), int(end, 16)) for start, end in ranges}


@pytest.mark.parametrize("method", living.METHODS)
def test_no_mapping_is_taken_for_one_of_a_dumper_at_the_same_addresses(
    start: Start, tmp_path: Path, method: str
) -> None:
    fixed = (living.need("setarch"), "--addr-no-randomize")
    if subprocess.run([*fixed, "true"], capture_output=True, timeout=DEADLINE).returncode:
        pytest.skip("address space randomisation cannot be turned off here")
    subject = start(before=fixed)
    subject.tell("many", 40)
    before = mapped(subject.pid)
    path = tmp_path / "core"
    done = subprocess.run(
        [*fixed, living.tool(), "-m", method, "-q", "-o", path, str(subject.pid)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Core(path) as core:
        assert before - {(mapping.start, mapping.end) for mapping in core.maps} == set()


# -- memory that reading would make ----------------------------------------------------------------


def dump_as_nobody(public: Path, subject: Subject, core: Path) -> dict[str, Any]:
    """Dump a target of the same unprivileged user; returns what was told."""
    done = living.run_tool(
        *("-m", "stop", "--json", "-o", core, str(subject.pid)),
        program=public / "coresnap-dump",
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
    )
    assert done.returncode == 0, done.stderr
    return facts(done)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """An empty directory that everybody may write to."""
    with tempfile.TemporaryDirectory(prefix="coresnap-") as name:
        place = Path(name)
        place.chmod(0o777)
        yield place


@needs_root
def test_an_unprivileged_dump_does_not_populate_shared_memory(
    public: Path, start: Start, open_directory: Path
) -> None:
    subject = start(user=NOBODY)
    size = 64 * MIB
    address = subject.number("shared", size // MIB)
    before = living.status(subject.pid, "RssShmem")
    told = dump_as_nobody(public, subject, open_directory / "core")
    assert living.status(subject.pid, "RssShmem") == before
    assert told["bytes_skipped"]["unmapped"] == size - PAGE
    assert [
        (int(skip["start"], 16), int(skip["end"], 16))
        for skip in told["skipped"]
        if skip["reason"] == "unmapped"
    ] == [(address + PAGE, address + size)]
    assert (open_directory / "core").stat().st_blocks * 512 < 4 * MIB
    with Core(open_directory / "core") as core:
        assert core.read(address, 2 * PAGE) == b"\x5a" * PAGE + bytes(PAGE)


@needs_root
def test_an_unprivileged_dump_keeps_data_and_holes_of_a_memfd(
    public: Path, start: Start, open_directory: Path
) -> None:
    subject = start(user=NOBODY)
    size = 64 * MIB
    address = subject.number("memfd", size // MIB)
    before = int(living.status(subject.pid, "RssShmem").split()[0])
    told = dump_as_nobody(public, subject, open_directory / "core")
    # The page that is in the file and was not mapped in.
    assert int(living.status(subject.pid, "RssShmem").split()[0]) - before <= PAGE // 1024
    assert told["bytes_skipped"]["unmapped"] == 0
    assert (open_directory / "core").stat().st_blocks * 512 < 4 * MIB
    with Core(open_directory / "core") as core:
        pages = [core.read(address + number * PAGE, PAGE) for number in (0, 1, 7, 8)]
    assert pages == [b"\x5a" * PAGE, bytes(PAGE), b"\xa5" * PAGE, bytes(PAGE)]


def test_without_memory_to_stage_in_the_core_is_written_while_the_target_is_stopped(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = start()
    size = 64 * MIB
    address = subject.number("map", size // MIB)
    limited = tmp_path / "limited"
    words = [living.need("prlimit"), f"--as={32 * MIB}", str(living.tool())]
    limited.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    limited.chmod(0o755)
    monkeypatch.setenv("CORESNAP_DUMP", str(limited))
    before = living.footprint(subject.pid)
    # More than can be staged, and less than the budget.
    with Held(subject.pid, "-m", "stop", "--stage-budget", str(2 * size)) as held:
        assert living.status(subject.pid, "State").startswith("t")
        assert held.finish(tmp_path / "core") == 0
    living.until_undisturbed(subject, before)
    with Core(tmp_path / "core") as core:
        assert core.read(address, size) == b"\x5a" * size


# -- pid namespaces and /proc ----------------------------------------------------------------------


def printed(program: Path, *arguments: object) -> list[list[str]]:
    """The lines of what a program prints, as words."""
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split() for line in done.stdout.splitlines()]


@needs_root
@pytest.mark.parametrize("who", ["unshare", "unshare-thread", "unshare-init", "unshare-both"])
def test_a_caller_whose_children_live_elsewhere_is_refused_and_can_fork(
    calls: Path, start: Start, who: str
) -> None:
    subject = start()
    before = living.footprint(subject.pid)
    dumped, *forked = printed(calls, who, subject.pid)
    if dumped[0] == "errno":
        pytest.skip(f"no new pid namespace here: {os.strerror(int(dumped[1]))}")
    assert dumped[:2] == ["dump", str(FAILED)]
    assert "another pid namespace" in " ".join(dumped)
    assert forked == [["child", "7"]]
    living.until_undisturbed(subject, before)


def refused_in(place: Path, before: list[str], pid: int) -> str:
    """Run the tool behind a command; it must fail and write nothing. Returns what it says."""
    probe = subprocess.run([*before, "true"], capture_output=True, text=True, timeout=DEADLINE)
    if probe.returncode:
        pytest.skip(f"not possible here: {probe.stderr.strip()}")
    done = subprocess.run(
        [*before, living.tool(), "-o", "core", str(pid)],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stdout) == (FAILED, ""), done.stderr
    assert list(place.iterdir()) == []
    return done.stderr


@needs_root
def test_proc_of_another_pid_namespace_is_refused(tmp_path: Path, start: Start) -> None:
    subject = start()
    before = living.footprint(subject.pid)
    words = [living.need("unshare"), "--pid", "--fork"]
    for pid in (1, subject.pid):
        assert "another pid namespace" in refused_in(tmp_path, words, pid)
    living.until_undisturbed(subject, before)


@needs_root
def test_without_proc_the_refusal_says_so(tmp_path: Path, start: Start) -> None:
    subject = start()
    before = living.footprint(subject.pid)
    script = 'umount --lazy /proc && exec "$@"'
    words = [living.need("unshare"), "--mount", "sh", "-c", script, "sh"]
    said = refused_in(tmp_path, words, subject.pid)
    assert "/proc cannot be read" in said
    assert "mount -t proc" in said
    living.until_undisturbed(subject, before)


# -- cores in memory -------------------------------------------------------------------------------


def test_a_failed_dump_gives_back_no_descriptor_and_one_that_nobody_could_close_is_refused(
    calls: Path, start: Start
) -> None:
    subject = start()
    said = {words[0]: list(map(int, words[1:])) for words in printed(calls, "memory", subject.pid)}
    assert said == {
        # Code, memory_fd, descriptors more than before.
        "no_directory": [FAILED, -1, 0],
        "no_process": [NO_PROCESS, -1, 0],
        "no_method": [USAGE, -1, 0],
        "no_result": [USAGE, 0],
        "short_result": [USAGE, 0],
        "result": [0, 1],
    }
