# SPDX-License-Identifier: BSD-3-Clause
"""Core installs alone, and cli on top of it, each into a venv that had nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 300  # seconds for one pip run, which may have to download its build tools


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing of this test's Python in its environment."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name not in ("VIRTUAL_ENV", "CORESNAP_BUILD")
    }
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=DEADLINE
    )


def must(*command: str | Path, cwd: Path) -> str:
    """Run a command that has to succeed; return what it printed."""
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copytree(
        ROOT / "packages",
        copy / "packages",
        ignore=shutil.ignore_patterns("__pycache__", ".*", "build"),
    )
    return copy


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty venv; returns its bin directory."""
    directory = tmp_path_factory.mktemp("install") / "venv"
    must(sys.executable, "-m", "venv", directory, cwd=directory.parent)
    return directory / "bin"


@pytest.fixture(scope="module")
def core(tree: Path, venv: Path) -> Path:
    """The venv with core alone in it."""
    must(venv / "pip", "install", "-q", "./packages/core", cwd=tree)
    return venv


@pytest.fixture(scope="module")
def cli(tree: Path, core: Path) -> Path:
    """The venv with cli on top of core."""
    must(core / "pip", "install", "-q", "./packages/cli", cwd=tree)
    return core


def test_core_alone_imports(core: Path, tmp_path: Path) -> None:
    said = must(core / "python", "-c", "import coresnap; print(coresnap.__file__)", cwd=tmp_path)
    assert Path(said.strip()).is_relative_to(core.parent)
    assert not (core / "coresnap").exists()


def test_core_alone_is_typed(core: Path) -> None:
    assert list(core.parent.glob("lib/python3*/site-packages/coresnap/py.typed"))


def page(bin_directory: Path, name: str) -> bytes:
    """The manual page that man(1) finds beside the directory of the programs."""
    return (bin_directory.parent / f"share/man/man{name[-1]}" / name).read_bytes()


def test_each_program_brings_its_manual_page(cli: Path) -> None:
    for program, source in (
        ("coresnap-catch", "packages/core/man/coresnap-catch.8"),
        ("coresnap-dump", "packages/core/man/coresnap-dump.1"),
        ("coresnap", "packages/cli/man/coresnap.1"),
    ):
        assert (cli / program).exists()
        assert page(cli, Path(source).name) == (ROOT / source).read_bytes()


def test_cli_on_top_has_the_command(cli: Path, tmp_path: Path) -> None:
    version = must(
        cli / "python", "-c", "import coresnap; print(coresnap.__version__)", cwd=tmp_path
    ).strip()
    assert version in must(cli / "coresnap", "--version", cwd=tmp_path)


def test_cli_wants_the_same_version_of_core(cli: Path, tmp_path: Path) -> None:
    program = (
        "from importlib.metadata import requires, version\n"
        "print(version('coresnap'), *requires('coresnap-cli'))"
    )
    version, *requires = must(cli / "python", "-c", program, cwd=tmp_path).split()
    assert f"coresnap=={version}" in requires
    assert must(cli / "python", "-c", "import coresnap_cli.main", cwd=tmp_path) == ""


def test_nothing_is_missing(cli: Path, tmp_path: Path) -> None:
    assert must(cli / "pip", "check", cwd=tmp_path).strip() == "No broken requirements found."


def test_examples_are_in_the_source_distribution_only(tree: Path, cli: Path) -> None:
    must(cli / "pip", "install", "-q", "hatchling", cwd=tree)
    package = tree / "packages/cli"
    must(cli / "hatchling", "build", "-t", "sdist", "-t", "wheel", cwd=package)
    [source], [wheel] = package.glob("dist/*.tar.gz"), package.glob("dist/*.whl")
    with tarfile.open(source) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    assert {"examples/snapshot_app.py", "src/coresnap_cli/main.py"} <= inside
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if "snapshot_app" in name]
        assert "coresnap_cli/main.py" in archive.namelist()
