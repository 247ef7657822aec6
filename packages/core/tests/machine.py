# SPDX-License-Identifier: BSD-3-Clause
"""Settings of the whole machine: the tests' to change where CORESNAP_OWN_MACHINE=1 says so.

So it is in the guests of the lab. On other machines a test that needs a setting is skipped unless
the machine has it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OWN = os.environ.get("CORESNAP_OWN_MACHINE") == "1"


def number(file: Path) -> int:
    """What a file of /proc/sys or /sys says."""
    return int(file.read_text())


def _value(file: Path) -> str:
    """Likewise; where it lists the choices, the one in brackets."""
    text = file.read_text().strip()
    chosen = re.search(r"\[(\w+)\]", text)
    return chosen[1] if chosen else text


def choose(file: Path, value: int | str) -> None:
    """From now on the file says so; skips where it says otherwise and is not ours to change."""
    if not file.exists():
        pytest.skip(f"this kernel has no {file}")
    if _value(file) == str(value):
        return
    if not OWN:
        pytest.skip(f"{file} is not {value}, and not ours to change")
    file.write_text(str(value))
    assert _value(file) == str(value), f"{file} cannot be {value}"


@contextmanager
def setting(file: Path, value: int | str) -> Iterator[None]:
    """As choose(), and afterwards it is as it was."""
    before = _value(file) if file.exists() else ""
    choose(file, value)
    try:
        yield
    finally:
        if _value(file) != before:
            file.write_text(before)
