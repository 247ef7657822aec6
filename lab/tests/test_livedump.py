# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's dumper of living processes (packages/livedump-kmod), in guests of our kernels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab.cache import CacheError
from lab.copies import RULES, as_a_copy
from lab.guest import GuestError
from lab.host import build, compare, guests, hold, limits, truth, verdicts
from lab.inside import livedump, take
from lab.inside.process import Impossible
from lab.kernels.errors import KernelError
from lab.longform import DUMPS, GUEST_TIMED_DUMPS, GUEST_TIMEOUT
from lab.matrix import LIVE, LIVEDUMP_METHOD, METHODS, TIMED, Row, timed
from lab.rules import Cell

pytestmark = [pytest.mark.guest, pytest.mark.method(LIVEDUMP_METHOD)]

# The kernel's dumper reads all of shared memory, which makes what nobody has touched.
TOUCHED = {"mte": "fail shared: page 1 has been touched"}
SMALL = 0xFFFF  # registers with larger values hold a thread's own mark or an address


@dataclass(frozen=True)
class Held:
    """A row that was dumped so: its cores, and what an empty write did."""

    hold: hold.Hold
    empty: livedump.Wrote
    console: str


@pytest.fixture(scope="module", params=LIVE, ids=lambda row: f"livedump-{row.name}")
def row(request: pytest.FixtureRequest) -> Row:
    """A row of ours."""
    found: Row = request.param
    return found


@pytest.fixture(scope="module")
def taken(row: Row, tools: hold.Tools) -> Iterator[Held]:
    """The hold of a row, which its tests share."""
    with take.directory(row) as directory:
        try:
            live = guests.hold_live(row, tools.build, directory)
        except (build.NotBuildable, Impossible) as error:
            limits.impossible(row, error)
        except (GuestError, KernelError, CacheError) as error:
            pytest.fail(f"{row.name}: {error}", pytrace=False)
        done = hold.Hold(row=row, directory=directory, record=live.record)
        console = (directory / "console.log").read_text(errors="backslashreplace")
        yield Held(hold=done, empty=live.empty, console=console)
        done.close()


def test_without_a_core_limit_an_empty_write_does_nothing(taken: Held) -> None:
    assert taken.empty == livedump.Wrote(status=0, words="", files=())


def test_core_equals_kernels(row: Row, taken: Held) -> None:
    if not row.scenario.compared:
        pytest.skip("it is never the same twice; its law is in its truths")
    context = taken.hold.context(LIVEDUMP_METHOD)
    verdict = compare.judge(context, RULES)
    if verdict.unexplained:
        pytest.fail(
            f"{len(verdict.unexplained)} differences to the core of a crash that not exactly one "
            f"rule allows:\n{verdict.text()}",
            pytrace=False,
        )
    cell = Cell(row=row, method=LIVEDUMP_METHOD)
    of_copies = [rule for rule in RULES if "copy-" in rule.name or rule.name.startswith("call-")]
    idle = [rule.name for rule in of_copies if rule.surely(cell) and not verdict.fired[rule.name]]
    assert not idle


@pytest.mark.parametrize("method", METHODS)
def test_our_core_of_the_same_process_is_the_kernels_too(
    row: Row, taken: Held, method: str
) -> None:
    if not row.scenario.compared:
        pytest.skip("it is never the same twice; its law is in its truths")
    verdict = compare.judge(taken.hold.context(method))
    assert not verdict.unexplained, verdict.text()


def test_the_core_tells_the_truth(row: Row, taken: Held) -> None:
    """Threads by their own numbers, registers, memory: what the program says of itself."""
    if not row.whole:
        pytest.skip("it is cut short by a core limit")
    found = truth.lies(taken.hold.ours(LIVEDUMP_METHOD), as_a_copy(taken.hold.facts, row))
    assert not found, "\n".join(found[:40])


def test_the_process_goes_on_undisturbed(row: Row, taken: Held) -> None:
    record = taken.hold.record
    assert record.answer.startswith("ok") or record.answer == TOUCHED.get(row.scenario.name)
    (_, before), *later = record.observations
    for label, after in later:
        assert not before.differences(after), label


def test_gdb_shows_each_thread(row: Row, taken: Held, tools: hold.Tools) -> None:
    facts = as_a_copy(taken.hold.facts, row)
    try:
        said = verdicts.multiarch(
            guests.program(row, tools.build), taken.hold.record.dumps[LIVEDUMP_METHOD].core
        )
    except verdicts.ToolMissing as error:
        pytest.fail(str(error), pytrace=False)
    assert said["status"] == "0", said["warnings"]
    # gdb does not show orig_rax, fs_base and their like.
    told = [
        one
        for one in facts["truths"]
        if one["is"] == "register"
        and one["value"] > SMALL
        and not re.search("orig_|_base", one["name"])
    ]
    for tid in facts["tids"]:
        frames, registers = said[f"{tid} (1)"], said[f"{tid} (2)"]
        assert frames.startswith("#0"), frames
        for each in (one for one in told if one["tid"] == tid):
            assert f"{each['value']:#x}" in registers, registers


def test_the_kernel_has_nothing_to_complain_about(taken: Held) -> None:
    assert "WARNING: " not in taken.console and "cut here" not in taken.console


REPEATED = tuple(
    each
    for found in LIVE
    if found.scenario.name == "blocked"
    for each in (found, timed(found, GUEST_TIMEOUT))
)


@pytest.mark.parametrize(
    "row", [pytest.param(found, id=f"livedump-again-{found.name}") for found in REPEATED]
)
def test_no_call_sees_the_dumps(row: Row, tools: hold.Tools) -> None:
    """Calls of each kind that waits end by their event or timeout, with their result."""
    assert row.guest is not None
    dumps = row.guest.times(GUEST_TIMED_DUMPS if row.scenario.name == TIMED else DUMPS)
    try:
        done = guests.repeat_live(row, tools.build, dumps=dumps)
    except (build.NotBuildable, Impossible) as error:
        limits.impossible(row, error)
    assert not done.before.differences(done.after)
    assert (done.finish, done.status) == ("ok", 0)
