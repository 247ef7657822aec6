# SPDX-License-Identifier: BSD-3-Clause
"""Cores by /proc/PID/livedump that come to coresnap: lab/inside/livecatch.py, and one compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coresnap import Core, diff
from lab.architectures import ARM
from lab.guest.vm import Guest as Machine
from lab.host import guests
from lab.host.asserted import asserted
from lab.inside import livecatch
from lab.matrix import Guest

pytestmark = pytest.mark.guest

TIMES = re.compile(r"\.pr_c?[us]time$")


@pytest.fixture(scope="module")
def vm(machine: Guest) -> Iterator[Machine]:
    product = guests.product(machine.architecture)
    with guests.fresh(machine) as made:
        made.put(
            {
                str(livecatch.CATCH): product / "coresnap-catch",
                str(livecatch.DUMP): product / "coresnap-dump",
            },
            mode=0o755,
        )
        yield made
        made.check_console()


@pytest.mark.alike
@pytest.mark.parametrize("promise", livecatch.CASES, ids=lambda promise: promise.__name__)
def test_livedump_catch(vm: Machine, promise: Callable[[], None]) -> None:
    asserted(vm, promise)


def test_the_core_is_that_of_the_standard_way(vm: Machine, machine: Guest, tmp_path: Path) -> None:
    """But for the times that copies of different moments have used."""
    ours, standard = tmp_path / "ours", tmp_path / "standard"
    vm.call("lab.inside.livecatch:pair", ours="/tmp/ours", standard="/tmp/standard")
    for file in (ours, standard):
        vm.get(f"/tmp/{file.name}", file)
    with Core(ours) as first, Core(standard) as second:
        assert [thread.tid for thread in first.threads] == [thread.tid for thread in second.threads]
        found = [each for each in diff(first, second) if not TIMES.search(each.path)]
    # ARM's kernel dumps the page by which programs read the clock.
    clock = [each for each in found if str(each.detail).endswith("; r--")]
    assert len(clock) <= (machine.architecture == ARM.name)
    assert found == clock
