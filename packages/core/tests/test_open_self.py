# SPDX-License-Identifier: BSD-3-Clause
"""Programs that open cores of themselves for reading, by coresnap_open_self().

programs/open_self.c is put into a situation, reads a core of itself and reports what changed under
its feet. The core is compared with what it reported.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import living
import pytest
from living import WIDTHS
from toolchain import Width

from coresnap.corefile import Core
from lab.patience import DEADLINE

pytestmark = pytest.mark.host

SITUATIONS = [
    "whole", "closed-early", "caller-ends", "at-once", "too-many", "in-a-fork", "in-a-handler",
    "by-stop", "gently",
]  # fmt: skip
PLAIN, GZIP = 0, 3


def check(situation: str, compression: int, width: Width, core_path: Path) -> None:
    """Run it; it must have noticed nothing, and the core must be of the instant of the call."""
    done = subprocess.run(
        [living.program("open_self", width), situation, str(compression), core_path],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not re.findall(r"^trouble.*", done.stdout, re.MULTILINE), done.stdout
    said = {name: values for name, *values in map(str.split, done.stdout.splitlines())}
    start, size = int(said["memory"][0], 16), int(said["memory"][1])
    with Core(core_path) as core:
        assert core.process.pid == int(said["pid"][0])
        assert len(core.threads) >= 2
        assert core.read(start, size) == b"a" * size


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("width", WIDTHS)
def test_program_goes_on_while_its_core_is_read(
    situation: str, width: Width, tmp_path: Path
) -> None:
    check(situation, PLAIN, width, tmp_path / "core")


@pytest.mark.parametrize("situation", ["whole", "caller-ends", "closed-early", "gently"])
@pytest.mark.parametrize("width", WIDTHS)
def test_core_is_compressed_while_it_is_read(situation: str, width: Width, tmp_path: Path) -> None:
    check(situation, GZIP, width, tmp_path / "core")
