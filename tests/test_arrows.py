# SPDX-License-Identifier: BSD-3-Clause
"""The arrows between the rooms: docs/architecture.md says what may depend on what, the code obeys.

The document is the table: the two tables under "What may depend on what" are read from it, so that
a change of the design is a change of the document.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECTION = "What may depend on what"


@dataclass(frozen=True)
class Room:
    """One row: the modules in a room, the rooms it may use, and what else it may not or may only
    use (system headers that are forbidden in C, outside packages that are allowed in Python)."""

    name: str
    modules: tuple[str, ...]
    uses: frozenset[str]
    outside: frozenset[str]


def words(cell: str) -> tuple[str, ...]:
    """Return the `quoted` words of a table cell, or its plain names of rooms."""
    quoted = re.findall(r"`([^`]+)`", cell)
    return tuple(quoted or re.findall(r"[a-z][\w-]*", cell))


def read_rooms(document: str, language: str) -> list[Room]:
    """Parse the table that follows the line `**language**` in the section of arrows."""
    section = document.partition(f"## {SECTION}\n")[2].partition("\n## ")[0]
    table = section.partition(f"**{language}**\n")[2].partition("\n**")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    return [
        Room(room, words(modules), frozenset(words(uses)), frozenset(words(outside)))
        for room, modules, uses, outside in rows[2:]
    ]


def room_of(module: str, rooms: Iterable[Room]) -> Room | None:
    """Return the room that lists the module; `name*` stands for every name that begins so."""
    for room in rooms:
        for pattern in room.modules:
            stem = pattern.removesuffix("*")
            if module == pattern or (stem != pattern and module.startswith(stem)):
                return room
    return None


def check(module: str, where: str, imports: Iterable[str], rooms: list[Room]) -> Iterator[str]:
    """Yield what is wrong with the imports of project modules by one module."""
    room = room_of(module, rooms)
    if room is None:
        yield f"{where}: {module} is in no room: give it one in docs/architecture.md"
        return
    for imported in imports:
        other = room_of(imported, rooms)
        if other is None:
            yield f"{where}: imports {imported}, which is in no room"
        elif other != room and other.name not in room.uses:
            yield f"{where}: {module} ({room.name}) may not use {imported} ({other.name})"


# C

C_FOLDERS = ("src", "include", "coredumper", "tools")


def c_module(path: str, public: frozenset[str]) -> str:
    """Return the module of a header or source: its name without directory and suffix, except that
    what lies in arch/ is arch/NAME and a public header keeps its .h (coresnap.h is not the module
    coresnap.c)."""
    parts = path.removeprefix("include/").split("/")
    stem = parts[-1].rpartition(".")[0]
    if "/".join(parts) in public:
        return "/".join(parts)
    return f"arch/{stem}" if "arch" in parts[:-1] else stem


def c_violations(core: Path, rooms: list[Room]) -> list[str]:
    """Check every C file of the library, of libcoredumper and of the programs."""
    found: list[str] = []
    public = frozenset(str(p.relative_to(core / "include")) for p in core.glob("include/**/*.h"))
    for path in sorted(core.rglob("*.[chS]")):
        inside = path.relative_to(core)
        if inside.parts[0] not in C_FOLDERS:
            continue
        text = path.read_text(encoding="utf-8")
        module = c_module(str(inside), public)
        near = re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.MULTILINE)
        # Beside each other in arch/, files name each other without the directory.
        near = [
            f"arch/{n}" if module.startswith("arch/") and (path.parent / n).exists() else n
            for n in near
        ]
        found += check(module, str(inside), [c_module(n, public) for n in near], rooms)
        room = room_of(module, rooms)
        for header in re.findall(r"^\s*#\s*include\s+<([^>]+)>", text, re.MULTILINE):
            if room and any(header == f or fnmatch_dir(header, f) for f in room.outside):
                found.append(f"{inside}: {module} ({room.name}) may not include <{header}>")
    return found


def fnmatch_dir(header: str, pattern: str) -> bool:
    """Does `sys/*` cover the header?"""
    return pattern.endswith("*") and header.startswith(pattern.removesuffix("*"))


# Python


def python_module(path: Path, base: Path) -> str:
    """Return the dotted name of a file below the directory that is on sys.path."""
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_imports(path: Path, module: str) -> Iterator[str]:
    """Yield the dotted name of everything that a file imports, relative names resolved."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                parent = package.split(".")
                parent = parent[: len(parent) - node.level + 1]
                start = ".".join([*parent, *filter(None, [node.module])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def resolve(name: str, known: frozenset[str]) -> str | None:
    """Return the project module that `import name` reaches: the longest known prefix."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def python_violations(root: Path, bases: dict[str, str], rooms: list[Room]) -> list[str]:
    """Check every Python file; bases maps a directory on sys.path to what of it is looked at."""
    files: dict[str, Path] = {}
    for base, inside in bases.items():
        for path in sorted((root / base / inside).rglob("*.py*")):
            if path.suffix not in (".py", ".pyi"):
                continue
            if not {"build", ".venv", ".tox"} & set(path.relative_to(root).parts):
                files[python_module(path, root / base)] = path
    known = frozenset(files)
    found: list[str] = []
    for module, path in files.items():
        where = str(path.relative_to(root))
        room = room_of(module, rooms)
        near: list[str] = []
        for name in python_imports(path, module):
            top = name.partition(".")[0]
            target = resolve(name, known)
            if target is not None:
                near.append(target)
            elif room and room_of(top, rooms) is None and room_of(name, rooms) is None:
                if top not in stdlib() and top not in room.outside:
                    found.append(f"{where}: {module} ({room.name}) may not import {top}")
            else:
                near.append(name)
        found += check(module, where, near, rooms)
    return found


def stdlib() -> frozenset[str]:
    """Return the names of the standard library's modules."""
    import sys

    return frozenset(sys.stdlib_module_names)


BASES = {
    "packages/core/python": "coresnap",
    "packages/cli/src": "coresnap_cli",
    ".": "lab",
}


@pytest.fixture(scope="module")
def document() -> str:
    return (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_c_includes_follow_the_arrows(document: str) -> None:
    rooms = read_rooms(document, "C")
    assert len(rooms) > 5
    assert c_violations(ROOT / "packages/core", rooms) == []


def test_python_imports_follow_the_arrows(document: str) -> None:
    rooms = read_rooms(document, "Python")
    assert len(rooms) > 3
    assert python_violations(ROOT, BASES, rooms) == []


def test_every_room_that_is_used_exists(document: str) -> None:
    for language in ("C", "Python"):
        rooms = read_rooms(document, language)
        names = {room.name for room in rooms}
        assert [(r.name, r.uses - names) for r in rooms if r.uses - names] == []


def idle_entries(rooms: Iterable[Room], modules: frozenset[str]) -> list[str]:
    """Return the entries of the table that stand for no module."""
    return [
        f"{pattern} ({room.name})"
        for room in rooms
        for pattern in room.modules
        if not any(room_of(m, [replace(room, modules=(pattern,))]) for m in modules)
    ]


def test_every_entry_stands_for_a_module(document: str) -> None:
    core = ROOT / "packages/core"
    public = frozenset(str(p.relative_to(core / "include")) for p in core.glob("include/**/*.h"))
    c_modules = frozenset(
        c_module(str(p.relative_to(core)), public)
        for top in C_FOLDERS
        for p in (core / top).rglob("*.[chS]")
    )
    assert idle_entries(read_rooms(document, "C"), c_modules) == []
    modules = frozenset(
        python_module(p, ROOT / base)
        for base, inside in BASES.items()
        for p in (ROOT / base / inside).rglob("*.py*")
    )
    assert idle_entries(read_rooms(document, "Python"), modules) == []
    known = frozenset({"error", "note", "sink_fd", "arch/arm"})
    assert idle_entries(read_rooms(FAKE_DOCUMENT, "C"), known) == [
        "sys (base)",
        "plan (pure)",
        "target (live)",
    ]


def test_nothing_depends_on_ci() -> None:
    """The scripts of ci/ are for people and CI; no product or test file runs them.

    The lab's messages name ci/setup as the remedy for what is missing, and its commands run
    ci/cross for the people who type them.
    """
    found = [
        str(path.relative_to(ROOT))
        for top, scripts in {
            "packages": "setup|build|wheels|install|test",
            "lab": "build|wheels|install|test",
        }.items()
        for path in (ROOT / top).rglob("*")
        if path.suffix in (".c", ".h", ".py", ".build")
        and re.search(rf"[\"' /]ci/({scripts})\b", path.read_text("utf-8"))
    ]
    assert found == []


# A test that cannot fail shows nothing: small trees with one wrong arrow each.

FAKE_DOCUMENT = f"""
## {SECTION}

**C**

| room | modules | may use | not these system headers |
|---|---|---|---|
| base | `error` `sys` | | |
| pure | `note` `plan` | base | `fcntl.h` `sys/*` |
| live | `target` `sink_*` | base | |
| rows | `arch/*` | base | |

**Python**

| room | modules | may use | outside packages |
|---|---|---|---|
| binding | `coresnap._ffi` | | `cffi` |
| api | `coresnap` `coresnap.dump` | binding | |
| reader | `coresnap.corefile` | | `elftools` |
| cli | `coresnap_cli*` | api | `click` |

## The next section
"""


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("plan.c", '#include "note.h"\n#include "error.h"\n#include <stdint.h>\n', None),
        ("plan.c", '#include "target.h"\n', "plan (pure) may not use target (live)"),
        ("note.h", "#include <fcntl.h>\n", "note (pure) may not include <fcntl.h>"),
        ("note.h", "# include <sys/ptrace.h>\n", "may not include <sys/ptrace.h>"),
        ("sink_file.c", '#include "error.h"\n', None),
        ("arch/arm.c", '#include "arch.h"\n', None),
        ("arch/arm.c", '#include "plan.h"\n', "arch/arm (rows) may not use plan (pure)"),
        ("target.c", '#include "arch/arch.h"\n', "may not use arch/arch (rows)"),
        ("novel.c", "", "novel is in no room"),
        ("plan.c", '#include "novel.h"\n', "imports novel, which is in no room"),
    ],
)
def test_a_wrong_include_is_found(
    tmp_path: Path, name: str, text: str, complaint: str | None
) -> None:
    path = tmp_path / "src" / name
    path.parent.mkdir(parents=True)
    (path.parent / "arch.h").touch()
    path.write_text(text)
    found = c_violations(tmp_path, read_rooms(FAKE_DOCUMENT, "C"))
    found = [line for line in found if "src/arch.h:" not in line]
    assert (len(found) == 1 and complaint in found[0]) if complaint else found == []


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("cli/coresnap_cli/main.py", "import click, os\nimport coresnap.dump\n", None),
        ("cli/coresnap_cli/main.py", "import cffi\n", "(cli) may not import cffi"),
        ("cli/coresnap_cli/main.py", "from coresnap import _ffi\n", "use coresnap._ffi (binding)"),
        ("core/coresnap/corefile.py", "from elftools.elf import elffile\n", None),
        ("core/coresnap/corefile.py", "from . import _ffi\n", "use coresnap._ffi (binding)"),
        ("core/coresnap/corefile.py", "from .dump import f\n", "use coresnap.dump (api)"),
        ("core/coresnap/dump.py", "def f():\n    import elftools\n", "may not import elftools"),
        ("core/coresnap/novel.py", "", "coresnap.novel is in no room"),
    ],
)
def test_a_wrong_import_is_found(
    tmp_path: Path, name: str, text: str, complaint: str | None
) -> None:
    for there in ("core/coresnap/__init__", "core/coresnap/_ffi", "core/coresnap/dump"):
        path = tmp_path / f"{there}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    rooms = read_rooms(FAKE_DOCUMENT, "Python")
    found = python_violations(tmp_path, {"core": "coresnap", "cli": "coresnap_cli"}, rooms)
    assert (len(found) == 1 and complaint in found[0]) if complaint else found == []
