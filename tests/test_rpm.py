# SPDX-License-Identifier: BSD-3-Clause
"""RPM's packages: clean, complete, run where they are installed, and gone when they are removed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lab.host import packaged
from lab.host.packaged import ROOT, run
from lab.longform import FULL

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(not FULL, reason="builds packages: a part of the long form"),
]


@pytest.fixture(scope="module")
def rpms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The binary packages by name."""
    made = packaged.made("rpm", tmp_path_factory.mktemp("rpms"))
    binary = [path for path in made if not path.name.endswith(".src.rpm")]
    assert len(binary) == len(made) - 1
    return {run("rpm", "-qp", "--qf", "%{name}", path): path for path in binary}


def rpm(root: Path, *arguments: str | Path) -> str:
    return run("rpm", "--root", root, *arguments)


@pytest.fixture(scope="module")
def root(rpms: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them installed, into a directory that has no other packages."""
    if os.geteuid() != 0:
        pytest.skip("rpm installs into another root as root only")
    root = tmp_path_factory.mktemp("root")
    rpm(root, "--initdb")
    rpm(root, "--nodeps", "-i", *rpms.values())
    return root


def test_rpmlint_is_content(rpms: dict[str, Path]) -> None:
    said = run("rpmlint", "-c", ROOT / "packaging/rpm/rpmlint.toml", *rpms.values())
    assert re.search(r"\b0 errors, 0 warnings\b", said), said


def test_the_packages_are_these(rpms: dict[str, Path]) -> None:
    assert rpms.keys() == packaged.NAMES["rpm"]


@pytest.mark.parametrize("name", ["libcoresnap", "libcoredumper", "coresnap-dump"])
def test_what_the_files_need_is_what_the_package_requires(
    rpms: dict[str, Path], root: Path, name: str
) -> None:
    requires = set(
        re.findall(r"^(lib\S+\.so[.\d]*)\(\)", rpm(root, "-q", "--requires", name), re.M)
    )
    needed: set[str] = set()
    provided: set[str] = set()
    for path in rpm(root, "-ql", name).split():
        file = root / path.lstrip("/")
        if file.is_file() and not file.is_symlink() and file.read_bytes()[:4] == b"\x7fELF":
            dynamic = run("readelf", "-dW", file)
            assert not re.search(r"\((RPATH|RUNPATH|TEXTREL)\)", dynamic)
            needed |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
            provided |= set(re.findall(r"\(SONAME\).*\[(.*)\]", dynamic))
    assert needed == requires == ({"libc.so.6"} if name.startswith("lib") else set())
    assert provided == ({f"{name}.so.1"} if name.startswith("lib") else set())


def test_what_is_installed_runs_and_can_be_removed(root: Path, tmp_path: Path) -> None:
    assert run(root / "usr/bin/coresnap-dump", "--version").startswith("coresnap-dump ")
    (library,) = root.glob("usr/lib*/libcoresnap.so")
    source, program = tmp_path / "user.c", tmp_path / "user"
    source.write_text(
        "#include <coresnap.h>\n#include <stdio.h>\n"
        "int main(void) { return puts(coresnap_version()) < 0; }\n"
    )
    where = (f"-I{root / 'usr/include'}", f"-L{library.parent}", f"-Wl,-rpath,{library.parent}")
    run("gcc", source, "-o", program, *where, "-lcoresnap")
    assert run(program).strip() in run(root / "usr/bin/coresnap-dump", "--version")
    rpm(root, "-e", *sorted(packaged.NAMES["rpm"]))
    left = [path for path in root.rglob("*") if re.search("coresnap|coredumper", path.name)]
    assert left == []
    assert not (root / "usr/include/google").exists()
