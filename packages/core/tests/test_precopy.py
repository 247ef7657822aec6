# SPDX-License-Identifier: BSD-3-Clause
"""A core whose memory was copied ahead is of one instant, and the same as any other.

programs/writers.c writes all the time by laws that a core of two instants would break.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import living
import pytest
from living import WIDTHS, Subject, needs_root
from toolchain import Width

import coresnap
from coresnap import Core, Method
from coresnap.diff import diff
from coresnap.errors import Code
from lab.longform import FULL, PRECOPIES
from lab.patience import DEADLINE

pytestmark = pytest.mark.host

PAGES = 2048
SPROUTS = 64
AREAS = 3
OF_THE_FILE = 0x10000  # page p of the loan's file begins with this number more than p
WORKS = "jtnpsxgmlwb"
JOURNALS = {"giants": 1024, "mirror": 512, "loan": 512, "wanderer": 512, "border": 512}
"""The pages of the areas whose threads say the same of themselves (struct steps); in WORKS by their
first letters."""
KEPT = 64 << 20
"""Less than what idle writers keep."""
STAGE_BUDGET = 96 << 20
# Of soft-dirty bits there is one pass, after which all may be written before the stop.
AMPLE_BYTES = 512 << 20
AMPLE = ("--stage-budget", str(AMPLE_BYTES))
"""Less than twice that, and much more than what a pause of them copies."""
Start = Callable[..., Subject]


SMALL = "-"
"""Without the memory that only makes them large, so that a copy ahead is made in memory."""


def all_but(works: str) -> str:
    """The letters of those that shall be idle."""
    return "".join(letter for letter in WORKS if letter not in works)


NOBODY = all_but("")


@pytest.fixture
def start() -> Iterator[Start]:
    """Start writers; ``idle`` names those that shall not work, or is SMALL."""
    with contextlib.ExitStack() as stack:

        def start_one(idle: str = "", *, width: Width = Width.NATIVE) -> Subject:
            # The kernel writes into the area of restartable sequences whenever a thread has been
            # stopped: no two cores would be the same.
            still = ("env", "GLIBC_TUNABLES=glibc.pthread.rseq=0")
            return stack.enter_context(Subject(*still, living.program("writers", width), idle))

        yield start_one


@pytest.fixture(autouse=True)
def can_track() -> None:
    """Skip where the kernel tracks no writes."""
    with Subject(living.program("world")) as subject:
        check = {each.method: each for each in coresnap.doctor(subject.pid).methods}
        error = check[Method.PRECOPY].error
    if error is not None:
        pytest.skip(f"no precopy here: {error}")


def dump(subject: Subject, to: Path, method: str = "precopy", *more: str) -> dict[str, object]:
    done = living.run_tool("-m", method, "--json", *more, "-f", "-o", to, str(subject.pid))
    assert done.returncode == 0, done.stderr
    said: dict[str, object] = json.loads(done.stdout)
    return said


def anonymous(path: Path) -> dict[int, tuple[int, bytes]]:
    """By start, the end and the bytes of each mapping without a file."""
    with Core(path) as core:
        return {
            mapping.start: (mapping.end, core.read(mapping.start, mapping.filesz))
            for mapping in core.maps
            if mapping.filesz == mapping.end - mapping.start and mapping.path is None
        }


@dataclass(frozen=True)
class Steps:
    """What a thread says that writes to its areas step by step, as in programs/writers.h."""

    step: int
    base: int
    areas: tuple[int, ...]


@dataclass(frozen=True)
class Ledger:
    """What all threads say of themselves."""

    step: int
    tide: int
    nomad: int
    sprouts: tuple[int, ...]
    journals: dict[str, Steps]


class Memory:
    """What a core has of a program's areas."""

    def __init__(self, core: Core, layout: str, width: Width) -> None:
        self.core = core
        self.ledger, self.first, self.second, self.tide, self.sprouts, self.page = map(
            int, layout.split()
        )
        self.word = "<Q" if width is Width.NATIVE and struct.calcsize("P") == 8 else "<I"

    def words(self, address: int, count: int) -> list[int]:
        """The first word of so many pages."""
        data = self.core.read(address, count * self.page)
        return [struct.unpack_from(self.word, data, at * self.page)[0] for at in range(count)]

    def said(self) -> Ledger:
        """The ledger."""
        size = 3 + SPROUTS
        steps = 2 + AREAS
        words = struct.Struct(f"<{size + steps * len(JOURNALS)}{self.word[1]}")
        every = words.unpack(self.core.read(self.ledger, words.size))
        rest = [every[at : at + steps] for at in range(size, len(every), steps)]
        journals = {
            name: Steps(of[0], of[1], tuple(area for area in of[2:] if area and of[2]))
            for name, of in zip(JOURNALS, rest, strict=True)
        }
        return Ledger(every[0], every[1], every[2], every[3:size], journals)


def page_of(step: int) -> int:
    return (step * 2654435761 & 0xFFFFFFFF) >> 21


def journal(last: int, pages: int = PAGES, base: int = 0) -> list[int]:
    """Of each page its last step, of all from one up to another; 0 where it had none."""
    found: dict[int, int] = {}
    for step in range(last, base, -1):
        found.setdefault(page_of(step) % pages, step)
        if len(found) == pages:
            break
    return [found.get(page, 0) for page in range(pages)]


def given_back(steps: list[int]) -> list[int]:
    """What pages of a file hold: each third step gives one back to it."""
    return [step if step % 3 else OF_THE_FILE + page for page, step in enumerate(steps)]


def expect_journal(memory: Memory, name: str, said: Steps) -> None:
    pages = JOURNALS[name]
    # The step may have been said and not be done, or be done in the first areas only.
    ends = [journal(last, pages, said.base) for last in (said.step, said.step - 1)]
    if name == "loan":
        ends = [given_back(steps) for steps in ends]
    areas = [memory.words(at, pages) for at in said.areas]
    assert all(area in ends for area in areas), (
        f"the {name} is not of the instant that the ledger says"
    )
    behind = [ends.index(area) for area in areas]
    assert behind == sorted(behind), f"an area of the {name} is ahead of the one before"


def expect_one_instant(memory: Memory) -> set[str]:
    """Returns the names of JOURNALS that were there to be looked at."""
    said = memory.said()
    step = said.step
    first, second = (memory.words(at, PAGES) for at in (memory.first, memory.second))
    # The step may have been said and not be done, or done in the first area only.
    ends = [journal(step), journal(max(step - 1, 0))]
    assert first in ends, "the first area is not of the instant that the ledger says"
    assert second in ends, "the second area is not of the instant that the ledger says"
    assert first == ends[0] or second == ends[1], "the second area is ahead of the first"
    level, state = divmod(said.tide, 4)
    if state in (1, 3):
        assert set(memory.words(memory.tide, PAGES)) == {level if state == 1 else 0}
    if said.nomad:
        assert memory.words(said.nomad, 64) == [1000 + page for page in range(64)]
    for at, value in enumerate(said.sprouts):
        if value:
            assert memory.words(memory.sprouts + at * 2 * memory.page, 1) == [value]
    there = {name: steps for name, steps in said.journals.items() if steps.areas}
    for name, steps in there.items():
        expect_journal(memory, name, steps)
    assert all(a.end <= b.start for a, b in pairwise(memory.core.maps)), "segments overlap"
    return set(there)


@pytest.mark.parametrize(
    "idle",
    ["x", all_but("jt"), all_but("x"), all_but("gmlwb"), SMALL + "x"],
    ids=["all", "journal-tide", "stretch", "areas", "small"],
)
@pytest.mark.parametrize("width", WIDTHS)
def test_never_torn(width: Width, idle: str, start: Start, tmp_path: Path) -> None:
    subject = start(idle, width=width)
    layout = subject.ask("layout")
    before = living.footprint(subject.pid)
    in_memory = coresnap.estimate(subject.pid, stage_budget=AMPLE_BYTES).beside_fd == 0
    assert in_memory == (SMALL in idle)
    seen: set[str] = set()
    expected = {name for name in JOURNALS if name[0] not in idle}
    many = idle == "x" and (FULL or width is Width.NATIVE)
    wanted, dumps = PRECOPIES if many else PRECOPIES // 5, 0
    # Some areas are on their way now and then, and cannot be looked at.
    while dumps < wanted or (seen != expected and dumps < 10 * wanted):
        dumps += 1
        said = dump(subject, tmp_path / "core", "precopy", *AMPLE)
        assert said["method"] == "precopy"
        with Core(tmp_path / "core") as core:
            seen |= expect_one_instant(Memory(core, layout, width))
    assert subject.ask("ping") == "pong"
    assert seen == expected
    if "p" in idle:
        living.until_undisturbed(subject, before)


@pytest.mark.parametrize("name", JOURNALS)
def test_an_area_of_another_instant_than_the_ledger_is_seen(
    name: str, start: Start, tmp_path: Path
) -> None:
    """The law itself: what one core says is held against the memory of a later one."""
    subject = start(all_but(name[0]))
    layout = subject.ask("layout")

    def look(path: Path) -> tuple[Memory, Steps]:
        dump(subject, path, "stop")
        memory = Memory(stack.enter_context(Core(path)), layout, Width.NATIVE)
        return memory, memory.said().journals[name]

    with contextlib.ExitStack() as stack:
        _, earlier = look(tmp_path / "earlier")
        memory, later = look(tmp_path / "later")
        # It may just have had no time, or be on its way.
        while later.step <= earlier.step + 1 or not later.areas:
            memory, later = look(tmp_path / "later")
        expect_journal(memory, name, later)
        with pytest.raises(AssertionError, match=f"the {name} is not of the instant"):
            expect_journal(memory, name, replace(earlier, areas=later.areas))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_same_bytes_as_by_the_other_methods(width: Width, start: Start, tmp_path: Path) -> None:
    """Of a program that does not run between the dumps."""
    subject = start(NOBODY, width=width)
    cores = {}
    for method in ("stop", "precopy", "fork", "precopy"):
        path = tmp_path / method
        dump(subject, path, method)
        cores[method] = anonymous(path)
    assert len(cores["stop"]) > 3
    assert cores["precopy"] == cores["stop"] == cores["fork"]


by_soft_dirty_bits = pytest.mark.skipif(
    living.lists_pages_at_once(), reason="soft-dirty bits are not what is used here"
)


@by_soft_dirty_bits
def test_soft_dirty_bits_are_reserved_until_the_stop(start: Start, tmp_path: Path) -> None:
    """Another dump that cleared them meanwhile would make a torn core of this one."""
    subject = start(NOBODY)
    with Path(f"/proc/{subject.pid}/clear_refs").open("wb") as bits:

        def try_them() -> None:
            with pytest.raises(BlockingIOError):
                fcntl.flock(bits, fcntl.LOCK_EX | fcntl.LOCK_NB)

        coresnap.dump(subject.pid, tmp_path / "core", method=Method.PRECOPY, on_stopped=try_them)
        fcntl.flock(bits, fcntl.LOCK_EX | fcntl.LOCK_NB)


@by_soft_dirty_bits
def test_soft_dirty_bits_of_another_dump_are_left_alone(start: Start, tmp_path: Path) -> None:
    subject = start(NOBODY)
    core = tmp_path / "core"
    with Path(f"/proc/{subject.pid}/clear_refs").open("wb") as bits:
        fcntl.flock(bits, fcntl.LOCK_EX)  # as a dump does that relies on them
        refused = living.run_tool("-m", "precopy", "-o", core, str(subject.pid))
        assert refused.returncode == int(Code.FAILED)
        assert "another dump" in refused.stderr
        assert not core.exists()
        said = dump(subject, core, "auto")
        assert said["method"] == "fork"
        assert "another dump" in json.dumps(said)
    assert dump(subject, core, "auto")["method"] == "precopy"


def test_never_torn_in_a_pipe(start: Start, tmp_path: Path) -> None:
    """Where what was copied ahead cannot be written to its place in the core."""
    subject = start("x")
    layout = subject.ask("layout")
    for _ in range(PRECOPIES // 5):
        options = ("-m", "precopy", "-q", *AMPLE, "-o", "-")
        argv = [str(living.tool()), *options, str(subject.pid)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            (tmp_path / "core").write_bytes(process.stdout.read())
        assert process.returncode == 0
        with Core(tmp_path / "core") as core:
            expect_one_instant(Memory(core, layout, Width.NATIVE))


def test_what_is_copied_ahead_is_written_once(start: Start, tmp_path: Path) -> None:
    subject = start(NOBODY)
    strace = living.traced(tmp_path, "pwrite64")
    dump_it = (living.tool(), "-m", "precopy", "-q", "-o", tmp_path / "core", str(subject.pid))
    subprocess.run([*strace, *dump_it], check=True, timeout=DEADLINE)
    written = sum(map(int, re.findall(r" = (\d+)$", living.calls_in(tmp_path), re.M)))
    held = (tmp_path / "core").stat().st_blocks * 512
    assert held > 32 << 20
    assert written < held * 1.2


def transferred(calls: str, call: str, fd: str) -> int:
    """Bytes that calls of strace's text moved by one descriptor, whatever threads they are of."""
    return sum(map(int, re.findall(rf"^{call}\({fd},.* = (\d+)$", calls, re.M)))


@pytest.mark.parametrize("where", ["pipe", "descriptor", "compressed"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_file_without_a_name_keeps_what_has_no_place_in_the_output_yet(
    width: Width, where: str, start: Start, tmp_path: Path
) -> None:
    """Where there are 64 MiB and more. What becomes of it is the core of a stop."""
    subject = start(NOBODY, width=width)
    path, output = tmp_path / "core", tmp_path / "output"
    dump(subject, tmp_path / "stop", "stop")
    options = ["-m", "precopy", "--stage-budget", str(STAGE_BUDGET), "-q"]
    options += ["--compress", "zstd", "-o", str(output)] if where == "compressed" else ["-o", "-"]
    strace = living.traced(tmp_path, "openat,pread64,pwrite64")
    with output.open("wb") if where == "descriptor" else contextlib.nullcontext() as file:
        done = subprocess.run(
            [*strace, living.tool(), *options, str(subject.pid)],
            stdout=file or subprocess.PIPE,
            check=True,
            timeout=DEADLINE,
        )
    if where == "compressed":
        unpack = (living.need("zstd"), "-d", "-q", output, "-o", path)
        subprocess.run(unpack, check=True, timeout=DEADLINE)
    elif where == "descriptor":
        output.rename(path)
    else:
        path.write_bytes(done.stdout)
    text = living.calls_in(tmp_path)
    directory = r'\d+, "\."' if where == "compressed" else r'AT_FDCWD, "/var/tmp"'
    opened = re.search(rf"openat\({directory}, [^)]*O_TMPFILE[^)]*\) = (\d+)$", text, re.M)
    if opened is None:
        pytest.skip("a file system here has no files without a name")
    assert transferred(text, "pwrite64", opened[1]) > KEPT
    assert transferred(text, "pread64", opened[1]) > KEPT
    with Core(path) as core, Core(tmp_path / "stop") as stop:
        differing = [each.path for each in diff(core, stop)]
    # Processor time goes on.
    assert [each for each in differing if "time" not in each] == []


@pytest.mark.parametrize("to_pipe", [False, True], ids=["path", "pipe"])
def test_another_method_takes_over(to_pipe: bool, start: Start, tmp_path: Path) -> None:
    """Where the stop finds too much to copy: and what was begun is not undone before the thaw."""
    subject = start(NOBODY)
    before = living.footprint(subject.pid)
    path = tmp_path / "core"
    dump(subject, path, "stop")
    expected = anonymous(path)
    strace = living.traced(tmp_path, "ptrace,ftruncate")
    options = ("-m", "auto", "--stage-budget", "4096", "--json", "-f")
    to = "-" if to_pipe else path
    done = subprocess.run(
        [*strace, living.tool(), *options, "-o", to, str(subject.pid)],
        capture_output=True,
        check=True,
        timeout=DEADLINE,
    )
    if to_pipe:
        path.write_bytes(done.stdout)
    assert b"do not fit the stage budget" in (done.stderr if to_pipe else done.stdout)
    assert anonymous(path) == expected
    assert not re.search(r"ftruncate\(\d+, 0\)", living.calls_in(tmp_path))
    living.until_undisturbed(subject, before)


def test_what_cannot_be_undone_is_written_over(start: Start, tmp_path: Path) -> None:
    """The disk is full while memory is copied ahead, and the file cannot be emptied either."""
    subject = start(NOBODY)
    before = living.footprint(subject.pid)
    path = tmp_path / "core"
    dump(subject, path, "stop")
    expected = anonymous(path)
    full = ("-e", "inject=pwrite64:error=ENOSPC:when=20", "-e", "inject=ftruncate:error=EIO:when=1")
    strace = living.traced(tmp_path, "pwrite64,ftruncate", *full)
    dump_it = (living.tool(), "-m", "auto", "-q", "-f", "-o", path, str(subject.pid))
    subprocess.run([*strace, *dump_it], check=True, timeout=DEADLINE)
    assert re.search(r"ftruncate\(\d+, 0\).*INJECTED", living.calls_in(tmp_path))
    assert anonymous(path) == expected
    living.until_undisturbed(subject, before)


@pytest.mark.parametrize("method", ["precopy", "auto"])
def test_a_limit_on_the_size_of_files_is_told(start: Start, tmp_path: Path, method: str) -> None:
    """It comes with a signal, SIGXFSZ, for whoever writes."""
    subject = start(NOBODY)
    before = living.footprint(subject.pid)
    limited = (living.need("prlimit"), "--fsize=1048576", living.tool())
    dump_it = ("-m", method, "-o", tmp_path / "core", str(subject.pid))
    done = subprocess.run([*limited, *dump_it], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == int(Code.FAILED), done.stderr
    assert "EFBIG" in done.stderr
    assert list(tmp_path.iterdir()) == []
    living.until_undisturbed(subject, before)


def test_a_core_that_a_limit_has_just_room_for(start: Start, tmp_path: Path) -> None:
    """What is left free in a core whose memory has its place ahead takes nothing of the limit."""
    subject = start(NOBODY)
    dump(subject, tmp_path / "core", "stop")
    limit = (tmp_path / "core").stat().st_size + (1 << 20)
    limited = (living.need("prlimit"), f"--fsize={limit}", living.tool(), "-m", "precopy", "-f")
    dump_it = ("-o", tmp_path / "core", str(subject.pid))
    subprocess.run([*limited, *dump_it], check=True, timeout=DEADLINE)


def test_auto_takes_it_for_a_large_target(start: Start, tmp_path: Path) -> None:
    large = start(NOBODY)
    assert dump(large, tmp_path / "core", "auto")["method"] == "precopy"
    with Subject(living.program("world")) as small:
        assert dump(small, tmp_path / "core", "auto")["method"] != "precopy"


@needs_root
@pytest.mark.skipif(living.SOFT_DIRTY, reason="soft-dirty bits need no userfaultfd")
def test_a_target_with_a_userfaultfd_is_left_to_another_method(tmp_path: Path) -> None:
    with Subject(living.program("hostile")) as subject:
        if (said := subject.ask("userfault")) != "ok":
            pytest.skip(said)
        before = living.footprint(subject.pid)
        done = living.run_tool("-m", "precopy", "-o", tmp_path / "core", str(subject.pid))
        assert done.returncode == 1
        assert "userfaultfd of its own" in done.stderr
        assert not (tmp_path / "core").exists()
        living.until_undisturbed(subject, before)
