# SPDX-License-Identifier: BSD-3-Clause
"""What is installed from a build directory can be taken away again."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.patience import DEADLINE

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "packages/core"


def files(below: Path) -> dict[str, str]:
    """What lies there: each name, and where it leads if it is a link."""
    return {
        str(path.relative_to(below)): str(path.readlink()) if path.is_symlink() else ""
        for path in below.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


@pytest.mark.host
def test_an_installation_is_undone_without_a_rest(tmp_path: Path) -> None:
    """Links and directories too. Another directory of the same build does not count."""
    build = tmp_path / "build"
    meson = shutil.which("meson", path=f"{ROOT / 'build/tools/bin'}:{os.environ['PATH']}")
    assert meson is not None, "ci/setup test puts meson into build/tools"

    def run(*argv: str | Path) -> None:
        done = subprocess.run(
            argv,
            env=os.environ | {"DESTDIR": str(tmp_path / "root")},
            capture_output=True,
            text=True,
            timeout=10 * DEADLINE,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run(meson, "setup", "-Dtests=false", "-Dbuildtype=plain", "--prefix=/usr", build, CORE)
    run("ninja", "-j1", "-C", build)
    (tmp_path / "root/usr/include").mkdir(parents=True)
    (tmp_path / "root/usr/include/other.h").touch()
    run(meson, "install", "-C", build, "--no-rebuild")
    installed = files(tmp_path / "root")
    for name in (
        "bin/coresnap-catch",
        "bin/coresnap-dump",
        "include/coresnap.h",
        "include/google/coredumper.h",
        "share/man/man1/coresnap-dump.1",
        "share/man/man8/coresnap-catch.8",
        "share/man/man3/GetCoreDumpWith.3",
    ):
        assert f"usr/{name}" in installed
    assert {Path(name).name for name in installed} > {"libcoresnap.pc", "libcoredumper.pc"}
    run("ninja", "-C", build, "uninstall")
    assert files(tmp_path / "root") == {"usr/include/other.h": ""}
    assert [path.name for path in (tmp_path / "root/usr").iterdir()] == ["include"]
    assert [path.name for path in (tmp_path / "root/usr/include").iterdir()] == ["other.h"]
