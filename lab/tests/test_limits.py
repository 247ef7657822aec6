# SPDX-License-Identifier: BSD-3-Clause
"""KNOWN_LIMITS is true: what it has cannot be held, and what cannot be held is in it."""

from __future__ import annotations

import pytest

from lab.host import limits
from lab.inside.process import Impossible
from lab.matrix import KNOWN_LIMITS, ROWS, Limit, Row

WHY = Impossible("there is none")
LIMITED = next(row for row in ROWS if row.name == "arm64/stock-6.1/sme/arm64")
GUEST = next(row for row in ROWS if row.name == "arm64/stock-6.1/sve/arm64")
HOST = next(row for row in ROWS if row.name == "fpu/x86-64")


def test_a_known_limit_is_skipped_with_its_reason_and_link() -> None:
    with pytest.raises(pytest.skip.Exception) as caught:
        limits.impossible(LIMITED, WHY)
    text = str(caught.value)
    assert text.startswith(limits.KNOWN)
    assert "SME" in text and "81235ae0c846" in text and "there is none" in text


def test_what_a_guest_lacks_and_nobody_knows_of_fails() -> None:
    with pytest.raises(pytest.fail.Exception) as caught:
        limits.impossible(GUEST, WHY)
    assert "KNOWN_LIMITS" in str(caught.value) and GUEST.name in str(caught.value)


def test_what_this_machine_lacks_is_skipped() -> None:
    with pytest.raises(pytest.skip.Exception) as caught:
        limits.impossible(HOST, WHY)
    assert str(caught.value) == f"{limits.HERE}fpu/x86-64: there is none"


def test_a_limit_that_is_none_any_more_fails() -> None:
    limits.held_after_all(GUEST)
    with pytest.raises(pytest.fail.Exception) as caught:
        limits.held_after_all(LIMITED)
    assert "take it out of KNOWN_LIMITS" in str(caught.value)


@pytest.mark.parametrize("limit", KNOWN_LIMITS, ids=lambda it: it.scenario)
def test_each_limit_says_why_and_where_to_read_it(limit: Limit) -> None:
    assert limit.reason and limit.link


def covered(row: Row) -> int:
    return sum(limit.covers(row) for limit in KNOWN_LIMITS)


def test_no_row_has_two_limits() -> None:
    assert max(map(covered, ROWS)) == 1
