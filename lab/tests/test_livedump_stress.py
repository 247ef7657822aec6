# SPDX-License-Identifier: BSD-3-Clause
"""/proc/PID/livedump under stress (lab/inside/livestress.py), in one guest for each kernel.

The long form also has kernels that check themselves: locks, memory after its end, leaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.architectures import ARM, X86_64
from lab.guest.errors import CallFailed
from lab.guest.vm import Guest as Machine
from lab.host import build, guests, hold
from lab.inside import livestress
from lab.longform import DUMPS, FAILURES, FULL, KILLS
from lab.matrix import DEBUG, DEBUG_MEMORY, OWN, Guest

pytestmark = pytest.mark.guest

KERNELS = {OWN: 384, **({DEBUG: DEBUG_MEMORY} if FULL else {})}
KERNEL = pytest.mark.parametrize("kernel", KERNELS, scope="module")
ARCHITECTURE = pytest.mark.parametrize("architecture", [X86_64.name, ARM.name], scope="module")
DEADLINE = 3600.0 if FULL else 300.0
CONSOLE_LINES = 1 << 20


@pytest.fixture(scope="module")
def vm(architecture: str, kernel: str, tools: hold.Tools) -> Iterator[Machine]:
    try:
        churn = build.helper("churn", tools.build, width=architecture)
    except build.NotBuildable as error:
        pytest.fail(str(error), pytrace=False)
    machine = Guest(architecture=architecture, kernel=kernel)
    with guests.fresh(machine, memory=KERNELS[kernel]) as made:
        made.put({str(livestress.CHURN): churn}, mode=0o755)
        yield made
        made.check_console()


def _call(vm: Machine, name: str, **arguments: Any) -> Any:
    """What the function says; afterwards the kernel must have nothing to complain about."""
    try:
        said = vm.call(f"lab.inside.livestress:{name}", deadline=DEADLINE, **arguments)
    except CallFailed as error:
        pytest.fail(str(error), pytrace=False)
    vm.check_console()
    assert "WARNING: " not in vm.console_tail(CONSOLE_LINES)
    return said


@ARCHITECTURE
@KERNEL
@pytest.mark.parametrize("who", livestress.VICTIMS)
def test_livedump_survives_kills(vm: Machine, who: str) -> None:
    """Of any who takes part, in whatever phase; and the next dump of the process succeeds."""
    results = _call(vm, "kill", who=who, rounds=KILLS, seed=7)
    assert sum(results.values()) == KILLS
    # Some came in time.
    assert who == "manager" or set(results) != {"ok"}, results


@ARCHITECTURE
@KERNEL
@pytest.mark.parametrize("mode", livestress.BUSY)
def test_livedump_is_not_seen_by_a_process_that_never_rests(vm: Machine, mode: str) -> None:
    assert _call(vm, "restless", mode=mode, dumps=DUMPS) > 0


@ARCHITECTURE
@KERNEL
def test_livedump_of_several_processes_at_once(vm: Machine) -> None:
    _call(vm, "together", targets=3, writers=3, rounds=KILLS // 4)


@ARCHITECTURE
@KERNEL
def test_livedump_keeps_no_pid_namespace(vm: Machine) -> None:
    _call(vm, "nothing_is_kept", dumps=max(DUMPS, 100))


@ARCHITECTURE
@pytest.mark.parametrize("kernel", [DEBUG] if FULL else [], scope="module")
@pytest.mark.parametrize("knob", ["failslab", "fail_page_alloc"])
def test_livedump_survives_without_memory(vm: Machine, knob: str) -> None:
    """The process goes on whatever allocation fails, the write says so, and nothing is lost."""
    results = _call(vm, "without_memory", knob=knob, rounds=FAILURES)
    assert results.get("ENOMEM", 0) > 0, results
    leaks = _call(vm, "leaks")
    assert not leaks, "\n".join(leaks)
