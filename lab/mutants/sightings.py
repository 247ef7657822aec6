# SPDX-License-Identifier: BSD-3-Clause
"""What the lab's judges have against a core, one sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from coresnap.corefile import CoreError
from lab.host import compare, truth
from lab.host.hold import Hold
from lab.mutants.catalogue import Judge, Mutant

_SHOWN = 10
_WORDS = 100  # characters of a sighting that a table shows


@dataclass(frozen=True)
class Sighting:
    """A judge's words: of the kernel the path of a difference that not exactly one rule allows."""

    judge: Judge
    words: str

    def __str__(self) -> str:
        return f"{self.judge}: {self.words}"


def _read(held: Hold, method: str) -> Iterator[Sighting]:
    core = held.ours(method)
    if held.row.kernel_core and held.row.scenario.compared:
        for difference, _ in compare.judge(held.context(method)).unexplained:
            yield Sighting(Judge.KERNEL, difference.path)
    for words in truth.lies(core, held.facts) if held.row.whole else ():
        yield Sighting(Judge.TRUTH, words)


def look(held: Hold, method: str) -> tuple[Sighting, ...]:
    """All that is wrong with a method's core of a hold; empty if nothing is."""
    if method not in held.record.dumps:
        return (Sighting(Judge.DUMPER, held.record.failures[method]),)
    found = []
    if held.record.dumps[method].status != 0:
        found.append(Sighting(Judge.DUMPER, held.record.dumps[method].words.strip()))
    try:
        found += _read(held, method)
    except CoreError as error:
        core = held.record.dumps[method].core
        found.append(Sighting(Judge.READER, str(error).replace(str(core), core.name)))
    return tuple(found)


def matching(mutant: Mutant, found: Sequence[Sighting]) -> tuple[Sighting, ...]:
    """Those by which the mutant was to be seen."""
    return tuple(
        sighting
        for sighting in found
        if sighting.judge is mutant.judge
        and re.fullmatch(mutant.said, sighting.words, re.DOTALL) is not None
    )


def short(sighting: Sighting) -> str:
    """For a table, without control characters."""
    words = "".join(c if c.isprintable() else "?" for c in str(sighting))
    return words if len(words) <= _WORDS else f"{words[: _WORDS - 1]}…"


def text(found: Sequence[Sighting]) -> str:
    """The first few, one in a line."""
    lines = [f"  {sighting}" for sighting in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"  … and {len(found) - _SHOWN} more")
    return "\n".join(lines) or "  nothing"
