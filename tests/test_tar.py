# SPDX-License-Identifier: BSD-3-Clause
"""The source archives: complete enough to be built, tested and installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.host import packaged
from lab.host.packaged import ROOT, run
from lab.longform import FULL

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(not FULL, reason="builds archives: a part of the long form"),
]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The tree, core and cli."""
    made = packaged.made("tar", tmp_path_factory.mktemp("archives"))
    assert [path.name.rpartition("-")[0] for path in made] == [
        "coresnap-source",
        "coresnap",
        "coresnap_cli",
    ]
    return made


def unpacked(archive: Path, to: Path) -> Path:
    """The one directory in an archive."""
    to.mkdir()
    run("tar", "-C", to, "-xf", archive)
    (directory,) = to.iterdir()
    assert (directory / "LICENSE").is_file()
    return directory


def test_equal_trees_give_equal_bytes(archives: list[Path], tmp_path: Path) -> None:
    again = packaged.made("tar", tmp_path)
    assert again[0].read_bytes() == archives[0].read_bytes()


@pytest.mark.parametrize(("number", "core"), [(0, "packages/core"), (1, ".")], ids=["tree", "core"])
def test_an_archive_is_built_tested_and_installed(
    archives: list[Path], tmp_path: Path, number: int, core: str
) -> None:
    source = unpacked(archives[number], tmp_path / "source") / core
    build, root = tmp_path / "build", tmp_path / "root"
    meson = ROOT / "build/tools/bin/meson"
    run(meson, "setup", "--buildtype=release", "--prefix=/usr", "-Dwerror=true", build, source)
    run("ninja", "-j1", "-C", build)
    run(meson, "test", "-C", build, "--no-rebuild", "-j1")
    run(meson, "install", "-C", build, "--no-rebuild", "--destdir", root)
    assert run(root / "usr/bin/coresnap-dump", "--version").startswith("coresnap-dump ")
    assert (root / "usr/include/coresnap.h").is_file()


def test_the_distributions_of_python_install(archives: list[Path], tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "-q", *archives[1:])
    version = archives[1].name.removeprefix("coresnap-").removesuffix(".tar.gz")
    assert run(tmp_path / "venv/bin/coresnap", "--version") == f"coresnap {version}\n"
    assert (tmp_path / "venv/share/man/man1/coresnap.1").is_file()


def test_an_unpacked_tree_makes_the_same_archive(archives: list[Path], tmp_path: Path) -> None:
    """There is no git, and so nothing but the files to go by."""
    tree = unpacked(archives[0], tmp_path / "source")
    (tree / "build").mkdir()
    (tree / "build/tools").symlink_to(ROOT / "build/tools")
    again = run(tree / "ci/package", "tar", tmp_path / "again").splitlines()
    assert Path(again[0]).read_bytes() == archives[0].read_bytes()
