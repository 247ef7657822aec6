# SPDX-License-Identifier: BSD-3-Clause
"""The library as a C program meets it: symbols, header, installation, structs, threads."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import living
import pytest
from living import WIDTHS, Subject
from toolchain import CORE, Width

from coresnap.corefile import Core
from lab.patience import DEADLINE

pytestmark = pytest.mark.host

HEADER = living.INCLUDE / "coresnap.h"
MAN = CORE / "man"
USAGE = 2


@pytest.fixture
def subject() -> Iterator[Subject]:
    with Subject(living.program("world")) as started:
        started.tell("threads", 3)
        yield started


@pytest.fixture(scope="session")
def calls() -> Path:
    """The program that uses the shared library."""
    return living.program("library_calls")


def run(program: Path, *arguments: object) -> list[list[str]]:
    """The lines of what it prints, as words; none may begin with "trouble"."""
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "trouble" not in done.stdout
    return [line.split() for line in done.stdout.splitlines()]


# -- what is exported ----------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_the_version_map_is_all_that_is_exported(width: Width) -> None:
    library = living.build(width=width) / "libcoresnap.so"
    text = (CORE / "src/libcoresnap.map").read_text()
    declared = set(re.findall(r"^\t(coresnap_\w+);$", text, re.MULTILINE))
    nodes = set(re.findall(r"^(CORESNAP_\S+) \{$", text, re.MULTILINE))
    listing = subprocess.run(
        [living.need("nm"), "--dynamic", "--defined-only", library],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    )
    exported = {line.split()[2].partition("@")[0] for line in listing.stdout.splitlines()}
    assert exported == declared | nodes
    functions = set(re.findall(r"\b(coresnap_\w+)\(", strip_comments(HEADER.read_text())))
    assert functions == declared


@pytest.mark.parametrize("width", WIDTHS)
def test_the_static_library_has_no_other_global_names(width: Width) -> None:
    library = living.build(width=width) / "libcoresnap.a"
    listing = subprocess.run(
        [living.need("nm"), "--extern-only", "--defined-only", library],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    )
    names = [line.split()[2] for line in listing.stdout.splitlines() if len(line.split()) == 3]
    assert names
    # The compiler's own, which all objects of a program share.
    ours = [name for name in names if not name.startswith("__x86.get_pc_thunk.")]
    assert [name for name in ours if not name.startswith("coresnap_")] == []


def strip_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def test_nothing_is_bound_lazily_and_no_stack_is_executable() -> None:
    library = living.build() / "libcoresnap.so"
    shown = subprocess.run(
        [living.need("readelf"), "-dlW", library],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    ).stdout
    assert re.search(r"\(FLAGS(_1)?\).*NOW", shown)
    assert "TEXTREL" not in shown
    (stack,) = re.findall(r"GNU_STACK.*", shown)
    assert "E" not in stack.split()[-2]


@pytest.mark.parametrize(
    ("compiler", "standard", "language"),
    [
        ("g++", "c++11", "c++"),
        ("g++", "c++20", "c++"),
        ("gcc", "c99", "c"),
        ("clang", "c11", "c"),
    ],
)
def test_the_header_is_clean_alone(compiler: str, standard: str, language: str) -> None:
    done = subprocess.run(
        [
            *(living.need(compiler), f"-std={standard}", "-pedantic", "-Wall", "-Wextra"),
            *("-Werror", "-fsyntax-only", "-x", language, f"-I{living.INCLUDE}", "-"),
        ],
        input="#include <coresnap.h>\nint main(void) { return coresnap_version() == 0; }\n",
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- the installed library -----------------------------------------------------------------------


def meson_of(build: Path) -> str:
    """The meson that made a build directory, or one in PATH."""
    text = (build / "build.ninja").read_text()
    found = re.search(r"COMMAND = (.*/meson) install", text)
    if found and os.access(found[1], os.X_OK):
        return found[1]
    return living.need("meson")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of it is installed, without the prefix."""
    living.need("gcc")  # where it cannot be built there is nothing to install
    build, root = living.build(), tmp_path_factory.mktemp("installed")
    subprocess.run(
        [meson_of(build), "install", "-C", build, "--no-rebuild", "--destdir", root],
        check=True,
        capture_output=True,
        timeout=DEADLINE,
    )
    return root


def compiled(source: str, to: Path, installed: Path, *, static: bool = False) -> list[str | Path]:
    """A program of a user of the installed library, and how it is run."""
    (config,) = installed.rglob("libcoresnap.pc")
    flags = subprocess.run(
        [living.need("pkg-config"), "--cflags", "--libs", *["--static"] * static, "libcoresnap"],
        env=os.environ
        | {"PKG_CONFIG_LIBDIR": str(config.parent), "PKG_CONFIG_SYSROOT_DIR": str(installed)},
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    ).stdout.split()
    file = to / "program.c"
    file.write_text(source)
    subprocess.run(
        [
            *(living.need("gcc"), "-Wall", "-Wextra", "-Werror", file, "-o", to / "program"),
            *["-static"] * static,
            *flags,
        ],
        check=True,
        timeout=DEADLINE,
    )
    return ["env", f"LD_LIBRARY_PATH={config.parent.parent}", to / "program"]


@pytest.mark.parametrize("static", [False, True], ids=["shared", "static"])
def test_an_installed_library_is_found_by_pkg_config(
    installed: Path, tmp_path: Path, static: bool
) -> None:
    source = (
        "#include <coresnap.h>\n#include <stdio.h>\n"
        "int main(void) { return puts(coresnap_version()) < 0; }\n"
    )
    program = compiled(source, tmp_path, installed, static=static)
    shown = subprocess.run(program, capture_output=True, text=True, check=True, timeout=DEADLINE)
    assert shown.stdout == "0.1.0\n"
    assert shutil.which("coresnap-dump", path=next(installed.rglob("bin")))


def test_each_name_of_a_manual_page_leads_to_it(installed: Path) -> None:
    mandoc = living.need("mandoc")
    (manual,) = installed.rglob("share/man")
    pages = [path for path in manual.rglob("*.[1-8]") if not path.is_symlink()]
    assert {path.name for path in pages} == {path.name for path in MAN.glob("*.[1-8]")}

    def shown(path: Path) -> bytes:
        argv: list[str | Path] = [mandoc, "-T", "utf8", path]
        return subprocess.run(argv, check=True, capture_output=True, timeout=DEADLINE).stdout

    expected = set()
    for page in pages:
        head = page.read_text().partition("\n.Sh NAME\n")[2].partition("\n.Nd ")[0]
        for name in set(re.findall(r"^\.Nm (\S+)", head, re.M)) - {page.stem}:
            link = page.with_name(name + page.suffix)
            assert link.readlink() == Path(page.name)  # also where the tree is moved to
            assert shown(link) == shown(page)
            expected.add(link)
    assert {path for path in manual.rglob("*") if path.is_symlink()} == expected
    assert len(expected) > 20


# -- the programs of the documents ---------------------------------------------------------------


def programs(document: Path, pattern: str) -> list[str]:
    """The whole programs in it; a backslash of a manual page is spelled \\e."""
    found = re.findall(pattern, document.read_text(), re.M | re.S)
    return [source.replace(r"\e", "\\") for source in found]


def of_the_page(number: int) -> str:
    """A program in libcoresnap(3)."""
    return programs(MAN / "libcoresnap.3", r"^\.Bd -literal\n(#include .*?)^\.Ed$")[number]


def test_the_program_of_the_manual_dumps_a_process(
    installed: Path, tmp_path: Path, subject: Subject
) -> None:
    program = compiled(of_the_page(0), tmp_path, installed)
    core = tmp_path / "app.core"
    done = subprocess.run(
        [*program, str(subject.pid), core], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"4 threads stopped for \d+\.\d ms by (fork|stop)\n", done.stdout)
    with Core(core) as opened:
        assert opened.process.pid == subject.pid
    again = subprocess.run(
        [*program, str(subject.pid), core], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (again.returncode, again.stdout) == (1, "")
    assert "the file exists" in again.stderr


def test_the_program_of_the_manual_hands_out_a_core_of_itself(
    installed: Path, tmp_path: Path
) -> None:
    program = compiled(of_the_page(1), tmp_path, installed)
    core = tmp_path / "self.core.zst"
    with core.open("wb") as file:
        subprocess.run(program, stdout=file, check=True, timeout=DEADLINE)
    with Core(core) as opened:
        assert opened.compressed
        assert opened.process.fname == b"program"


def test_the_program_of_the_native_api_dumps_itself(installed: Path, tmp_path: Path) -> None:
    (source,) = programs(CORE.parents[1] / "docs/native-api.md", r"^```c\n(#include .*?)^```$")
    program = compiled(source, tmp_path, installed)
    subprocess.run(program, cwd=tmp_path, check=True, timeout=DEADLINE)
    with Core(tmp_path / "self.core") as opened:
        assert opened.process.fname == b"program"


# -- structs of other versions -------------------------------------------------------------------


def test_structs_of_other_versions_and_unknown_values(calls: Path, subject: Subject) -> None:
    lines = run(calls, "structs", subject.pid)
    said = {words[0]: [int(word) for word in words[1:]] for words in lines[:-1]}
    assert said["shorter"] == said["longer"] == [0]
    assert said["too_short"] == said["longer_with_a_wish"] == [USAGE]
    assert [said[f"method_{n}"] for n in (-1, 5, 99)] == [[USAGE]] * 3
    assert [said[f"flag_{bit}"] for bit in (7, 15, 23, 31)] == [[USAGE]] * 4
    assert [said[f"gentle_{n}"] for n in range(7)] == [[USAGE]] * 6 + [[0]]
    assert said["output"] == said["no_path"] == said["no_fd"] == [USAGE]
    # Code, size left alone, bytes touched behind the caller's struct.
    assert [said[f"result_{n}"] for n in range(4)] == [[0, 1, 0]] * 4
    assert said["nothing_asked_back"] == [0]


# -- beside the program's own threads ------------------------------------------------------------


def test_a_waiting_program_never_sees_the_stops_of_50_dumps_of_its_child(calls: Path) -> None:
    lines = run(calls, "waiter")
    (child,) = (words[1] for words in lines if words[0] == "child")
    assert ["child", child, "sigchld", "0"] in lines
    assert [words for words in lines if words[0] == "waited"] == [["waited", child, "0x9"]]
    assert ["no_more_children", "1"] in lines


def test_two_threads_dump_two_processes_at_the_same_time(calls: Path, subject: Subject) -> None:
    with Subject(living.program("world")) as other:
        before = [living.footprint(pid) for pid in (subject.pid, other.pid)]
        run(calls, "together", subject.pid, other.pid)
        living.until_undisturbed(subject, before[0])
        living.until_undisturbed(other, before[1])
