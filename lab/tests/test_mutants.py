# SPDX-License-Identifier: BSD-3-Clause
"""The catalogue of mutants fits the sources and the matrix; lab/mutants plants and catches them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lab.host import record
from lab.mutants import sightings, workshop
from lab.mutants.catalogue import MUTANTS, Judge, Mutant
from lab.mutants.sightings import Sighting
from lab.mutants.workshop import CORE, NotApplicable, NotBuilt, Workshop, mutated

EACH = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)

ONE = Mutant(
    name="one",
    file="note.c",
    search="a + b",
    replacement="a - b",
    row="one-thread/x86-64",
    said=r"thread\[\d+\]\.prstatus\.rax",
)


@EACH
def test_a_mutant_applies(mutant: Mutant) -> None:
    source = (CORE / "src" / mutant.file).read_text()
    assert mutated(mutant, source) != source


@EACH
def test_a_mutant_has_a_cell_and_a_pattern(mutant: Mutant) -> None:
    cell = record.cells()[mutant.cell]
    # The workshop builds the program, not the library.
    assert not cell.row.itself
    assert mutant.judge is not Judge.KERNEL or cell.row.scenario.compared
    # A pattern that anything matches would catch nothing.
    assert re.fullmatch(mutant.said, "") is None
    assert mutant.said.strip(".*")


def test_mutants_have_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20


def test_the_fault_is_planted_once() -> None:
    assert mutated(ONE, "x = a + b;\n") == "x = a - b;\n"


@pytest.mark.parametrize(
    ("source", "places"), [("x = a;", "no places"), ("a + b; a + b", "2 places")]
)
def test_a_mutant_that_does_not_apply_says_so(source: str, places: str) -> None:
    with pytest.raises(NotApplicable) as caught:
        mutated(ONE, source)
    words = str(caught.value)
    assert places in words and "note.c" in words and "catalogue.py" in words
    assert "\n" not in words


def test_only_the_judge_and_the_whole_words_count() -> None:
    seen = Sighting(Judge.KERNEL, "thread[12].prstatus.rax")
    others = (
        Sighting(Judge.TRUTH, "thread[12].prstatus.rax"),
        Sighting(Judge.KERNEL, "thread[12].prstatus.rax.size"),
        Sighting(Judge.KERNEL, "thread[12].prstatus.rbx"),
    )
    assert sightings.matching(ONE, (*others, seen)) == (seen,)
    assert sightings.matching(replace(ONE, judge=Judge.TRUTH), others) == others[:1]


def test_a_sighting_is_shown_short_and_without_control_characters() -> None:
    words = sightings.short(Sighting(Judge.READER, "\x1b[2J" + "x" * 1000))
    assert words.isprintable() and len(words) <= 100
    assert sightings.text(()) == "  nothing"
    assert sightings.text([Sighting(Judge.KERNEL, "a")] * 12).endswith("… and 2 more")


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Workshop(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotBuilt, match="arm-linux-gnueabihf-gcc is not installed: run ci/setup"):
        shop.dumper("arm", None)
    monkeypatch.setattr(workshop, "_TOOLS", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name, path=None: None if path else name)
    with pytest.raises(NotBuilt, match="meson, which is not installed"):
        shop.dumper("arm", None)
