# SPDX-License-Identifier: BSD-3-Clause
"""/proc/PID/livedump under stress (lab/inside/livestress.py), in one guest for each kernel.

The long form also has kernels that check themselves: locks, memory after its end, leaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.guest.vm import Guest as Machine
from lab.host import build, guests, hold
from lab.host.asserted import asserted
from lab.inside import livestress
from lab.longform import FAILURES, FULL, GUEST_DUMPS, KILLS
from lab.matrix import DEBUG, LIVEDUMP, Guest

pytestmark = [pytest.mark.guest, pytest.mark.alike]

CHECKED = [machine for machine in LIVEDUMP if machine.kernel == DEBUG]
DEADLINE = 3600.0 if FULL else 300.0
CONSOLE_LINES = 1 << 20
ENOUGH = 100
"""Dumps that show whether they keep something, beside what else the kernel comes to keep."""


@pytest.fixture(scope="module")
def vm(machine: Guest, tools: hold.Tools) -> Iterator[Machine]:
    try:
        churn = build.helper("churn", tools.build, width=machine.architecture)
    except build.NotBuildable as error:
        pytest.fail(str(error), pytrace=False)
    with guests.fresh(machine) as made:
        made.put({str(livestress.CHURN): churn}, mode=0o755)
        yield made
        made.check_console()


def _call(vm: Machine, function: Callable[..., Any], **arguments: Any) -> Any:
    """What the function says; afterwards the kernel must have nothing to complain about."""
    said = asserted(vm, function, deadline=DEADLINE, **arguments)
    vm.check_console()
    assert "WARNING: " not in vm.console_tail(CONSOLE_LINES)
    return said


@pytest.mark.parametrize("who", livestress.VICTIMS)
def test_livedump_survives_kills(vm: Machine, machine: Guest, who: str) -> None:
    """Of any who takes part, in whatever phase; and the next dump of the process succeeds."""
    kills = machine.times(KILLS)
    results = _call(vm, livestress.kill, who=who, rounds=kills, seed=7)
    assert sum(results.values()) == kills
    # Some came in time.
    assert who == "manager" or set(results) != {"ok"}, results


@pytest.mark.parametrize("mode", livestress.BUSY)
def test_livedump_is_not_seen_by_a_process_that_never_rests(
    vm: Machine, machine: Guest, mode: str
) -> None:
    assert _call(vm, livestress.restless, mode=mode, dumps=machine.times(GUEST_DUMPS)) > 0


def test_livedump_of_several_processes_at_once(vm: Machine, machine: Guest) -> None:
    rounds = machine.times(KILLS) // 4
    _call(vm, livestress.together, targets=3, writers=3, rounds=rounds)


def test_livedump_keeps_nothing(vm: Machine) -> None:
    _call(vm, livestress.nothing_is_kept, dumps=ENOUGH)


@pytest.mark.skipif(not CHECKED, reason="needs kernels that fail to order: a part of the long form")
@pytest.mark.parametrize(
    "machine", CHECKED or LIVEDUMP[:1], ids=lambda machine: machine.name, scope="module"
)
@pytest.mark.parametrize("knob", ["failslab", "fail_page_alloc"])
def test_livedump_survives_without_memory(vm: Machine, knob: str) -> None:
    """The process goes on whatever allocation fails, the write says so, and nothing is lost."""
    results = _call(vm, livestress.without_memory, knob=knob, rounds=FAILURES)
    assert results.get("ENOMEM", 0) > 0, results
    leaks = _call(vm, livestress.leaks)
    assert not leaks, "\n".join(leaks)
