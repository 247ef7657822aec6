# SPDX-License-Identifier: BSD-3-Clause
"""Packages that tests make by ci/package and take apart."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
BUILDING = 600 * PATIENCE
"""Seconds for building or installing one kind of packages."""
NAMES = {
    "deb": {
        *("coresnap", "libcoredumper-dev", "libcoredumper1", "libcoresnap-dev", "libcoresnap1"),
        "python3-coresnap",
    },
    "rpm": {
        *("coresnap-dump", "libcoredumper", "libcoredumper-devel", "libcoresnap"),
        "libcoresnap-devel",
    },
}
"""The binary packages of each kind."""


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


def made(kind: str, directory: Path, *architecture: str) -> list[Path]:
    """The files that ``ci/package`` made and named, of this machine's architecture or another."""
    said = run(ROOT / "ci/package", kind, directory, *architecture)
    paths = [Path(line) for line in said.splitlines()]
    assert paths
    assert sorted(paths) == sorted(directory.iterdir())
    return paths
