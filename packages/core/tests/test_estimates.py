# SPDX-License-Identifier: BSD-3-Clause
"""What is said of a dump's size and pause beforehand, and what then comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import living
import pytest

import coresnap
from coresnap import Method, Region

pytestmark = pytest.mark.host
MIB = 1 << 20

SUBJECT = """if 1:
    import mmap, sys, threading
    private = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    shared = mmap.mmap(-1, 32 << 20)
    secret = mmap.mmap(-1, 16 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    secret.madvise(mmap.MADV_DONTDUMP)
    hole = mmap.mmap(-1, 512 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for memory in (private, shared, secret):
        for at in range(0, len(memory), 4096):
            memory[at] = 1
    end = threading.Event()
    for _ in range(3):
        threading.Thread(target=end.wait).start()
    print("ready", flush=True)
    sys.stdin.read()
    end.set()
"""


@pytest.fixture
def subject() -> Iterator[int]:
    argv = [sys.executable, "-c", SUBJECT]
    with subprocess.Popen(argv, stdin=-1, stdout=-1, text=True) as program:
        assert program.stdout is not None and program.stdout.readline() == "ready\n"
        yield program.pid


def test_the_bytes_are_those_of_the_core(subject: int) -> None:
    found = coresnap.estimate(subject)
    assert found.threads == 4 and found.stuck == 0
    regions = found.regions
    assert set(regions) == set(Region)
    assert regions[Region.ANONYMOUS].kept >= 64 * MIB
    assert regions[Region.ANONYMOUS].resident >= 80 * MIB
    assert regions[Region.ANONYMOUS].mapped >= (64 + 16 + 512) * MIB
    # Unforkable is also a page of the C library's, for random numbers.
    assert 32 * MIB <= regions[Region.SHARED].kept <= found.unforkable < 33 * MIB
    assert regions[Region.STACK].mappings >= 4
    assert sum(size.kept for size in regions.values()) == found.kept
    little = coresnap.estimate(subject, stage_budget=MIB)
    assert (little.beside_path, little.beside_fd) == (0, little.kept)
    result = coresnap.dump(subject, None, method="stop")
    assert result.memory is not None
    result.memory.close()
    assert abs(result.bytes_read - found.kept) < MIB
    assert result.segments == sum(size.mappings for size in regions.values())


def test_pauses(subject: int) -> None:
    found = coresnap.estimate(subject)
    assert set(found.pauses) == {Method.PRECOPY, Method.FORK, Method.STOP}
    fork, stop = found.pauses[Method.FORK], found.pauses[Method.STOP]
    for pause in found.pauses.values():
        assert 0 < pause.least_ns < pause.expected_ns < pause.most_ns
        assert pause.spilled == 0
    assert stop.copied == found.kept and fork.copied == found.unforkable
    assert fork.expected_ns < stop.expected_ns and found.method is Method.PRECOPY
    assert found.pauses[Method.PRECOPY].expected_ns < fork.expected_ns
    warned = {method for method, pause in found.pauses.items() if "writes fast" in pause.basis}
    assert warned == {Method.PRECOPY}
    assert found.copy_ns > 0
    json.dumps(found.as_dict())


@pytest.mark.parametrize("method", living.METHODS)
def test_what_the_pause_reads_is_what_was_expected(subject: int, method: str) -> None:
    """All of it by stop, but for the first pages of files; shared memory by the others."""
    expected = coresnap.estimate(subject).pauses[Method(method)].copied
    result = coresnap.dump(subject, None, method=method)
    assert result.memory is not None
    result.memory.close()
    assert abs(result.pause_bytes - expected) < 2 * MIB
    assert 96 * MIB <= result.bytes_read < 128 * MIB


def test_options_count(subject: int) -> None:
    usual = coresnap.estimate(subject)
    nothing = coresnap.estimate(subject, filter=0)
    assert nothing.kept < MIB < usual.kept
    little = coresnap.estimate(subject, stage_budget=8 * MIB)
    stop = little.pauses[Method.STOP]
    assert (stop.copied, stop.copied + stop.spilled) == (8 * MIB, little.kept)


def test_nothing_is_made_in_the_process(subject: int) -> None:
    def resident() -> tuple[bytes, bytes]:
        with (
            open(f"/proc/{subject}/statm", "rb") as statm,
            open(f"/proc/{subject}/stat", "rb") as stat,
        ):
            return statm.read(), b" ".join(stat.read().split()[9:13])

    before = resident()
    for _ in range(3):
        coresnap.estimate(subject)
    assert resident() == before


def test_of_oneself_and_of_nobody() -> None:
    assert coresnap.estimate(os.getpid()).kept > MIB
    with subprocess.Popen(["true"]) as process:
        process.wait()
    with pytest.raises(coresnap.NoProcess):
        coresnap.estimate(process.pid)
    with pytest.raises(coresnap.UsageError):
        coresnap.estimate(0)
