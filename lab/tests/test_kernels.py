# SPDX-License-Identifier: BSD-3-Clause
"""Our own kernels: fragments, the source with its series, and how builds go and fail.

No kernel is compiled here. The source is a small tree whose Makefile stands in for the kernel's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.architectures import ARCHITECTURES, ARM, X86_64
from lab.cache import ROOT_VARIABLE, Cache, CacheError
from lab.kernels import __main__ as program
from lab.kernels import kconfig, own, source
from lab.kernels.errors import KernelError

MAKEFILE = """\
# allnoconfig takes every option but what is listed here.
DROPPED = $(shell cat dropped)
allnoconfig:
\tgrep -v "^$(DROPPED)=" $(KCONFIG_ALLCONFIG) > $(O)/.config
\techo configured >> $(O)/steps
$(O)/vmlinux:
\tcp fs/coredump.c $(O)/vmlinux
\techo compiled >> $(O)/steps
vmlinux: $(O)/vmlinux
bzImage: $(O)/vmlinux
\techo waiting; if test -p gate; then cat gate; fi
\ttest ! -e broken || { echo "fs/coredump.c:1:1: error: broken"; exit 1; }
\tmkdir -p $(O)/arch/x86/boot $(O)/include/config
\tcp $(O)/vmlinux $(O)/arch/x86/boot/bzImage
\techo 6.1.0$(LOCALVERSION) > $(O)/include/config/kernel.release
\techo symbols > $(O)/System.map
"""
COREDUMP = "".join(f"line {number}\n" for number in range(1, 31))
PATCH = """\
--- a/fs/coredump.c
+++ b/fs/coredump.c
@@ -1,4 +1,4 @@
 line 1
-line 2
+patched
 line 3
 line 4
"""
SECOND_HUNK_OF_ANOTHER_TIME = """\
@@ -20,4 +20,4 @@
 line 20
-line of another version
+patched
 line 22
 line 23
"""


@pytest.fixture
def tarball(tmp_path: Path) -> Callable[..., source.Source]:
    """Makes sources of a tree that is quickly built; arguments are further files."""

    def make(version: str = "6.1.0-1", **files: str) -> source.Source:
        root = tmp_path / f"linux-source-{version}"
        (root / "fs").mkdir(parents=True)
        (root / "Makefile").write_text(MAKEFILE)
        (root / "fs" / "coredump.c").write_text(COREDUMP)
        (root / "dropped").write_text("CONFIG_NONE")
        for name, text in files.items():
            (root / name).write_text(text)
        packed = tmp_path / f"{root.name}.tar.xz"
        subprocess.run(
            ["tar", "--create", "--xz", "--file", packed, "-C", tmp_path, root.name], check=True
        )
        return source.Source(line="6.1", version=version, tarball=packed)

    return make


@pytest.fixture
def series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the series of 6.1, empty, beside those of no variant."""
    directory = tmp_path / "series" / "6.1"
    directory.mkdir(parents=True)
    monkeypatch.setattr(source, "SERIES", directory.parent)
    monkeypatch.setattr(source, "OF_VARIANTS", tmp_path / "variants")
    return directory


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, series: Path) -> Cache:
    """An empty cache, with no series, on a machine that has all tools."""
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(own, "missing_tools", lambda _: {})
    monkeypatch.setattr(own, "_toolchain", lambda _: ("make",))
    return Cache.default()


@pytest.fixture
def found(
    cache: Cache, tarball: Callable[..., source.Source], monkeypatch: pytest.MonkeyPatch
) -> source.Source:
    """The small source, as if it were installed."""
    small = tarball()
    monkeypatch.setattr(source, "find", lambda *_: small)
    return small


def steps(cache: Cache) -> list[str]:
    """What the stand-in Makefile did in the build directory that is left."""
    (left,) = own.work_area(cache).glob("linux-6.1*/build-*/steps")
    return left.read_text().split()


def entries(cache: Cache) -> list[Path]:
    """The entries of kernels and whatever else lies among them."""
    return [path for path in cache.root.glob(f"{own.KIND}/*") if path.name != ".locks"]


@pytest.mark.parametrize(
    "fragment", sorted(kconfig.FRAGMENTS.iterdir()), ids=lambda path: path.stem
)
def test_each_group_of_options_says_why(fragment: Path) -> None:
    assert kconfig.read(fragment)
    for group in fragment.read_text().split("\n\n"):
        assert group.startswith("# "), f"{fragment.name}: no reason above {group.splitlines()[0]}"


@pytest.mark.parametrize(
    "fragment", sorted(kconfig.FRAGMENTS.iterdir()), ids=lambda path: path.stem
)
def test_no_fragment_asks_twice(fragment: Path) -> None:
    names = [option.name for option in kconfig.read(fragment)]
    assert len(names) == len(set(names))


def test_every_fragment_is_part_of_a_kernel() -> None:
    used = {
        fragment
        for architecture in ARCHITECTURES
        for variant in ("", *kconfig.VARIANTS)
        for fragment in kconfig.fragments(architecture, variant)
    }
    assert used == set(kconfig.FRAGMENTS.iterdir())


@pytest.mark.parametrize("line", ["CONFIG_SMP", "SMP=y", "CONFIG_SMP=y  # not armhf"])
def test_a_line_that_is_no_option_is_named(tmp_path: Path, line: str) -> None:
    fragment = tmp_path / "x.config"
    fragment.write_text(f"# Why.\n{line}\n")
    with pytest.raises(kconfig.BadFragment, match=r"x\.config:2: "):
        kconfig.read(fragment)


def test_a_variant_overrides() -> None:
    assert kconfig.wanted(ARM)["CONFIG_ARM_LPAE"].value == "y"
    assert kconfig.wanted(ARM, "no-lpae")["CONFIG_ARM_LPAE"].value == "n"
    assert kconfig.wanted(ARM, "no-core")["CONFIG_COREDUMP"].value == "n"
    assert kconfig.wanted(X86_64, "debug")["CONFIG_KASAN"].value == "y"
    assert "CONFIG_KASAN" not in kconfig.wanted(ARM, "debug")


def option(name: str, value: str = "y", *lacking: str) -> kconfig.Option:
    return kconfig.Option(name=name, value=value, lacking=frozenset(lacking), where="x.config:7")


@pytest.mark.parametrize(
    ("asked", "config", "said"),
    [
        (option("CONFIG_A"), "CONFIG_A=y\n", None),
        (option("CONFIG_A"), "# CONFIG_A is not set\n", "CONFIG_A=y became n"),
        (option("CONFIG_A"), "CONFIG_AB=y\n", "CONFIG_A=y became n"),
        (option("CONFIG_A", "n"), "# CONFIG_A is not set\n", None),
        (option("CONFIG_A", "n"), "CONFIG_A=y\n", "CONFIG_A=n became y"),
        (option("CONFIG_A", "y", "arm"), "", None),
        (option("CONFIG_A", "y", "6.1"), "", None),
        (option("CONFIG_A", "y", "6.12"), "", "CONFIG_A=y became n"),
        (option("CONFIG_A", "y", "arm"), "CONFIG_A=y\n", "'# not arm' is wrong"),
    ],
)
def test_what_kconfig_drops_is_seen(asked: kconfig.Option, config: str, said: str | None) -> None:
    problems = kconfig.problems([asked], config, at=("arm", "6.1"))
    if said is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert said in problems[0]
        assert "x.config:7" in problems[0]


def test_a_series_changes_a_copy_only(
    tmp_path: Path, tarball: Callable[..., source.Source], series: Path
) -> None:
    (series / "0001-x.patch").write_text(PATCH)
    work = tmp_path / "work"
    small = tarball()
    plain = source.tree(small, (), work)
    patched = source.tree(small, source.series("6.1"), work)
    assert (plain / "fs" / "coredump.c").read_text() == COREDUMP
    assert "patched\n" in (patched / "fs" / "coredump.c").read_text()
    assert (patched / "Makefile").samefile(plain / "Makefile")
    assert len(plain.relative_to(work).parts) == len(patched.relative_to(work).parts)


def test_a_variant_has_patches_of_its_own_after_the_lines(series: Path) -> None:
    of_variant = source.OF_VARIANTS / "sme"
    of_variant.mkdir(parents=True)
    for patch in (series / "0002-x.patch", of_variant / "0001-y.patch"):
        patch.write_text(PATCH)
    assert [path.name for path in source.series("6.1")] == ["0002-x.patch"]
    assert [path.name for path in source.series("6.1", "no-core")] == ["0002-x.patch"]
    assert [path.name for path in source.series("6.1", "sme")] == ["0002-x.patch", "0001-y.patch"]


def test_a_series_that_does_not_apply_names_patch_and_hunk(
    tmp_path: Path, tarball: Callable[..., source.Source], series: Path
) -> None:
    (series / "0001-x.patch").write_text(PATCH + SECOND_HUNK_OF_ANOTHER_TIME)
    small = tarball()
    for _ in range(2):  # what the first leaves does not count as a tree
        with pytest.raises(source.SeriesFailed) as failed:
            source.tree(small, source.series("6.1"), tmp_path / "work")
        assert "0001-x.patch" in str(failed.value)
        assert "fs/coredump.c: Hunk #2 FAILED at 20" in str(failed.value)


def test_another_version_takes_the_place_of_the_tree(
    tmp_path: Path, tarball: Callable[..., source.Source], series: Path
) -> None:
    (series / "0001-x.patch").write_text(PATCH)
    work = tmp_path / "work"
    source.tree(tarball(), source.series("6.1"), work)
    (work / "linux-6.12").mkdir()
    tree = source.tree(tarball("6.1.1-1", new="new"), (), work)
    assert (tree / "new").read_text() == "new"
    assert sorted(path.name for path in work.iterdir()) == ["linux-6.1", "linux-6.12"]


def test_a_damaged_tarball_is_named(tmp_path: Path, tarball: Callable[..., source.Source]) -> None:
    small = tarball()
    small.tarball.write_bytes(small.tarball.read_bytes()[:200])
    with pytest.raises(source.NoSource, match="damaged: reinstall linux-source-6"):
        source.tree(small, (), tmp_path / "work")


def test_a_build_makes_an_entry_and_leaves_no_directory(cache: Cache, found: source.Source) -> None:
    kernel = own.build(X86_64, "6.1")
    assert kernel.name == "own-6.1"
    assert kernel.version == "6.1.0-own"
    assert kernel.architecture == X86_64.name
    assert kernel.image.read_text() == COREDUMP
    assert {"config", "System.map", "vmlinux.gz", "build.log"} < {
        path.name for path in kernel.image.parent.iterdir()
    }
    assert list(own.work_area(cache).glob("linux-6.1*/build-*")) == []
    assert own.kernel(X86_64, "6.1") == kernel


def test_a_kernel_that_is_not_built_is_named(cache: Cache, found: source.Source) -> None:
    own.build(X86_64, "6.1")
    with pytest.raises(own.NotBuilt, match=r"python -m lab\.kernels build arm 6\.12 no-lpae"):
        own.kernel(ARM, "6.12", "no-lpae")
    with pytest.raises(own.NotBuilt, match=r"own-6\.1-no-core for x86-64"):
        own.kernel(X86_64, "6.1", "no-core")
    assert len(entries(cache)) == 1


def test_without_the_source_a_kernel_is_not_built(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "find", lambda *_: None)
    with pytest.raises(own.NotBuilt, match=r"own-6\.1 for x86-64"):
        own.kernel(X86_64, "6.1")


def test_a_patch_makes_another_kernel(cache: Cache, found: source.Source, series: Path) -> None:
    plain = own.build(X86_64, "6.1")
    (series / "0001-x.patch").write_text(PATCH)
    with pytest.raises(own.NotBuilt):
        own.kernel(X86_64, "6.1")
    patched = own.build(X86_64, "6.1")
    assert patched.key != plain.key
    assert "patched\n" in patched.image.read_text()


def test_a_build_that_failed_goes_on_where_it_was(
    cache: Cache, tarball: Callable[..., source.Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tarball(broken="")
    monkeypatch.setattr(source, "find", lambda *_: small)
    with pytest.raises(own.BuildFailed) as failed:
        own.build(X86_64, "6.1")
    assert "fs/coredump.c:1:1: error: broken" in str(failed.value)
    assert f"{own.work_area(cache)}/logs/own-6.1-x86-64.log" in str(failed.value)
    assert entries(cache) == []
    assert steps(cache).count("compiled") == 1
    (own.work_area(cache) / "linux-6.1" / "source" / "broken").unlink()
    own.build(X86_64, "6.1")
    assert "compiled" not in (entries(cache)[0] / "build.log").read_text()


def test_a_build_that_takes_too_long_is_ended(
    cache: Cache, found: source.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = source.tree(found, (), own.work_area(cache))
    os.mkfifo(tree / "gate")
    with pytest.raises(own.BuildFailed, match="not finished before its deadline"):
        own.build(X86_64, "6.1", deadline=0.5)
    assert entries(cache) == []
    # Whoever waited at the gate has been ended: who has gone on to his end has no lock any more,
    # and nobody has the gate open for reading.
    with (
        own.one_at_a_time(own.work_area(cache)),
        pytest.raises(OSError, match="No such device or address"),
    ):
        os.open(tree / "gate", os.O_WRONLY | os.O_NONBLOCK)


def test_a_builder_that_is_killed_takes_its_make_along(
    cache: Cache, found: source.Source, series: Path
) -> None:
    small = {"version": found.version, "tarball": found.tarball, "series": series.parent}
    tree = source.tree(found, (), own.work_area(cache))
    os.mkfifo(tree / "gate")
    builder = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(**small)],
        env=os.environ | {"PYTHONPATH": str(Path(own.__file__).parents[2])},
    )
    # Opened when make has come to the gate. Who holds it open ends when it is closed.
    gate = os.open(tree / "gate", os.O_WRONLY)
    builder.kill()
    builder.wait(60)
    os.close(gate)
    with own.one_at_a_time(own.work_area(cache)):
        assert list(cache.root.glob(f"{own.KIND}/*/manifest.json")) == []
        assert list(tree.parent.glob("build-*/System.map")) == []
    (tree / "gate").unlink()
    own.build(X86_64, "6.1")
    assert len(entries(cache)) == 1


KILLED = """
from pathlib import Path
from lab.architectures import X86_64
from lab.kernels import own, source
small = source.Source(line="6.1", version="{version}", tarball=Path("{tarball}"))
source.find = lambda *_: small
source.SERIES = Path("{series}")
own.missing_tools = lambda _: {{}}
own._toolchain = lambda _: ("make",)
own.build(X86_64, "6.1")
"""


def test_an_option_that_kconfig_drops_stops_the_build(
    cache: Cache, tarball: Callable[..., source.Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tarball(dropped="CONFIG_IO_URING")
    monkeypatch.setattr(source, "find", lambda *_: small)
    with pytest.raises(
        kconfig.BadFragment, match=r"common\.config:\d+: CONFIG_IO_URING=y became n"
    ):
        own.build(X86_64, "6.1")
    assert entries(cache) == []


def test_missing_tools_are_named_with_their_packages(
    found: source.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(source, "find", lambda *_: found)
    monkeypatch.setenv(ROOT_VARIABLE, str(found.tarball.parent / "cache"))
    monkeypatch.setenv("PATH", str(found.tarball.parent))
    with pytest.raises(own.BuildFailed) as failed:
        own.build(ARM, "6.1")
    for package in ("flex", "bison", "bc", "lz4", "gcc-arm-linux-gnueabihf", "ccache"):
        assert package in str(failed.value).partition("apt-get install")[2].split()


def test_no_room_is_said_before_the_source_is_unpacked(
    cache: Cache, found: source.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_TREE_MEBIBYTES", 1 << 40)
    with pytest.raises(CacheError, match=r"Building own-6\.1 for x86-64 needs up to"):
        own.build(X86_64, "6.1")
    assert not (own.work_area(cache) / "linux-6.1").exists()


@pytest.mark.parametrize(
    ("line", "variant", "said"),
    [("5.10", "", "6.1 and 6.12"), ("6.1", "no-lpae", "its variants are no-core")],
)
def test_a_kernel_that_does_not_exist(line: str, variant: str, said: str) -> None:
    with pytest.raises(KernelError, match=said):
        own.kernel(X86_64, line, variant)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["python -m lab.kernels", *arguments])
    return program.main()


def test_the_list_says_what_is_built_and_how_to_build_the_rest(
    cache: Cache,
    found: source.Source,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "build", "x86-64", "6.1", "no-core") == 0
    image = capsys.readouterr().out.strip()
    assert Path(image).read_text() == COREDUMP
    assert run(monkeypatch, "list") == 0
    rows = {tuple(line.split()[:2]): line for line in capsys.readouterr().out.splitlines()[1:]}
    assert (
        len(rows) == 4 * 2 * 2 + 2 + 2 + 4 + 4
    )  # plain and no-core, no-lpae, sme, debug, no-livedump
    assert str(Path(image).parent) in rows["x86-64", "own-6.1-no-core"]
    assert "python -m lab.kernels build arm 6.12 no-lpae" in rows["arm", "own-6.12-no-lpae"]


def test_prune_keeps_the_kernels_of_today(
    cache: Cache,
    found: source.Source,
    series: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = {"version": found.version, "tarball": found.tarball, "series": series.parent}
    # Built by processes of their own: what a process uses, it does not remove.
    build = [sys.executable, "-c", KILLED.format(**small)]
    environment = os.environ | {"PYTHONPATH": str(Path(own.__file__).parents[2])}
    subprocess.run(build, env=environment, check=True)
    (old,) = entries(cache)
    (series / "0001-x.patch").write_text(PATCH)
    today = own.build(X86_64, "6.1").image.parent
    assert run(monkeypatch, "prune") == 0
    assert entries(cache) == [today]
    assert f"removed {old}" in capsys.readouterr().out
    assert list(own.work_area(cache).glob("linux-*")) == []


def test_a_failure_is_one_paragraph_and_exit_code_1(
    cache: Cache,
    tarball: Callable[..., source.Source],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = tarball(broken="")
    monkeypatch.setattr(source, "find", lambda *_: small)
    assert run(monkeypatch, "build", "x86-64", "6.1") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[1].startswith("The build of own-6.1 for x86-64 failed: ")
