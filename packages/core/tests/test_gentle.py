# SPDX-License-Identifier: BSD-3-Clause
"""A dump at the priorities that were asked for: who has them, when, and who never has.

What writes is a thread of the dumper, which lives as long as the target runs and the core is
written; it is looked at while a pipe that nobody reads holds the dump.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import living
import pytest
from living import NOBODY, WIDTHS, Held, Subject, needs_root
from toolchain import Width

import coresnap
from lab.patience import DEADLINE

pytestmark = pytest.mark.host

NOT_PERMITTED = 4
NICE, IO_PRIO, OOM_ADJ = 7, 6, 3
GENTLE = ("--nice", str(NICE), "--io-prio", str(IO_PRIO), "--oom-adj", str(OOM_ADJ))
OOM_SCORE = OOM_ADJ * 1000 // 17
CAP_SYS_RESOURCE = 24


needs_tracking = pytest.mark.skipif(
    not living.TRACKS_WRITES, reason="this kernel cannot track writes, so nothing is copied ahead"
)


@dataclass(frozen=True)
class Priorities:
    """Of a thread."""

    nice: int
    io: str  # as ionice(1) prints it


ASKED = Priorities(NICE, f"best-effort: prio {IO_PRIO}")


def priorities(tid: int) -> Priorities:
    """The priorities of a thread, of whatever process."""
    ionice = subprocess.run(
        [living.need("ionice"), "-p", str(tid)], capture_output=True, text=True, check=True
    )
    return Priorities(os.getpriority(os.PRIO_PROCESS, tid), ionice.stdout.strip())


def of_threads(pid: int) -> dict[int, Priorities]:
    """Those of each thread of a process that does not end meanwhile."""
    found = {}
    for tid in living.threads(pid):
        try:
            found[tid] = priorities(tid)
        except (ProcessLookupError, subprocess.CalledProcessError):
            assert tid not in living.threads(pid)
    return found


def score(pid: int) -> int:
    """When the process is killed for want of memory."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def dumper_of(pid: int) -> int:
    """The process that does the work for the one that asked for it."""
    (found,) = (
        child for child in living.children(pid) if living.status(child, "Name") == "coresnap-dumper"
    )
    return found


def writers(dumper: int) -> list[Priorities]:
    """Of the threads of the dumper but the one that holds the target."""
    return [priorities for tid, priorities in of_threads(dumper).items() if tid != dumper]


@pytest.fixture(params=WIDTHS)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    with Subject(living.program("world", request.param)) as started:
        started.tell("threads", 2)
        yield started


@pytest.fixture
def native() -> Iterator[Subject]:
    with Subject(living.program("world", Width.NATIVE)) as started:
        yield started


LARGE = """
import mmap, os
kept = []
for protection in 0, mmap.PROT_EXEC:
    kept.append(
        mmap.mmap(
            -1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
            prot=mmap.PROT_READ | mmap.PROT_WRITE | protection,
        )
    )
    kept[-1].write(os.urandom(16 << 20))
print(flush=True)
input()
"""


@pytest.fixture
def large() -> Iterator[int]:
    """A process with two mappings that pipes do not hold, and compression does not make smaller."""
    with subprocess.Popen(
        [sys.executable, "-c", LARGE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == b"\n"
        yield process.pid
        process.stdin.write(b"\n")


# -- who has them --------------------------------------------------------------------------------


def test_writer_and_copy_have_what_was_asked_for(subject: Subject) -> None:
    usual = of_threads(subject.pid), score(subject.pid)
    before = living.footprint(subject.pid)
    with Held(subject.pid, "-m", "fork", *GENTLE) as held:
        dumper = dumper_of(held.process.pid)
        assert writers(dumper) == [ASKED]
        # It will hold the target once more, for which it must not be slow.
        assert priorities(dumper) == priorities(os.getpid())
        assert priorities(held.process.pid) == priorities(os.getpid())
        assert score(held.copy) == score(held.process.pid) == OOM_SCORE
        now = of_threads(subject.pid)
        assert {tid: now[tid] for tid in usual[0]} == usual[0]
        assert score(subject.pid) == usual[1]
        assert held.finish() == 0
    living.until_undisturbed(subject, before)
    assert (of_threads(subject.pid), score(subject.pid)) == usual


def test_a_copy_goes_first_if_nothing_is_said(native: Subject) -> None:
    with Held(native.pid, "-m", "fork") as held:
        assert score(held.copy) == 1000
        assert score(held.process.pid) == score(os.getpid())
        assert writers(dumper_of(held.process.pid)) == []
        assert held.finish() == 0


@pytest.mark.parametrize("method", [each for each in living.METHODS if each != "fork"])
def test_what_is_staged_is_written_gently(native: Subject, method: str) -> None:
    with Held(native.pid, "-m", method, *GENTLE) as held:
        assert living.status(native.pid, "TracerPid") == "0"
        assert writers(dumper_of(held.process.pid)) == [ASKED]
        assert held.finish() == 0


def test_nothing_is_gentle_while_the_target_stands_still(native: Subject) -> None:
    with Held(native.pid, "-m", "stop", "--stage-budget", "1", *GENTLE) as held:
        dumper = dumper_of(held.process.pid)
        assert living.status(native.pid, "TracerPid") == str(dumper)
        assert of_threads(dumper) == {dumper: priorities(os.getpid())}
        assert held.finish() == 0


@dataclass(frozen=True)
class Write:
    """Some bytes that went into a file."""

    path: str
    size: int
    offset: int


WRITE = r"^pwrite64\(\d+<(.*)>.*, (\d+), (\d+)\) += \d"


def gentle_writes(pid: int, core: Path) -> list[list[Write]]:
    """Dump by precopy: by thread, what those of the dumper wrote after they had become gentle.

    No thread but them writes to anything but the memory of the target.
    """
    trace = core.with_name("trace")
    argv: list[str | Path] = [living.need("strace"), "-ff", "-y", "-s", "0", "-o", trace]
    argv += ["-e", "trace=setpriority,ioprio_set,pwrite64", "-e", "raw=setpriority,ioprio_set"]
    argv += [living.tool(), "-m", "precopy", "-q", *GENTLE, "-o", core, str(pid)]
    subprocess.run(argv, check=True, timeout=DEADLINE)
    found = []
    for file in core.parent.glob("trace.*"):
        text = file.read_text()
        writes = [
            Write(path, int(size), int(offset))
            for path, size, offset in re.findall(WRITE, text, re.MULTILINE)
            if path != f"/proc/{pid}/mem"
        ]
        if writes:
            nice, io, _ = text.split("\n", 2)
            assert re.fullmatch(rf"setpriority\(0, 0, {NICE:#x}\) += 0", nice)
            assert re.fullmatch(rf"ioprio_set\(0x1, 0, {2 << 13 | IO_PRIO:#x}\) += 0", io)
            found.append(writes)
    return found


@needs_tracking
@pytest.mark.parametrize("size", [1, 96], ids=["spool", "core"])
def test_copying_ahead_is_gentle(tmp_path: Path, size: int) -> None:
    """Of a small target to a spool, of a large one to its place in the core."""
    core = tmp_path / "core"
    with Subject(living.program("hard"), "fill", str(size)) as subject:
        threads = gentle_writes(subject.pid, core)
    # Whoever writes the head of the core does so after the stop.
    ahead = [
        write
        for writes in threads
        if not any(each.offset == 0 and str(tmp_path) in each.path for each in writes)
        for write in writes
    ]
    assert len(threads) > 1
    assert sum(write.size for write in ahead) >= size << 20
    assert {"coresnap-spool" in write.path for write in ahead} == {size == 1}


def test_compressing_is_gentle(large: int) -> None:
    with Held(large, "-m", "fork", "--compress", "zstd", *GENTLE) as held:
        found = writers(dumper_of(held.process.pid))
        assert len(found) > 1
        assert set(found) == {ASKED}
        assert held.finish() == 0


def test_compressing_becomes_gentle_when_the_target_runs(large: int) -> None:
    budget = 24 << 20  # for one of the mappings; the other is written before that
    how = ("-m", "stop", "--stage-budget", str(budget), "--compress", "zstd")
    with Held(large, *how, *GENTLE) as held:
        dumper = dumper_of(held.process.pid)
        assert {each.nice for each in writers(dumper)} == {priorities(os.getpid()).nice}
        while living.status(large, "TracerPid") != "0":
            assert held.pipe.read(4096)
        end = time.monotonic() + DEADLINE
        while {each.nice for each in writers(dumper)} != {NICE}:
            assert time.monotonic() < end
        assert held.finish() == 0


def test_an_idle_dumper_stays_idle(large: int) -> None:
    argv: list[str | Path] = [living.need("ionice"), "-c", "idle", living.tool()]
    argv += ["-q", "-o", "-", *GENTLE, str(large)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout
        assert process.stdout.read(4) == b"\x7fELF"
        assert writers(dumper_of(process.pid)) == [Priorities(NICE, "idle")]
        with open(os.devnull, "wb") as rest:
            shutil.copyfileobj(process.stdout, rest)
    assert process.returncode == 0


# -- how it ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", living.METHODS)
def test_it_can_be_interrupted(native: Subject, method: str) -> None:
    before = living.footprint(native.pid)
    with Held(native.pid, "-m", method, *GENTLE) as held:
        held.process.send_signal(signal.SIGINT)
        assert held.process.wait(DEADLINE) == 128 + signal.SIGINT
    living.until_undisturbed(native, before)


def test_a_dumper_that_is_killed_takes_its_copy_along(native: Subject) -> None:
    before = living.footprint(native.pid)
    with Held(native.pid, "-m", "fork", *GENTLE) as held:
        os.kill(dumper_of(held.process.pid), signal.SIGKILL)
        assert held.process.wait(DEADLINE) == 1
    living.until_undisturbed(native, before)


# -- the program that calls the library ----------------------------------------------------------


def unchanged(before: dict[int, Priorities], now: dict[int, Priorities]) -> bool:
    """Are those of all threads as before that are there still? Some of an earlier dump may end."""
    return os.getpid() in before and all(now.get(tid, own) == own for tid, own in before.items())


def held_open(pid: int | None, oom_adj: int) -> tuple[int, int]:
    """A dump that this process asks for, held: scores of its copy, and of this process."""
    own = of_threads(os.getpid())
    with coresnap.open_stream(
        pid, method="fork", nice=NICE, io_prio=IO_PRIO, oom_adj=oom_adj
    ) as stream:
        stream.read(1)
        dumper = dumper_of(os.getpid())
        now = of_threads(os.getpid())
        assert unchanged(own, now)
        assert set(now.values()) == {priorities(threading.get_native_id())}
        assert writers(dumper) == [ASKED]
        (copy,) = filter(living.is_copy, living.children(dumper if pid is None else pid))
        scores = score(copy), score(os.getpid())
        while stream.read(1 << 20):
            pass
    assert unchanged(own, of_threads(os.getpid()))
    return scores


def test_its_threads_and_its_score_are_its_own(large: int) -> None:
    before = score(os.getpid())
    assert held_open(large, OOM_ADJ) == (OOM_SCORE, before)
    assert score(os.getpid()) == before


def test_likewise_when_it_dumps_itself() -> None:
    before = score(os.getpid())
    assert held_open(None, OOM_ADJ) == (OOM_SCORE, before)
    assert held_open(None, 15) == (1000, before)


# -- who may not ---------------------------------------------------------------------------------


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody may use, with the programs in it."""
    with tempfile.TemporaryDirectory(prefix="coresnap-") as name:
        place = Path(name)
        place.chmod(0o777)
        shutil.copy(living.program("world"), place / "world")
        shutil.copy(living.tool(), place / "coresnap-dump")
        yield place


def woken(subject: Subject) -> str:
    """How often it was, now that it sleeps; a stop would wake it."""
    end = time.monotonic() + DEADLINE
    while Path(f"/proc/{subject.pid}/syscall").read_text().startswith("running"):
        assert time.monotonic() < end
    return living.status(subject.pid, "voluntary_ctxt_switches")


def refused(public: Path, subject: Subject, *options: str, sign: str) -> None:
    """A dump by nobody that ends before the subject is touched."""
    before = living.footprint(subject.pid), woken(subject)
    done = living.run_tool(
        *options, "-o", public / "core", str(subject.pid),
        program=public / "coresnap-dump", user=NOBODY, group=NOBODY, extra_groups=[],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NICE, (0, 0)),
    )  # fmt: skip
    assert done.returncode == NOT_PERMITTED, done.stderr
    assert re.fullmatch(rf"coresnap-dump: .*{sign}.*\n", done.stderr)
    assert (living.footprint(subject.pid), woken(subject)) == before
    assert not (public / "core").exists()


@needs_root
def test_a_higher_priority_takes_a_privilege(public: Path) -> None:
    with Subject(public / "world", user=NOBODY) as subject:
        for method in ("auto", "fork", "stop"):
            refused(public, subject, "-m", method, "--nice", "-1", sign="nice value -1.*ulimit -e")


@needs_root
def test_a_copy_that_outlives_its_target_takes_a_privilege(public: Path) -> None:
    with Subject(public / "world", user=NOBODY) as subject:
        Path(f"/proc/{subject.pid}/oom_score_adj").write_text("500")
        refused(
            public, subject, "-m", "fork", "--oom-adj", "1", sign="below the 500.*CAP_SYS_RESOURCE"
        )
        # The method stop makes no copy.
        core = public / "stop"
        done = living.run_tool("-m", "stop", "--oom-adj", "1", "-o", core, str(subject.pid))
        assert (done.returncode, core.exists()) == (0, True), done.stderr


@needs_root
def test_who_may_have_a_higher_priority_has_it(native: Subject) -> None:
    with Held(native.pid, "-m", "fork", "--nice", "-5", "--io-prio", "0") as held:
        assert writers(dumper_of(held.process.pid)) == [Priorities(-5, "best-effort: prio 0")]
        assert held.finish() == 0


def test_the_limit_of_livedump_is_understood(native: Subject, tmp_path: Path) -> None:
    for name, limit in ("some", "4096"), ("all", "unlimited"):
        core = tmp_path / name
        done = living.run_tool("-q", "--core-limit", limit, "-o", core, str(native.pid))
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "some").stat().st_size <= 8192 < (tmp_path / "all").stat().st_size


def test_a_dumper_below_its_own_score_is_refused(native: Subject) -> None:
    if int(living.status(os.getpid(), "CapEff"), 16) >> CAP_SYS_RESOURCE & 1:
        pytest.skip("with CAP_SYS_RESOURCE it is not")
    done = living.run_tool("-o", "-", "--oom-adj", "-17", str(native.pid), timeout=DEADLINE)
    assert done.returncode == NOT_PERMITTED
    assert re.fullmatch(r"coresnap-dump: the oom_adj -17 cannot be had .*\n", done.stderr)
