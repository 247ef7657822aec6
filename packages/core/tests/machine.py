# SPDX-License-Identifier: BSD-3-Clause
"""Settings of the whole machine: the tests' to change where CORESNAP_OWN_MACHINE=1 says so.

So it is in the guests of the lab. On other machines a test that needs a setting is skipped unless
the machine has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OWN = os.environ.get("CORESNAP_OWN_MACHINE") == "1"


def number(file: Path) -> int:
    """What a file of /proc/sys or /sys says."""
    return int(file.read_text())


def choose(file: Path, value: int) -> None:
    """From now on the file says so; skips where it says otherwise and is not ours to change."""
    if not file.exists():
        pytest.skip(f"this kernel has no {file}")
    if number(file) == value:
        return
    if not OWN:
        pytest.skip(f"{file} is not {value}, and not ours to change")
    file.write_text(str(value))
    assert number(file) == value, f"{file} cannot be {value}"


@contextmanager
def setting(file: Path, value: int) -> Iterator[None]:
    """As choose(), and afterwards it is as it was."""
    before = file.read_text() if file.exists() else ""
    choose(file, value)
    try:
        yield
    finally:
        if file.read_text() != before:
            file.write_text(before)
