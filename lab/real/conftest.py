# SPDX-License-Identifier: BSD-3-Clause
"""A directory of its own for each real program."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from lab.real.scene import Scene, scene


@pytest.fixture
def here() -> Iterator[Scene]:
    """Where the program of a test lives."""
    with scene() as made:
        yield made


@pytest.fixture
def word() -> str:
    """A text that stands in no program and in no other core."""
    return f"known-{secrets.token_hex(12)}"
