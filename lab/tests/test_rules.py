# SPDX-License-Identifier: BSD-3-Clause
"""The oracle itself: it sees a spoilt core, its rules are tight, and none of them may be idle."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from coresnap.diff import Difference
from lab.host import compare, record
from lab.host.hold import Hold
from lab.host.mutate import MUTATIONS, Mutation, mutated
from lab.matrix import METHODS, PRECOPY_METHOD, ROWS
from lab.rules import PAGE, RULES, Cell, Context, nowhere

MIB = 1 << 20

SPOILT = [
    pytest.param(row, id=row.name)
    for row in ROWS
    if row.scenario.name == "threads-64" and row.name == f"{row.scenario.name}/{row.width}"
]


@pytest.mark.parametrize("held", SPOILT, indirect=True)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_spoilt_core_is_seen(held: Hold, mutation: Mutation, tmp_path: Path) -> None:
    method = METHODS[0]
    sound = held.context(method)
    assert not compare.judge(sound).unexplained
    with mutated(held.ours(method), mutation, tmp_path / "spoilt.core") as ours:
        spoilt = compare.judge(held.context(method, ours=ours))
    found = [difference.path for difference, _ in spoilt.unexplained]
    assert any(re.fullmatch(mutation.path, path) for path in found), found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_says_why_and_where(rule: object) -> None:
    chosen = next(item for item in RULES if item is rule)
    assert len(chosen.reason) > 40
    assert re.match(r"\w+(/\w+)*/\w+\.[chS]: \w+", chosen.kernel)
    cells = record.cells().values()
    surely = [cell for cell in cells if chosen.surely(cell)]
    # The difference of a race has a test of its own, below.
    assert surely or chosen.surely is nowhere, "no cell proves that the rule is needed"
    assert all(chosen.cells(cell) for cell in surely), "a rule cannot fire where it must"


@pytest.mark.parametrize(
    ("kernel", "allowed"),
    [
        ({"rax": 202, "orig_rax": 202, "rip": 0x1000}, True),
        ({"rax": 202, "orig_rax": 202, "rip": 0x1004}, False),  # not at the instruction
        ({"rax": 35, "orig_rax": 202, "rip": 0x1000}, False),  # another call
    ],
)
def test_a_restarting_call_is_the_kernels_own_step(kernel: dict[str, int], allowed: bool) -> None:
    ours = {"rax": -512 & (1 << 64) - 1, "orig_rax": 202, "rip": 0x1002}
    cores = [
        SimpleNamespace(elf_class=64, threads=[SimpleNamespace(tid=7, regs=regs)])
        for regs in (ours, kernel)
    ]
    row = next(row for row in ROWS if row.scenario.name == "stopped")
    context = SimpleNamespace(cell=Cell(row=row, method=METHODS[0]), ours=cores[0], kernel=cores[1])
    rule = next(rule for rule in RULES if rule.name == "call-about-to-restart")
    for name in ("rax", "rip"):
        difference = Difference(f"thread[7].prstatus.{name}", ours[name], kernel[name])
        assert rule.explains(difference, cast("Context", context)) is allowed


@pytest.mark.parametrize(
    ("kernel", "allowed"),
    [
        (bytes([3, 9, *[0] * 14]) * 16, True),
        (bytes([3, 9]) * 128, False),  # not a difference
        (bytes([3, 9, *[0] * 14]) * 15 + bytes(16), False),
        (bytes([9, 3, *[0] * 14]) * 16, False),  # in another order
    ],
)
def test_an_emulator_may_mix_tags_in_one_way_only(kernel: bytes, allowed: bool) -> None:
    def core(tags: bytes) -> SimpleNamespace:
        return SimpleNamespace(tags=SimpleNamespace(read=lambda _, size: tags[:size]))

    row = next(row for row in ROWS if row.scenario.name == "mte")
    ours = bytes([3, 9]) * 128
    context = SimpleNamespace(
        cell=Cell(row=row, method=METHODS[0]), ours=core(ours), kernel=core(kernel)
    )
    rule = next(rule for rule in RULES if rule.name == "emulator-mixes-tags")
    difference = Difference("tags[7f0000-7f2000]", ours[:16], kernel[:16])
    assert rule.explains(difference, cast("Context", context)) is allowed


@pytest.mark.parametrize(
    ("more", "allowed"),
    [
        ((0, 0, 0), True),
        ((PAGE, 0, 0), True),  # of notes there may be more
        ((64 * MIB, 0, 0), False),  # so many nobody has
        ((0, PAGE, 0), False),  # more than there are addresses
        ((0, 0, PAGE), False),
        ((0, 0, -PAGE), False),
    ],
)
def test_room_between_segments_is_as_much_as_may_grow(
    more: tuple[int, int, int], allowed: bool
) -> None:
    def kept(start: int, size: int, offset: int) -> SimpleNamespace:
        return SimpleNamespace(start=start, filesz=size, offset=offset)

    # A page of addresses between the first two, many behind the second.
    maps = [kept(16 * MIB, MIB, 5 * MIB + more[0])]
    maps.append(kept(17 * MIB + PAGE, 32 * MIB, maps[0].offset + MIB + PAGE + more[1]))
    room = (MIB + 32 * MIB + MIB) // 8
    maps.append(kept(1024 * MIB, MIB, maps[1].offset + 32 * MIB + room + more[2]))
    row = next(row for row in ROWS if row.scenario.name == "large")
    context = SimpleNamespace(
        cell=Cell(row=row, method=PRECOPY_METHOD), ours=SimpleNamespace(maps=maps), kernel=None
    )
    rule = next(rule for rule in RULES if rule.name == "room-between-segments")
    differences = [Difference(f"phdr[{each.start:x}].p_offset", each.offset, 0) for each in maps]
    explained = [rule.explains(each, cast("Context", context)) for each in differences]
    assert all(explained) is allowed


def test_rules_have_names_of_their_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_an_idle_rule_is_reported() -> None:
    cell = next(iter(record.cells()))
    silent = record.Fired(cell=cell, rules=Counter())
    assert any("dying-signal " in line for line in record.idle_rules([silent]))
    noisy = record.Fired(cell=cell, rules=Counter({rule.name: 1 for rule in RULES}))
    assert record.idle_rules([silent, noisy]) == []


def test_records_survive_the_way_to_the_controller(tmp_path: Path) -> None:
    fired = record.Fired(cell="one-thread/x86-64:stop", rules=Counter({"dying-signal": 2}))
    record.write(tmp_path, fired)
    assert record.read(tmp_path) == [fired]


def test_a_difference_is_shown_without_control_characters() -> None:
    verdict = compare.Verdict(
        fired=Counter(),
        unexplained=((Difference("process.pr_fname", b"\x1b[2J", b"\n[red]"), ()),),
    )
    assert verdict.text().isprintable()
