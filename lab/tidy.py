# SPDX-License-Identifier: BSD-3-Clause
"""A pytest plugin for machines whose files lie in memory: after each test its tmp_path goes.

The pytest of guests keeps them all, and the cores of a whole suite do not fit.
"""

from __future__ import annotations

import shutil

import pytest


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """After the fixtures, which may have something mounted there."""
    place = getattr(item, "funcargs", {}).get("tmp_path")
    if place is not None:
        shutil.rmtree(place)
