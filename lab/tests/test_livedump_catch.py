# SPDX-License-Identifier: BSD-3-Clause
"""Cores by /proc/PID/livedump that come to coresnap: lab/inside/livecatch.py, and one compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from coresnap import Core, diff
from lab.architectures import ARM, X86_32, X86_64
from lab.guest.errors import CallFailed
from lab.guest.vm import Guest as Machine
from lab.host import guests
from lab.inside import livecatch
from lab.longform import FULL
from lab.matrix import OWN, Guest

pytestmark = pytest.mark.guest

ARCHITECTURES = [X86_64.name, ARM.name, *([X86_32.name] if FULL else [])]
TIMES = re.compile(r"\.pr_c?[us]time$")
PROMISES = tuple(case.__name__ for case in livecatch.CASES)


@pytest.fixture(scope="module")
def vm(architecture: str) -> Iterator[Machine]:
    product = guests.product(architecture)
    with guests.fresh(Guest(architecture=architecture, kernel=OWN), memory=384) as made:
        made.put(
            {
                str(livecatch.CATCH): product / "coresnap-catch",
                str(livecatch.DUMP): product / "coresnap-dump",
            },
            mode=0o755,
        )
        yield made
        made.check_console()


@pytest.mark.parametrize("architecture", ARCHITECTURES, scope="module")
@pytest.mark.parametrize("promise", PROMISES)
def test_livedump_catch(vm: Machine, promise: str) -> None:
    try:
        vm.call("lab.inside.livecatch:keep", name=promise)
    except CallFailed as error:
        pytest.fail(str(error), pytrace=False)


@pytest.mark.parametrize("architecture", ARCHITECTURES, scope="module")
def test_the_core_is_that_of_the_standard_way(
    vm: Machine, architecture: str, tmp_path: Path
) -> None:
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
    assert len(clock) <= (architecture == ARM.name)
    assert found == clock
