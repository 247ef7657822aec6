# SPDX-License-Identifier: BSD-3-Clause
"""Functions of lab/inside that assert something in a guest, and fail a test here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lab.guest.errors import CallFailed
from lab.guest.vm import PROGRAM, Guest


def asserted(
    vm: Guest, function: Callable[..., Any], *, deadline: float = PROGRAM, **arguments: Any
) -> Any:
    """What the function says in the guest; what it raises there fails the test, without more."""
    try:
        return vm.call(f"{function.__module__}:{function.__name__}", deadline=deadline, **arguments)
    except CallFailed as error:
        pytest.fail(str(error), pytrace=False)
