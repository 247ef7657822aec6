# SPDX-License-Identifier: BSD-3-Clause
"""What holds for every file of the repository."""

from __future__ import annotations

import re
import stat
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILT = {".git", ".venv", ".tox", "build", "dist", "__pycache__"}
BUILT |= {".mypy_cache", ".pytest_cache", ".ruff_cache"}
MAX_BINARY = 100_000  # bytes
MAX_C_LINES = 500
INPUTS = "packages/core/tests/fuzz/corpus/"  # of fuzz targets: any bytes, text or not
CODE = (".c", ".h", ".S", ".py", ".pyi", ".map", ".toml", ".build", ".1", ".3")
VERSION = r"\d+\.\d+\.\d+"


@cache
def files() -> tuple[Path, ...]:
    """Return the files that are, or would be, committed; git knows best, if it is there."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.CalledProcessError):
        found = [p for p in ROOT.rglob("*") if not BUILT & set(p.relative_to(ROOT).parts)]
    else:
        found = [ROOT / name for name in listed.decode().split("\0") if name]
    return tuple(sorted(p for p in found if p.is_file() and not p.is_symlink()))


def name(path: Path) -> str:
    """Return the path as the repository knows it."""
    return str(path.relative_to(ROOT))


def is_binary(content: bytes) -> bool:
    """A file with a zero byte, or that is not UTF-8, is binary."""
    try:
        return "\0" in content.decode()
    except UnicodeDecodeError:
        return True


def text_files() -> list[Path]:
    return [path for path in files() if not is_binary(path.read_bytes())]


def test_there_are_files() -> None:
    assert {"README.md", "LICENSE", "tox.ini", "ci/test"} <= {name(path) for path in files()}


def test_no_large_binaries() -> None:
    large = [
        name(path)
        for path in files()
        if path.stat().st_size > MAX_BINARY and is_binary(path.read_bytes())
    ]
    assert large == []


def test_code_begins_with_its_licence() -> None:
    """The SPDX line is the first, or the second below `#!`. An empty file needs none."""
    missing = []
    for path in files():
        head = path.read_bytes()[:400].decode(errors="replace").splitlines()[:2]
        script = bool(head) and head[0].startswith("#!")
        if not (path.suffix in CODE or script) or not head:
            continue
        if "SPDX-License-Identifier: BSD-3-Clause" not in head[1 if script and head[1:] else 0]:
            missing.append(name(path))
    assert missing == []


def test_c_files_fit_in_the_head() -> None:
    long = [
        f"{name(path)}: {count} lines"
        for path in files()
        if path.suffix in (".c", ".h", ".S")
        and (count := len(path.read_bytes().splitlines())) > MAX_C_LINES
    ]
    assert long == []


def test_scripts_are_executable_and_nothing_else_is() -> None:
    wrong = []
    for path in files():
        executable = bool(path.stat().st_mode & stat.S_IXUSR)
        script = path.read_bytes().startswith(b"#!") and name(path) != "ci/prelude"
        if executable != script:
            wrong.append(f"{name(path)}: {'executable' if executable else 'not executable'}")
    assert wrong == []


def test_text_ends_in_one_newline() -> None:
    wrong = [
        name(path)
        for path in text_files()
        if not name(path).startswith(INPUTS)
        and (content := path.read_bytes())
        and (content[-1:] != b"\n" or content[-2:] == b"\n\n")
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "pattern",
    [
        # Spelled so that this file does not contain what it looks for.
        r"(?<![\w.-])/wo[r]k/",
        r"/(tmp|home|root)/[a-z]+/co[r]esnap",
        r"\bis[s]ues show\b",
        r"sh[a]red/design|an[c]hors\.md|inj[e]ction\.md",
        r"\b(?i:chat[g]pt|cl[a]ude|cop[i]lot|a[n]thropic|ll[m])\b",
    ],
)
def test_nothing_tells_where_it_was_written(pattern: str) -> None:
    found = [
        f"{name(path)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == []


def test_links_in_documents_lead_somewhere() -> None:
    broken = []
    for path in files():
        if path.suffix != ".md":
            continue
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            if not re.match(r"[a-z]+:", link) and not (path.parent / link).exists():
                broken.append(f"{name(path)}: {link}")
    assert broken == []


def one(pattern: str, path: str) -> str:
    """Return what the pattern's group matches, which must be there once."""
    found = re.findall(pattern, (ROOT / path).read_text("utf-8"), re.MULTILINE)
    assert len(found) == 1, f"{path}: {pattern} matches {found}"
    return str(found[0])


def test_one_version_everywhere() -> None:
    cli = tomllib.loads((ROOT / "packages/cli/pyproject.toml").read_text("utf-8"))["project"]
    pinned = [d.replace(" ", "") for d in cli["dependencies"] if re.match(r"coresnap\b", d)]
    version = cli["version"]
    assert pinned == [f"coresnap=={version}"]
    assert version == one(
        rf'#define CORESNAP_VERSION "({VERSION})"', "packages/core/include/coresnap.h"
    )
    assert version == one(rf"^  version: '({VERSION})'", "packages/core/meson.build")


MAPS = {"coresnap": "src/libcoresnap.map", "coredumper": "coredumper/libcoredumper.map"}
"""Of the libraries' symbols."""


def test_packages_have_the_version_and_the_names_of_the_libraries() -> None:
    version = one(rf"^  version: '({VERSION})'", "packages/core/meson.build")
    assert one(rf"^coresnap \(({VERSION})-\d+\) ", "packaging/deb/changelog") == version
    assert one(rf"^Version: +({VERSION})$", "packaging/rpm/coresnap.spec") == version
    assert one(rf"- ({VERSION})-\d+$", "packaging/rpm/coresnap.spec") == version
    meson = (ROOT / "packages/core/meson.build").read_text("utf-8")
    control = (ROOT / "packaging/deb/control").read_text("utf-8")
    libraries = re.findall(
        rf"shared_library\(\n    '(\w+)'.*?\n    version: '({VERSION})',\n    soversion: '(\d+)'",
        meson,
        re.DOTALL,
    )
    assert {name for name, _, _ in libraries} == {"coresnap", "coredumper"}
    for name, full, major in libraries:
        assert full.startswith(f"{major}.")
        assert f"\nPackage: lib{name}{major}\n" in control
        symbols = (ROOT / f"packaging/deb/lib{name}{major}.symbols").read_text("utf-8")
        assert symbols.startswith(f"lib{name}.so.{major} lib{name}{major} ")
        listed = re.findall(r"^ (\w+)@", symbols, re.M)
        exported = (ROOT / f"packages/core/{MAPS[name]}").read_text("utf-8")
        assert sorted(listed) == sorted(re.findall(r"^\t(\w+);$", exported, re.M))
    (coredumper,) = (full for name, full, _ in libraries if name == "coredumper")
    assert one(rf"^COREDUMPER = ({VERSION})$", "packaging/deb/rules") == coredumper
    assert (
        one(rf"^    version: '({VERSION})',\n    libraries", "packages/core/meson.build")
        == coredumper
    )


@pytest.mark.parametrize("package", ["core", "cli"])
def test_each_package_has_the_licence(package: str) -> None:
    """An archive of one package has no other files than its own."""
    assert (ROOT / "packages" / package / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_each_dependency_has_its_reason() -> None:
    """Runtime dependencies of both packages, by name, in docs/decisions."""
    for package in ("core", "cli"):
        text = (ROOT / f"packages/{package}/pyproject.toml").read_text("utf-8")
        for dependency in tomllib.loads(text)["project"]["dependencies"]:
            needed = re.split(r"[^\w.-]", dependency)[0]
            if needed != "coresnap":
                assert (ROOT / f"docs/decisions/{needed}.md").exists(), needed


def test_exit_codes_agree() -> None:
    """The library, the command and the document have the same numbers."""
    documented = set(
        re.findall(r"^\| (\d+) \|", (ROOT / "docs/exit-codes.md").read_text(), re.MULTILINE)
    )
    header = (ROOT / "packages/core/include/coresnap.h").read_text("utf-8")
    codes = header.partition("enum coresnap_code {")[2].partition("};")[0]
    library = set(re.findall(r"CORESNAP_\w+ = (\d+),", codes))
    cli = (ROOT / "packages/cli/src/coresnap_cli/exit_codes.py").read_text("utf-8")
    of_library = set(re.findall(r"^    [A-Z_]+ = Code\.([A-Z_]+)$", cli, re.MULTILINE))
    names = set(re.findall(r"CORESNAP_(?:E_)?(\w+) = \d+,", codes))
    assert of_library == names
    assert library | {"143"} == documented - {"9", "10"}
    assert len(library) > 8
