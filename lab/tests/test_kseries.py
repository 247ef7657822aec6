# SPDX-License-Identifier: BSD-3-Clause
"""kseries: a series becomes commits and files again, and what is wrong with it is told.

The source is a small tree whose Makefile stands in for the kernel's.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.architectures import X86_64
from lab.cache import ROOT_VARIABLE
from lab.kernels import kconfig, own, source
from lab.kseries import checks
from lab.kseries.tree import BASE, SERIES, GitFailed, Tree

# An object is its source, without some lines if CONFIG_LIVEDUMP is n.
MAKEFILE = """\
MAKEFLAGS += --no-builtin-rules
allnoconfig:
\tcp $(KCONFIG_ALLCONFIG) $(O)/.config
vmlinux:
\t@if grep -n broken kernel/fork.c; then exit 1; fi
\t@grep odd kernel/fork.c && echo "fork.c:1: warning: odd" || true
prepare:
%.o: force
\t@test -z "$(W)" || sed -n "/meek/ {s,.*,$*.c:7:1: warning: meek,p}" $*.c
\tmkdir -p $(O)/$(dir $@)
\tgrep -q LIVEDUMP=y $(O)/.config && cp $*.c $(O)/$@ || grep -v only-when-on $*.c > $(O)/$@
.PHONY: force
"""
CHECKPATCH = """\
#!/usr/bin/perl
print "$ARGV[-1]:7: WARNING: odd\\n" if grep { /odd/ } do { local @ARGV = $ARGV[-1]; <> };
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """An imported tree with an empty series."""
    files = {"Makefile": MAKEFILE, "scripts/checkpatch.pl": CHECKPATCH, ".gitignore": "*.c\n"}
    files |= {name.replace(".o", ".c"): f"{name}\n" for name in checks.UNTOUCHED}
    root = tmp_path / "linux-source-6.1"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    packed = tmp_path / "linux-source-6.1.tar.xz"
    argv = ["tar", "--create", "--xz", "--file", str(packed), "-C", str(tmp_path), root.name]
    subprocess.run(argv, check=True)
    found = source.Source(line="6.1", version="6.1.0-1", tarball=packed)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(own, "_toolchain", lambda _: ("make",))
    monkeypatch.setattr(source, "find", lambda *_: found)
    option = kconfig.Option(name="CONFIG_LIVEDUMP", value="y", lacking=frozenset(), where="x:1")
    bugs = [
        kconfig.Option(name=name, value="y", lacking=frozenset(), where="x:2")
        for name in ("CONFIG_BUG", "CONFIG_DEBUG_BUGVERBOSE")
    ]
    wanted = {each.name: each for each in (option, *bugs)}
    monkeypatch.setattr(kconfig, "wanted", lambda *_: wanted)
    patches = tmp_path / "patches"
    patches.mkdir()
    made = Tree(line="6.1", path=checks.place("6.1"), patches=patches)
    made.import_source(found)
    return made


def commit(tree: Tree, title: str, **files: str) -> None:
    """A commit on the series; a file's name has two underscores for a slash."""
    for name, text in files.items():
        (tree.path / f"{name.replace('__', '/')}.c").write_text(text)
    tree.git("commit", "--quiet", "--all", "-m", title)


def test_the_source_is_one_commit_that_says_which(tree: Tree) -> None:
    assert tree.git("log", "--format=%s", BASE) == "linux-source-6.1 6.1.0-1\n"
    # Also what the kernel's own .gitignore would leave out.
    assert "kernel/fork.c" in tree.git("ls-files").split()


def test_commits_become_files_and_files_the_same_commits(tree: Tree) -> None:
    tree.apply()
    commit(tree, "fork: One", kernel__fork="one\n")
    commit(tree, "pid: Two", kernel__pid="two\n")
    names = [file.name for file in tree.refresh()]
    assert names == ["0001-fork-One.patch", "0002-pid-Two.patch"]
    written = [(tree.patches / name).read_text() for name in names]
    assert tree.apply() == ["fork: One", "pid: Two"]
    assert (tree.path / "kernel" / "pid.c").read_text() == "two\n"
    tree.refresh()
    assert [(tree.patches / name).read_text() for name in names] == written


def test_a_commit_that_is_gone_takes_its_file_along(tree: Tree) -> None:
    tree.apply()
    commit(tree, "fork: One", kernel__fork="one\n")
    commit(tree, "pid: Two", kernel__pid="two\n")
    tree.refresh()
    tree.git("reset", "--quiet", "--hard", "HEAD^")
    assert [file.name for file in tree.refresh()] == ["0001-fork-One.patch"]
    assert len(list(tree.patches.iterdir())) == 1


def test_without_commits_no_file_is_removed(tree: Tree) -> None:
    tree.apply()
    (tree.patches / "0001-precious.patch").write_text("")
    with pytest.raises(GitFailed, match="nothing was written"):
        tree.refresh()
    assert (tree.patches / "0001-precious.patch").exists()


def test_a_patch_that_does_not_apply_is_named(tree: Tree) -> None:
    tree.apply()
    commit(tree, "fork: One", kernel__fork="one\n")
    (patch,) = tree.refresh()
    sound = patch.read_text()
    patch.write_text(sound.replace("-kernel/fork.o", "-another kernel's"))
    with pytest.raises(GitFailed, match="fork: One"):
        tree.apply()
    patch.write_text(sound)
    assert tree.apply() == ["fork: One"]


def test_a_sound_series_has_no_complaints(tree: Tree) -> None:
    tree.apply()
    commit(tree, "fork: One", kernel__fork="kernel/fork.o\nonly-when-on\n")
    tree.refresh()
    assert list(checks.style(tree)) == []
    assert list(checks.builds(tree, X86_64)) == []
    assert list(checks.new_warnings(tree, X86_64)) == []
    assert list(checks.changed_when_off(tree, X86_64)) == []
    assert tree.git("branch", "--show-current").strip() == SERIES


def test_what_checkpatch_says_is_told(tree: Tree) -> None:
    tree.apply()
    commit(tree, "fork: One", kernel__fork="odd\n")
    tree.refresh()
    assert list(checks.style(tree)) == ["0001-fork-One.patch:7: WARNING: odd"]


def test_each_patch_must_build(tree: Tree) -> None:
    tree.apply()
    commit(tree, "fork: One", kernel__fork="broken\n")
    commit(tree, "fork: Two", kernel__fork="mended\n")
    (said,) = checks.builds(tree, X86_64)
    assert said.startswith("x86-64: fork: One: ")


def test_a_warning_is_a_complaint(tree: Tree) -> None:
    tree.apply()
    commit(tree, "fork: One", kernel__fork="odd\n")
    (said,) = checks.builds(tree, X86_64)
    assert said == "x86-64: fork: One: fork.c:1: warning: odd"


def test_only_new_warnings_of_the_strict_are_told(tree: Tree) -> None:
    tree.git("checkout", "--quiet", BASE)
    commit(tree, "more source", kernel__pid="meek\n")
    tree.apply()
    commit(tree, "pid, fork: One", kernel__pid="more\nmeek\n", kernel__fork="meek\n")
    (said,) = checks.new_warnings(tree, X86_64)
    assert said == "x86-64: kernel/fork.c: warning: meek"
    assert tree.git("branch", "--show-current").strip() == SERIES


def test_lines_that_move_are_no_change(tree: Tree) -> None:
    tree.git("checkout", "--quiet", BASE)
    commit(tree, "more source", kernel__pid="__initcall__kmod_pid__7_1234_pid_init6\n")
    tree.apply()
    commit(tree, "pid: One", kernel__pid="__initcall__kmod_pid__7_1235_pid_init6\n")
    assert list(checks.changed_when_off(tree, X86_64)) == []


def test_what_is_not_off_is_named(tree: Tree) -> None:
    tree.apply()
    commit(tree, "pid: One", kernel__pid="always\n")
    (said,) = checks.changed_when_off(tree, X86_64)
    assert said == "x86-64: kernel/pid.o is another one although CONFIG_LIVEDUMP is n"
