# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the command's tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from packages.cli.tests.actors import Command, Program, started


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command in an empty directory."""
    place = tmp_path / "cwd"
    place.mkdir()
    return Command(place)


@pytest.fixture
def target() -> Iterator[Program]:
    """A process that answers."""
    with started("target") as program:
        yield program


@pytest.fixture
def root() -> None:
    """Skips the test unless it runs as root."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
