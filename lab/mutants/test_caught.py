# SPDX-License-Identifier: BSD-3-Clause
"""Each fault that is planted in the C writer is seen by the one cell that must see it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lab.mutants import sightings
from lab.mutants.catalogue import MUTANTS, Mutant
from lab.mutants.workshop import NotApplicable, NotBuilt, Workshop

PLANTED = [pytest.param(mutant, id=f"{mutant.cell}-{mutant.name}") for mutant in MUTANTS]


@pytest.mark.parametrize("mutant", PLANTED)
def test_a_mutant_is_seen(
    mutant: Mutant,
    sound: Callable[[str, str], None],
    looked: Callable[[str, Mutant | None], dict[str, tuple[sightings.Sighting, ...]]],
    record_property: Callable[[str, object], None],
) -> None:
    sound(mutant.row, mutant.method)
    try:
        found = looked(mutant.row, mutant)[mutant.method]
    except (NotApplicable, NotBuilt) as error:
        pytest.fail(str(error), pytrace=False)
    matching = sightings.matching(mutant, found)
    if not matching:
        pytest.fail(
            f"{mutant.cell} does not see the mutant “{mutant.name}”: its {mutant.judge} was to say "
            f"{mutant.said}, and this is said:\n{sightings.text(found)}",
            pytrace=False,
        )
    others = len(found) - 1
    more = f" (and {others} more)" if others else ""
    record_property("seen by", f"{sightings.short(matching[0])}{more}")


def _digest(program: Path) -> str:
    return hashlib.sha256(program.read_bytes()).hexdigest()


def test_a_fault_is_gone_from_the_next_build(workshop: Workshop) -> None:
    as_it_is = _digest(workshop.dumper("x86-64", None))
    assert _digest(workshop.dumper("x86-64", MUTANTS[0])) != as_it_is
    assert _digest(workshop.dumper("x86-64", None)) == as_it_is


def test_a_mutant_that_does_not_compile_says_so(workshop: Workshop) -> None:
    mutant = replace(MUTANTS[0], replacement="no C at all;")
    with pytest.raises(NotBuilt) as caught:
        workshop.dumper("x86-64", mutant)
    words = str(caught.value)
    assert mutant.name in words and "does not compile" in words and "no C at all" in words
