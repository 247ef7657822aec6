# SPDX-License-Identifier: BSD-3-Clause
"""Packages that tests make by ci/package and take apart."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.patience import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
BUILDING = 600 * PATIENCE
"""Seconds for building or installing one kind of packages."""


def run(
    *argv: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    status: int = 0,
) -> str:
    """What a program prints, that has to end with this status; ``env`` is added to ours."""
    # The tests' own Python, and its variables, are nothing that packages may depend on.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        argv,
        cwd=cwd,
        env=inherited | dict(env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=BUILDING,
    )
    words = " ".join(map(str, argv))
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def made(kind: str, directory: Path) -> list[Path]:
    """The files that ``ci/package`` made and named."""
    paths = [Path(line) for line in run(ROOT / "ci/package", kind, directory).splitlines()]
    assert paths
    assert sorted(paths) == sorted(directory.iterdir())
    return paths
