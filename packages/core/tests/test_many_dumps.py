# SPDX-License-Identifier: BSD-3-Clause
"""A target that is dumped again and again notices nothing, whatever it does meanwhile.

It sits in a call (lab/pausing/calls.c), or works (programs/works.c): waits that time out, threads
that wait for each other, threads, processes, programs and mappings that come and go. Both look at
themselves in /proc before and after (lab/pausing/view.h), and works.c checks in each round what a
call returned, that no signal came and that it has no child.

What may be noticed all the same stands in docs/pausing.md, and here: ``EXCUSED`` and the verdicts
of the document's table.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import living
import pytest
import toolchain
from living import WIDTHS
from test_interrupted import AT_ONCE, TABLE, expected
from toolchain import Width

from coresnap.errors import Code
from lab.longform import DUMPS, FULL, GUEST_CALL_DUMPS, SOAK
from lab.patience import DEADLINE, PATIENCE

calls = pytest.importorskip("lab.pausing.calls", reason="lab/ is not beside packages/ here")

if TYPE_CHECKING:
    from lab.pausing.calls import Outcome

pytestmark = pytest.mark.host

METHODS = living.METHODS
TIMES = DUMPS if PATIENCE == 1 else GUEST_CALL_DUMPS
SOME_WIDTHS = WIDTHS if FULL else [Width.NATIVE]
RELATIONS = ("init", "subreaper", "ignored", "nocldwait")
WORKS = (
    *("nanosleep", "clock_nanosleep", "futex-timeout", "cond-timeout", "poll-timeout"),
    *("select-timeout", "epoll-timeout", "recv-timeout", "accept-timeout", "sigtimedwait"),
    *("semtimedop", "io_getevents", "io_uring", "timerfd", "timers", "futex", "cond", "pipe"),
    *("poll", "select", "epoll", "socket", "accept", "sigwaitinfo", "signalfd", "semop", "msgrcv"),
    *("flock", "F_OFD_SETLKW", "mutex-pi", "mutex-robust", "threads", "fork", "vfork-exec"),
    *("exec", "mmap", "rseq"),
)
# Works of targets with another relation to their children. The long form has them all.
RELATED_WORKS = ("pipe", "threads", "fork", "vfork-exec")
ALL_RELATED = FULL and not SOAK and PATIENCE == 1
MANY = 100
# At once. The dumps of one target come one after the other; those of two keep two cores busy.
DUMPERS = 2
# ns. So long a call with a timeout waits: longer than all dumps of it take on a slow machine.
TIMEOUT = int((2_000_000_000 + 100_000_000 * TIMES) * PATIENCE)


@dataclass(frozen=True, kw_only=True)
class Excuse:
    """What may become of dumps of a work, and of what it sees of itself."""

    codes: frozenset[Code]
    lines: str = ""  # of the view
    always: bool = False  # none may work


# docs/pausing.md says of each why.
EXCUSED = {
    ("exec", "stop"): Excuse(codes=frozenset({Code.TARGET_GONE})),
    # What was copied ahead is of a program that is no more.
    ("exec", "precopy"): Excuse(codes=frozenset({Code.TARGET_GONE, Code.FAILED}), always=True),
    ("exec", "fork"): Excuse(
        codes=frozenset({Code.TARGET_GONE, Code.FAILED}),
        lines=r"FDSize:.*|fd \d+ lock:.* POSIX .*",
    ),
}
NONE = Excuse(codes=frozenset())
# What the kernel goes on with by restart_syscall(2): see the row "futex-timeout, twice" there.
RESUMED = ("nanosleep", "clock_nanosleep", "futex-timeout", "cond-timeout", "poll-timeout")


def dump(pid: int, method: str) -> subprocess.CompletedProcess[str]:
    """Dump a process to nowhere."""
    with open(os.devnull, "wb") as nowhere:
        return living.run_tool(
            *("-m", method, "-q", "-o", "-", str(pid)),
            capture_output=False,
            stdout=nowhere,
            stderr=subprocess.PIPE,
            timeout=2 * DEADLINE,
        )


# -- a target that works ---------------------------------------------------------------------------


class Worker(living.Subject):
    """A running works.c."""

    def __init__(self, work: str, relation: str, width: Width, *, copied: bool) -> None:
        self._errors, errors = os.pipe()
        program = living.program("works", width)
        # The new program of an execve gets a SIGCHLD for the copy (docs/pausing.md).
        argv = ("env", f"COPIED={int(copied)}", program, work, relation)
        try:
            super().__init__(*argv, stderr=errors)
        finally:
            os.close(errors)
        self.target = self.pid
        if relation == "init":
            (self.target,) = living.children(self.pid)

    def line(self) -> str:
        """As of any subject; what it complained of when it has ended."""
        try:
            return super().line()
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.complaints()}") from error

    def complaints(self) -> str:
        """What it said on standard error."""
        os.set_blocking(self._errors, False)
        with contextlib.suppress(BlockingIOError):
            return os.read(self._errors, 4096).decode()
        return ""

    def rounds(self, more: int) -> int:
        """Wait until it has done some more rounds; how many it has done in all."""
        wanted = self.number("rounds") + more
        while (now := self.number("rounds")) < wanted:
            pass
        return now

    def view(self) -> list[str]:
        """What it sees of itself."""
        return self.ask("view").split("|")

    def finish(self) -> None:
        """It finds nothing wrong, and ends."""
        self.tell("end")
        assert self.process.wait(DEADLINE) == 0, self.complaints()

    def end(self) -> None:
        super().end()
        os.close(self._errors)


def is_impossible(said: AssertionError) -> str:
    """Why the system lacks what a work needs, if that is what it said."""
    found = re.search(r"impossible: ([^']*)", str(said))
    return found.group(1) if found else ""


@contextlib.contextmanager
def worker(work: str, relation: str, width: Width, *, copied: bool) -> Iterator[Worker]:
    """A worker that has done some rounds; skips where the kernel has not what it needs."""
    try:
        subject = Worker(work, relation, width, copied=copied)
    except AssertionError as error:
        if reason := is_impossible(error):
            pytest.skip(f"not here: {reason}")
        raise
    with subject:
        subject.rounds(3)
        yield subject


def dump_while_it_works(
    work: str, method: str, relation: str, width: Width, times: int = TIMES
) -> None:
    """Nothing has changed after the dumps, and all of them worked, but for what is excused."""
    excuse = EXCUSED.get((work, method), NONE)
    codes: Counter[int] = Counter()
    refusals = 0
    with worker(work, relation, width, copied=method == "fork") as subject:
        before, seen, begun = outside(subject), subject.view(), subject.rounds(1)
        for _ in range(times):
            done = dump(subject.target, method)
            codes[done.returncode] += 1
            refused = work in RESUMED and method != "stop" and "interrupted before" in done.stderr
            refusals += refused
            assert done.returncode in {Code.OK, *excuse.codes} or refused, done.stderr
        assert subject.rounds(1) > begun
        now = subject.view()
        changed = [line for line in {*seen} ^ {*now} if not re.fullmatch(excuse.lines, line)]
        assert not changed, f"{seen} became {now}"
        assert outside(subject) == before
        subject.finish()
    if excuse.codes:
        # What is excused is left to chance, which needs some dumps.
        assert codes[Code.OK] or excuse.always or times < MANY, f"no dump worked: {codes}"
    else:
        assert codes[Code.OK] == times - refusals
        assert refusals <= times // 2, f"{refusals} of {times} dumps were refused"


def outside(subject: Worker) -> tuple[str, str, tuple[int, ...], bool]:
    """How a worker looks from outside, while it works."""
    state = living.status(subject.target, "State")[0]
    return (
        living.status(subject.target, "TracerPid"),
        living.status(subject.target, "NSpid"),
        tuple(living.children(subject.pid)) if subject.target != subject.pid else (),
        state in "RSD",
    )


def test_every_work_is_done() -> None:
    done = subprocess.run([living.program("works"), "list"], capture_output=True, text=True)
    assert done.stdout.split() == list(WORKS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("width", SOME_WIDTHS)
def test_who_works_notices_nothing(width: Width, work: str, method: str) -> None:
    dump_while_it_works(work, method, "plain", width)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("work", WORKS if ALL_RELATED else RELATED_WORKS)
@pytest.mark.parametrize("relation", RELATIONS)
def test_who_stands_otherwise_to_children_notices_nothing(
    relation: str, work: str, method: str
) -> None:
    # A work without children hardly differs from the same in a plain process.
    times = TIMES if work in RELATED_WORKS else min(TIMES, MANY)
    dump_while_it_works(work, method, relation, Width.NATIVE, times)


# -- a target that sits in a call ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A call of a program of a width, dumped by a method."""

    width: Width
    call: str
    method: str

    def __str__(self) -> str:
        return f"{self.width}-{self.call}-{self.method}"


SEATS = [
    Seat(width=width, call=call, method=method)
    for width in (Width if FULL else [Width.NATIVE])
    for call in TABLE
    if not call.endswith(", twice")
    for method in METHODS
]


def refusable(seat: Seat) -> bool:
    """May a later dump be refused, since the call has been interrupted before?"""
    return seat.method != "stop" and TABLE[seat.call]["result at the stop"] == (
        "ERESTART_RESTARTBLOCK"
    )


def sit(seat: Seat, program: Path, *, timed: bool, turn: threading.Semaphore) -> Outcome:
    """Dump a process in its call, so often; at least the first dump must work."""
    worked: list[int] = []

    def dump_once(pid: int) -> None:
        done = dump(pid, seat.method)
        refused = "interrupted before" in done.stderr and refusable(seat)
        # Precopy asks one thread for help before it stops all, which ends such a call and the
        # program.
        over = seat.method == "precopy" and TABLE[seat.call]["fork"] == "short"
        gone = over and done.returncode == Code.TARGET_GONE
        assert done.returncode == Code.OK or (refused and worked) or gone, done.stderr
        worked.append(pid)
        if len(worked) == TIMES:
            turn.release()

    turn.acquire()
    try:
        outcome: Outcome = calls.run(
            program, seat.call, timeout=TIMEOUT if timed else None, disturb=dump_once, times=TIMES
        )
        return outcome
    finally:
        if len(worked) < TIMES:
            turn.release()


def chosen(session: pytest.Session) -> list[Seat]:
    """The seats of the tests that this session runs, in their order."""
    params = [
        item.callspec.params
        for item in session.items
        if isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and item.get_closest_marker("skip") is None
    ]
    return [seat for each in params if isinstance(seat := each.get("seat"), Seat)]


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[Seat, Future[Outcome]]]:
    """How every call ended, or will end: what waits for its timeout does so beside the others."""
    living.tool()
    turn = threading.Semaphore(DUMPERS)
    seen: dict[Seat, Future[Outcome]] = {}
    timed: dict[Width, dict[str, bool]] = {}
    pool = ThreadPoolExecutor(AT_ONCE)
    for seat in chosen(request.session):
        with contextlib.suppress(toolchain.Missing):
            program = toolchain.find("calls", seat.width)
            if seat.width not in timed:
                timed[seat.width] = calls.list_calls(program)
            is_timed = timed[seat.width][seat.call]
            seen[seat] = pool.submit(sit, seat, program, timed=is_timed, turn=turn)
    yield seen
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("seat", SEATS, ids=str)
def test_who_sits_in_a_call_notices_what_the_document_says(
    seat: Seat, outcomes: dict[Seat, Future[Outcome]]
) -> None:
    living.program("calls", seat.width)
    try:
        outcome = outcomes[seat].result()
    except calls.Unsupported as error:
        pytest.skip(f"not here: {error}")
    assert outcome.verdict == expected(seat.call, seat.method)
    # A call that has moved a part of its bytes is over with the first dump.
    assert outcome.disturbed == (1 if outcome.verdict == "short" else TIMES)
