# SPDX-License-Identifier: BSD-3-Clause
"""A copy made by the method fork takes part in nothing: the target's world goes on without it.

The dump is held open by a pipe that the test does not read. Meanwhile the target closes, moves,
exits, and everything must come about at once, not when the copy is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import living
import pytest
from living import WIDTHS, Held, Subject, needs_64_bits, needs_pagemap_scan
from toolchain import Width

from coresnap.corefile import Core
from lab.longform import STAMPS
from lab.patience import AT_ONCE, DEADLINE, PATIENCE

pytestmark = pytest.mark.host

MIB = 1 << 20
QUIET = "0 1 1"  # no SIGCHLD; neither kind of wait sees a child
QUIET_BUT_FOR_THE_COPY = "0 1 0"  # only __WALL shows it

Start = Callable[..., Subject]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start targets, as their own parents would by a command before them."""
    with contextlib.ExitStack() as stack:

        def start_one(
            *before: str | Path, threads: int = 3, width: Width = Width.NATIVE
        ) -> Subject:
            subject = stack.enter_context(Subject(*before, living.program("world", width)))
            if threads:
                subject.tell("threads", threads)
            return subject

        yield start_one


def held_fork(subject: Subject) -> Held:
    held = Held(subject.pid, "-m", "fork")
    assert held.copy, "there is no copy while the dump is held"
    return held


# -- what the target gives up ----------------------------------------------------------------------


def test_a_peer_sees_the_end_of_a_closed_connection_at_once(start: Start) -> None:
    subject = start()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE)
        fd = subject.number("connect", server.getsockname()[1])
        connection, _ = server.accept()
    with connection, held_fork(subject) as held:
        subject.tell("close", fd)
        connection.settimeout(AT_ONCE)
        assert connection.recv(1) == b""
        assert held.is_going_on()
        assert held.finish() == 0


def test_port_and_locks_of_a_target_that_exits_are_free_at_once(
    start: Start, tmp_path: Path
) -> None:
    subject, heir = start(), start()
    port = subject.number("listen", 0)
    for lock in ("flock", "lockf"):
        subject.tell(lock, tmp_path / lock)
        assert heir.ask(lock, tmp_path / lock).startswith("errno")
    with held_fork(subject) as held:
        subject.process.kill()
        subject.process.wait(AT_ONCE)
        assert heir.number("listen", port) == port
        for lock in ("flock", "lockf"):
            heir.tell(lock, tmp_path / lock)
        assert held.is_going_on()
        assert living.is_copy(held.copy)
        assert held.finish() == 0


@pytest.mark.parametrize("method", living.METHODS)
def test_a_core_is_complete_although_its_target_exits_after_the_pause(
    start: Start, tmp_path: Path, method: str
) -> None:
    subject = start()
    path = tmp_path / "core"
    with Held(subject.pid, "-m", method) as held:
        subject.process.kill()
        # Its parent can reap it: nobody traces it any more.
        assert subject.process.wait(AT_ONCE) == -signal.SIGKILL
        assert held.is_going_on()
        copy = os.pidfd_open(held.copy) if held.copy else None
        assert held.finish(path) == 0
        if copy is not None:
            assert living.wait_gone(copy)
            os.close(copy)
    with Core(path) as core:
        assert len(core.threads) == 4


@living.needs_root
def test_a_file_system_that_the_target_left_is_unmounted_at_once(
    start: Start, tmp_path: Path
) -> None:
    unshare, nsenter = living.need("unshare"), living.need("nsenter")
    script = 'mount -t tmpfs tmpfs "$1" && cd "$1" && shift && exec "$@"'
    subject = start(unshare, "--mount", "sh", "-c", script, "sh", tmp_path)
    unmount = [nsenter, "--mount", "--target", str(subject.pid), "umount", str(tmp_path)]
    subject.tell("chdir", tmp_path)
    with held_fork(subject) as held:
        busy = subprocess.run(unmount, capture_output=True, text=True, timeout=DEADLINE)
        assert "busy" in busy.stderr
        subject.tell("chdir", "/")
        subprocess.run(unmount, check=True, timeout=AT_ONCE)
        assert held.is_going_on()
        assert held.finish() == 0


# -- what the copy is ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_the_copy_has_a_name_and_nothing_else_and_never_runs(start: Start, width: Width) -> None:
    subject = start(width=width)
    with held_fork(subject) as held:
        place = Path(f"/proc/{held.copy}")
        assert (place / "comm").read_text() == "coresnap-copy\n"
        assert (place / "oom_score_adj").read_text() == "1000\n"
        assert list((place / "fd").iterdir()) == []
        # An empty directory of /proc that is the copy's own, if it may change its root.
        assert os.readlink(place / "cwd") == os.readlink(place / "root")
        assert os.readlink(place / "root") in ("/", f"/proc/{held.copy}/fdinfo")
        assert living.threads(held.copy) == {held.copy}
        assert living.status(held.copy, "State").startswith("t")
        assert living.status(held.copy, "PPid") == str(subject.pid)
        switches = living.status(held.copy, "voluntary_ctxt_switches")
        for _ in range(20):
            assert subject.ask("ping") == "pong"
        assert living.status(held.copy, "State").startswith("t")
        assert living.status(held.copy, "voluntary_ctxt_switches") == switches
        assert living.status(held.copy, "TracerPid") != str(held.process.pid)
        assert held.finish() == 0
    assert not place.exists()


def test_no_copy_ever_stamps_a_shared_page(start: Start) -> None:
    subject = start(threads=0)
    subject.tell("stamp", 2)
    # Fewer where each takes long.
    for _ in range(max(10, int(STAMPS / PATIENCE))):
        with held_fork(subject) as held:
            assert held.finish() == 0
    foreign, rounds = subject.ask("foreign").split()
    assert int(foreign) == 0
    assert int(rounds) > 0


@pytest.mark.parametrize("width", WIDTHS)
def test_the_target_sees_no_child_and_is_afterwards_as_before(start: Start, width: Width) -> None:
    subject = start(width=width)
    before = living.footprint(subject.pid)
    with held_fork(subject) as held:
        assert subject.ask("children") == QUIET_BUT_FOR_THE_COPY
        assert living.status(subject.pid, "TracerPid") == "0"
        assert held.finish() == 0
    living.until_undisturbed(subject, before)
    assert subject.ask("children") == QUIET


# -- dumpers that die ------------------------------------------------------------------------------


def pids_of_dumper(held: Held) -> tuple[int, int]:
    """The program that dumps, and its helper that does the work."""
    return held.process.pid, int(living.status(held.copy, "TracerPid"))


@pytest.mark.parametrize("whom", ["program", "helper"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_killed_dumper_takes_its_copy_along_and_the_next_dump_works(
    start: Start, whom: str, width: Width
) -> None:
    subject = start(width=width)
    before = living.footprint(subject.pid)
    with held_fork(subject) as held:
        copy = os.pidfd_open(held.copy)
        victim = pids_of_dumper(held)[whom == "helper"]
        os.kill(victim, signal.SIGKILL)
        try:
            assert living.wait_gone(copy)
        finally:
            os.close(copy)
        code = held.process.wait(DEADLINE)
        if whom == "program":
            assert code == -signal.SIGKILL
        else:
            assert code == 1
            assert re.fullmatch(r"coresnap-dump: .*killed by signal 9.*\n", held.talk())
    living.until_undisturbed(subject, before)
    assert subject.ask("children") == QUIET
    with held_fork(subject) as held:
        assert held.finish() == 0
    living.until_undisturbed(subject, before)


@pytest.mark.parametrize("whom", ["program", "helper"])
def test_a_killed_dumper_of_a_stopped_target_lets_it_go(start: Start, whom: str) -> None:
    subject = start()
    before = living.footprint(subject.pid)
    with Held(subject.pid, "-m", "stop", "--stage-budget", "1") as held:
        helper = int(living.status(subject.pid, "TracerPid"))
        assert living.status(subject.pid, "State").startswith("t")
        os.kill(held.process.pid if whom == "program" else helper, signal.SIGKILL)
        held.process.wait(DEADLINE)
    living.until_undisturbed(subject, before)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_mapping_beside_the_injected_page_is_whole_in_the_core(
    start: Start, tmp_path: Path, width: Width
) -> None:
    """The two may merge, so that the copy has a mapping that the target had not."""
    subject = start(threads=0, width=width)
    address = subject.number("page")
    path = tmp_path / "core"
    done = living.run_tool("-m", "fork", "-q", "-o", path, str(subject.pid))
    assert (done.returncode, done.stderr) == (0, "")
    with Core(path) as core:
        assert core.read(address, 4096) == b"\x5a" * 4096


@pytest.mark.parametrize("width", WIDTHS)
def test_a_target_may_unmap_what_it_has_unmapped_before(start: Start, width: Width) -> None:
    """The page with the helper's stack is in no hole between its mappings."""
    subject = start(width=width)
    subject.tell("holes")
    before = living.footprint(subject.pid)
    with held_fork(subject) as held:
        subject.tell("unmap-holes")
        assert subject.ask("ping") == "pong"
        assert living.is_copy(held.copy)
        assert held.finish() == 0
    living.until_undisturbed(subject, before)


# -- memory and time -------------------------------------------------------------------------------


def resident(pid: int) -> int:
    """Resident bytes of a process."""
    return int(living.status(pid, "VmRSS").split()[0]) << 10


PRIVATE_OF_FILES, SHARED_OF_FILES = 1 << 2, 1 << 3  # of coredump_filter


def dump_with_a_file(subject: Subject, file: Path, mode: str, core: Path) -> tuple[int, str]:
    """Dump a target with a shared mapping of 4 MiB of which 1 MiB may be copied in the pause."""
    content = b"".join(i.to_bytes(4096, "little") for i in range(1024))
    file.write_bytes(content)
    address = subject.number("file", file, mode)
    done = living.run_tool(
        *("-m", "fork", "-q", "-f", "-o", core, "--stage-budget", str(MIB)),
        *("--filter", hex(PRIVATE_OF_FILES | SHARED_OF_FILES), str(subject.pid)),
    )
    if done.returncode == 0:
        with Core(core) as opened:
            assert opened.read(address, len(content)) == content
    return done.returncode, done.stderr


@pytest.mark.parametrize("width", WIDTHS)
def test_a_file_that_was_opened_for_reading_is_not_copied_in_the_pause(
    start: Start, tmp_path: Path, width: Width
) -> None:
    if os.major(tmp_path.stat().st_dev) == 0:
        pytest.skip("temporary files are on no disk here")
    file, core = tmp_path / "file", tmp_path / "core"
    assert dump_with_a_file(start(width=width), file, "r", core) == (0, "")
    code, told = dump_with_a_file(start(width=width), file, "rw", core)
    assert (code, "stage budget" in told) == (1, True)


def test_shared_memory_is_copied_in_the_pause_although_it_was_opened_for_reading(
    start: Start, tmp_path: Path
) -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        code, told = dump_with_a_file(start(), Path(file.name), "r", tmp_path / "core")
    assert (code, "stage budget" in told) == (1, True)


@pytest.mark.parametrize("method", living.METHODS)
def test_a_dump_populates_nothing_of_a_sparse_gibibyte(
    start: Start, tmp_path: Path, method: str
) -> None:
    subject = start(threads=0)
    subject.tell("map", 1024, 100)
    before = resident(subject.pid)
    path = tmp_path / "core"
    done = living.run_tool("-m", method, "-o", path, "--json", str(subject.pid))
    assert done.returncode == 0, done.stderr
    assert resident(subject.pid) - before < MIB
    assert path.stat().st_size > 1024 * MIB
    assert path.stat().st_blocks * 512 < 16 * MIB
    with Core(path) as core:
        (mapping,) = (m for m in core.maps if m.filesz == 1024 * MIB)
        pages = [core.read(mapping.start + 1024 * MIB // 100 * i, 1) for i in range(100)]
    assert pages == [b"\x5a"] * 100


@needs_64_bits
@needs_pagemap_scan
@pytest.mark.parametrize("method", living.METHODS)
def test_a_mapping_of_16_tebibytes_costs_a_bounded_number_of_calls(
    start: Start, tmp_path: Path, method: str
) -> None:
    subject = start(threads=0)
    # ext4 ends at 16 TiB.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        core, calls = Path(name, "core"), tmp_path / "calls"
        began = time.monotonic()
        alone = count_calls(calls, core, subject.pid, method)
        subject.tell("map", 16 << 20, 3)
        with_mapping = count_calls(calls, core, subject.pid, method)
        assert time.monotonic() - began < DEADLINE / 3
        assert core.stat().st_size > 16 << 40
        assert core.stat().st_blocks * 512 < 4 * MIB
    assert with_mapping < alone + 500


def shared_dirty(pid: int) -> int:
    """Bytes of written memory that a process shares with others."""
    return living.kilobytes(pid, "Shared_Dirty") * 1024


# Linux 5.19 and later give whoever pins a shared page one of its own (gup_must_unshare()).
@pytest.mark.parametrize("method", ["stop", "precopy"])
@pytest.mark.parametrize("width", WIDTHS)
def test_what_a_target_shares_with_its_child_stays_shared(
    start: Start, tmp_path: Path, method: str, width: Width
) -> None:
    subject = start(width=width)
    subject.tell("map", 32, 8192)  # each page
    subject.number("fork")
    before = shared_dirty(subject.pid)
    assert before >= 32 * MIB
    done = living.run_tool("-m", method, "-o", tmp_path / "core", str(subject.pid))
    assert done.returncode == 0, done.stderr
    assert shared_dirty(subject.pid) > before - MIB


@pytest.mark.parametrize("width", WIDTHS)
def test_what_a_copy_shares_with_its_target_stays_shared(start: Start, width: Width) -> None:
    subject = start(width=width)
    subject.tell("map", 32, 8192)  # each page
    with held_fork(subject) as held:
        assert len(held.take(24 * MIB)) == 24 * MIB
        assert held.is_going_on()
        assert shared_dirty(subject.pid) > 31 * MIB
        assert held.finish() == 0


def count_calls(calls: Path, core: Path, pid: int, method: str) -> int:
    """How many system calls a dump takes, its helper's included, but for those that only wait.

    Of these there are as many as the machine is busy.
    """
    waits = "wait4,sched_yield,ppoll,futex,nanosleep,clock_nanosleep"
    done = subprocess.run(
        [
            *(living.need("strace"), "-f", "-c", "-e", f"trace=!{waits}", "-o", calls),
            *(living.tool(), "-m", method, "-q", "-f", "-o", core, str(pid)),
        ],
        stderr=subprocess.PIPE,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    total = calls.read_text().splitlines()[-1].split()
    assert total[-1] == "total"
    return int(total[3])
