# SPDX-License-Identifier: BSD-3-Clause
"""What a row that cannot be held means: a known limit, this machine, or a gap in the lab."""

from __future__ import annotations

from typing import NoReturn

import pytest

from lab.matrix import Row, known_limit

KNOWN = "known limit: "
"""How the reason of a skipped test begins whose row KNOWN_LIMITS has."""
HERE = "not possible here: "
"""How it begins where only this machine lacks something."""


def impossible(row: Row, why: Exception) -> NoReturn:
    """End the test of a row that cannot be held.

    Guests are the same everywhere: what one of them lacks is to be listed, or to be mended.
    """
    limit = known_limit(row)
    if limit is not None:
        pytest.skip(f"{KNOWN}{limit.reason}; see {limit.link}. The row says: {why}")
    if row.guest is not None:
        pytest.fail(
            f"{row.name} cannot be held, and KNOWN_LIMITS in lab/matrix.py does not have it: {why}",
            pytrace=False,
        )
    pytest.skip(f"{HERE}{row.name}: {why}")


def held_after_all(row: Row) -> None:
    """Fail the test of a row that was held if KNOWN_LIMITS says that it cannot be."""
    if known_limit(row) is not None:
        pytest.fail(
            f"{row.name} can be held after all: take it out of KNOWN_LIMITS in lab/matrix.py",
            pytrace=False,
        )
