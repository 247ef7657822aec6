# SPDX-License-Identifier: BSD-3-Clause
"""The manual pages: clean, and in agreement with the programs, the headers and the documents.

What is installed where is tested with the library (packages/core/tests/test_library.py) and with
the Python packages (test_install.py).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from coresnap_cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "packages/core"
TOOL, COMMAND = CORE / "man/coresnap-dump.1", ROOT / "packages/cli/man/coresnap.1"
LIBRARY = CORE / "man/libcoresnap.3"
PAGES = sorted(ROOT.glob("packages/*/man/*.[1-8]"))
DEADLINE = 60  # seconds for a program that reads one page
# For the Ft, Fn, Fo and Fa of a synopsis.
QUOTED = re.compile(r'"([^"]*)"|(\S+)')
# What mandoc -W all says against our ways.
OURS = re.compile(
    "operating system explicitly specified"  # the footer has the project, not the system
    "|possible typo in section name: Sh RETURN VALUE"  # its name on Linux, see man-pages(7)
    "|referenced manual not found"  # they need not be installed; ours are tested below
    "|outdated mandoc.db"
)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def need(program: str, package: str) -> str:
    """The path of a program; skips without."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed: it is in the Debian package {package}")
    return found


def section(page: Path, title: str, *, macro: str = "Sh") -> str:
    """The source of a section (Sh) or subsection (Ss), which must be there once."""
    parts = re.split(rf"^\.{macro} {re.escape(title)}\n", page.read_text("utf-8"), flags=re.M)
    assert len(parts) == 2, f"{page.name} has {len(parts) - 1} sections {title}"
    ends = r"^\.Sh " if macro == "Sh" else r"^\.S[hs] "
    return re.split(ends, parts[1], maxsplit=1, flags=re.M)[0]


def names(page: Path) -> list[str]:
    """What the page is about, by its section NAME."""
    return re.findall(r"^\.Nm (\S+)", section(page, "NAME"), re.M)


def items(source: str) -> list[tuple[str, str]]:
    """The heads of the lists' items, and the lines up to the next macro that ends a paragraph."""
    found = re.findall(r"^\.It (.*)\n((?:(?!\.(?:It|El|Bl|Pp)\b).*\n)*)", source, re.M)
    return [(head, " ".join(text.split())) for head, text in found]


# -- each page -----------------------------------------------------------------------------------


def test_there_are_pages() -> None:
    assert {TOOL, COMMAND, LIBRARY} < set(PAGES)


@every_page
def test_mandoc_finds_nothing(page: Path) -> None:
    mandoc = need("mandoc", "mandoc")
    done = subprocess.run(
        [mandoc, "-T", "lint", "-W", "all", page], capture_output=True, text=True, timeout=DEADLINE
    )
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if not OURS.search(line)] == []


@every_page
def test_groff_finds_nothing(page: Path) -> None:
    """It formats for man(1) on most Linux systems."""
    groff = need("groff", "groff-base")
    done = subprocess.run(
        [groff, "-mdoc", "-ww", "-z", "-T", "utf8", page],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@every_page
def test_head_and_sections(page: Path) -> None:
    number = page.suffix[1:]
    assert f".Dt {page.stem.upper()} {number}\n" in page.read_text("utf-8")
    assert names(page)[0] == page.stem
    expected = ["SYNOPSIS", "DESCRIPTION", "EXAMPLES", "NOTES", "SEE ALSO"]
    expected += ["EXIT STATUS"] if number in "18" else ["LIBRARY", "RETURN VALUE", "ERRORS"]
    assert [title for title in expected if not section(page, title).strip()] == []


def test_pages_that_are_named_are_there() -> None:
    ours = {(name, page.suffix[1:]) for page in PAGES for name in names(page)}
    of_us = re.compile("coresnap|CoreDump")
    missing = [
        f"{page.name}: {name}({number})"
        for page in PAGES
        for name, number in re.findall(r"^\.Xr (\S+) (\d)", page.read_text("utf-8"), re.M)
        if of_us.search(name) and (name, number) not in ours
    ]
    assert missing == []


# -- options -------------------------------------------------------------------------------------


def options(source: str) -> dict[str, bool]:
    """The options that lists describe, and whether each takes a value."""
    found = {}
    for head, _ in items(source):
        for option in re.split(r" , (?=Fl)", head):
            words = option.split()
            if words[0] == "Fl":
                found[f"-{words[1]}"] = len(words) > 2
    return found


def test_the_tool_has_the_options_of_its_page() -> None:
    source = (CORE / "tools/coresnap-dump.c").read_text("utf-8")
    table = re.findall(r'^\t\{ "([\w-]+)", (required|no)_argument, NULL, (\S+) \},$', source, re.M)
    known = {f"--{name}": takes == "required" for name, takes, _ in table}
    known |= {f"-{short[1]}": takes == "required" for _, takes, short in table if short[0] == "'"}
    assert len(table) > 10
    assert options(section(TOOL, "DESCRIPTION")) == known
    help_text = source.partition("static const char help[]")[2].partition(";\n")[0]
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", help_text)) == {
        name for name in known if name.startswith("--")
    }


def known_options(command: click.Command) -> dict[str, bool]:
    """Those that a command of click takes, but --help."""
    return {
        name: not parameter.is_flag
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }


def test_the_page_has_every_command() -> None:
    described = re.findall(r"^\.Ss (.*)$", section(COMMAND, "DESCRIPTION"), re.M)
    assert described == ["Options of every command", "JSON", *cli.commands]
    synopsis = section(COMMAND, "SYNOPSIS")
    assert set(re.findall(r"\b[a-z]+\b", " ".join(re.findall(r"^\.Cm (.*)$", synopsis, re.M)))) == {
        *cli.commands
    }


@pytest.mark.parametrize("name", cli.commands)
def test_each_command_has_the_options_of_its_section(name: str) -> None:
    text = section(COMMAND, name, macro="Ss")
    command = cli.commands[name]
    assert options(text) == known_options(command)
    assert "--json" in options(text)
    choices = {
        str(choice)
        for parameter in command.params
        if isinstance(parameter.type, click.Choice)
        for choice in parameter.type.choices
    }
    assert choices - set(re.findall(r"\bCm ([\w-]+)", text)) == set()


def test_options_of_every_command() -> None:
    text = section(COMMAND, "Options of every command", macro="Ss")
    known = known_options(cli) | {"-h": False, "--help": False}
    assert options(text) == known
    for command in cli.commands.values():
        context = click.Context(command, parent=click.Context(cli, **cli.context_settings))
        assert set(command.get_help_option_names(context)) == {"-h", "--help"}


# -- exit codes ----------------------------------------------------------------------------------


def documented() -> dict[str, str]:
    """The codes that something ends with, and their meaning, of docs/exit-codes.md."""
    text = (ROOT / "docs/exit-codes.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", text, re.M)
    return {code: meaning for code, meaning in rows if not meaning.startswith("kept for")}


def test_exit_codes_of_the_command() -> None:
    assert dict(items(section(COMMAND, "EXIT STATUS"))) == documented()


def test_exit_codes_of_the_tool() -> None:
    """What concerns other programs, at the end of a meaning, is left out."""
    found = dict(items(section(TOOL, "EXIT STATUS")))
    whole = documented()
    assert found.keys() == whole.keys()
    differing = [
        code
        for code, text in found.items()
        if not re.match(rf"{re.escape(text)}($|[;,])", whole[code])
    ]
    assert differing == []


def test_codes_of_the_library() -> None:
    heads = [head for head, _ in items(section(LIBRARY, "ERRORS"))]
    found = re.findall(r"^Dv (CORESNAP_E_\w+) Pq (\d+)$", "\n".join(heads), re.M)
    header = (CORE / "include/coresnap.h").read_text("utf-8")
    assert found == re.findall(r"^\t(CORESNAP_E_\w+) = (\d+),", header, re.M)


# -- the library ---------------------------------------------------------------------------------


def header(name: str) -> str:
    """A public header without its comments."""
    text = (CORE / "include" / name).read_text("utf-8")
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def test_every_function_is_a_name_of_a_page() -> None:
    named = {name for page in PAGES for name in names(page)}
    functions = set(re.findall(r"\b(coresnap_\w+)\(", header("coresnap.h")))
    assert len(functions) > 5
    assert functions == set(names(LIBRARY)) - {"libcoresnap"}
    drop_in = (CORE / "coredumper/libcoredumper.map").read_text("utf-8")
    exported = re.findall(r"^\t(\w+CoreDump\w*);$", drop_in, re.M)
    assert len(exported) > 10
    assert {name.removesuffix("Internal") for name in exported} - named == set()


def test_every_constant_is_described() -> None:
    constants = set(re.findall(r"^\t(CORESNAP_\w+) = ", header("coresnap.h"), re.M))
    mentioned = set(re.findall(r"\bCORESNAP_\w+", LIBRARY.read_text("utf-8")))
    assert mentioned == constants - {"CORESNAP_SKIP_REASONS"}


@pytest.mark.parametrize(
    ("struct", "part"),
    [
        ("coresnap_options", section(LIBRARY, "Options", macro="Ss")),
        ("coresnap_result", section(LIBRARY, "Result", macro="Ss")),
        ("coresnap_error", section(LIBRARY, "ERRORS")),
    ],
    ids=lambda value: value if value.isidentifier() else "",
)
def test_every_member_is_described(struct: str, part: str) -> None:
    """With its type, but for the length of an array."""
    body = header("coresnap.h").partition(f"\nstruct {struct} {{\n")[2].partition("\n}")[0]
    declared = re.findall(r"^\t([^\t;]+);", re.sub(r"\[\w+\]", "[]", body), re.M)
    assert len(declared) > 5
    heads = [head for head, _ in items(part) if head.startswith("Va ")]
    assert set(re.findall(r'"([^"]+)"', " ".join(heads))) == set(declared) - {"size_t size"}


def prototypes(page: Path) -> list[str]:
    """The functions of a synopsis in C; the names in parentheses, lest macros replace them."""
    lines = section(page, "SYNOPSIS").splitlines()
    found, kind, name = [], "", ""
    arguments: list[str] = []
    for line in lines:
        macro, _, rest = line.partition(" ")
        words = [quoted or plain for quoted, plain in QUOTED.findall(rest)]
        if macro in (".Fn", ".Fo"):
            name, arguments = words[0], words[1:]
        elif macro == ".Fa":
            arguments += words
        if macro in (".Fn", ".Fc") and kind:  # a macro has no type
            found.append(f"{kind} ({name})({', '.join(arguments)});")
        if macro != ".Fo" and macro != ".Fa":
            kind = rest if macro == ".Ft" else ""
    return found


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.suffix == ".3"], ids=lambda page: page.name
)
def test_the_synopsis_is_what_the_header_declares(page: Path) -> None:
    (included,) = re.findall(r"^\.In (\S+)$", section(page, "SYNOPSIS"), re.M)
    declared = prototypes(page)
    assert len(declared) == section(page, "SYNOPSIS").count(".Ft ") > 2
    done = subprocess.run(
        [
            *(need("gcc", "gcc"), "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"),
            *("-x", "c", f"-I{CORE / 'include'}", "-"),
        ],
        input="\n".join([f"#include <{included}>", *declared, ""]),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- packages ------------------------------------------------------------------------------------


def test_the_source_distribution_has_what_the_wheel_shares() -> None:
    """Wheels are also built from it."""
    text = (ROOT / "packages/cli/pyproject.toml").read_text("utf-8")
    targets = tomllib.loads(text)["tool"]["hatch"]["build"]["targets"]
    shared = targets["wheel"]["shared-data"]
    assert shared == {"man/coresnap.1": "share/man/man1/coresnap.1"}
    assert {Path(source).parts[0] for source in shared} <= set(targets["sdist"]["include"])
