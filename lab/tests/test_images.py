# SPDX-License-Identifier: BSD-3-Clause
"""Recipes, builders and initrds where they meet bad input or a machine that lacks something."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from lab import qemu_images
from lab.architectures import ARCHITECTURES, ARM, ARM64, X86_64, Architecture
from lab.cache import Cache
from lab.kernels import Kernel, initrd, stock
from lab.qemu_images import apt, build, recipe, tools

LAB = Path(__file__).resolve().parent.parent
BASE = 'suite = "bookworm"\npackages = ["python3"]\n'


def one_paragraph(error: BaseException, *words: str) -> None:
    """The message is one paragraph, except for what a program said, and has these words."""
    text = str(error)
    assert "\n" not in text.partition("It said:")[0]
    for word in words:
        assert word in text


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel with two modules, none of which was ever built."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "order").write_text("virtio.ko\nerofs.ko\n")
    for name in ("virtio.ko", "erofs.ko"):
        (modules / name).write_text(name)
    return Kernel(
        name="none",
        architecture="x86-64",
        image=tmp_path / "image",
        modules=modules,
        key="none-0",
        version="0",
    )


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "cache")


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: str(each.name))
def test_every_architecture_has_a_recipe(architecture: Architecture) -> None:
    found = recipe.read(architecture)
    assert {"python3", "python3-cffi", "strace", "gdbserver"} <= set(found.packages)
    assert len(set(found.packages)) == len(found.packages)
    assert found.files["/etc/passwd"].startswith("root:x:0:0:")
    assert {"/share", "/mnt", "/run"} <= set(found.directories)


def test_an_architecture_adds_to_the_base() -> None:
    assert set(recipe.read(X86_64).packages) ^ set(recipe.read(ARM64).packages) == {
        "libc6-armhf-cross",
        "libc6-i386",
    }
    assert {"dpkg", "rpm"} <= set(recipe.read(ARM).packages) - set(recipe.read(ARM64).packages)
    assert "/usr/lib/ld-linux-armhf.so.3" in recipe.read(ARM64).links


@pytest.mark.parametrize(
    ("base", "own", "words"),
    [
        ("packages = [", "", ("base.toml",)),
        ('packages = ["python3"]', "", ("base.toml", "suite")),
        (BASE + 'package = ["strace"]', "", ("base.toml", "`package`", "packages")),
        (BASE + 'exclude = "/usr/share/doc"', "", ("base.toml", "`exclude`", "list of strings")),
        (BASE, "packages = [1]", ("arm.toml", "`packages`")),
        (BASE, '[links]\n"usr/bin/awk" = "mawk"', ("arm.toml", "`links`", "absolute")),
        (BASE, '[files]\n"/../passwd" = "x"', ("arm.toml", "`files`")),
    ],
)
def test_a_bad_recipe_is_named(tmp_path: Path, base: str, own: str, words: tuple[str, ...]) -> None:
    (tmp_path / "base.toml").write_text(base)
    (tmp_path / "arm.toml").write_text(own)
    with pytest.raises(recipe.BadRecipe) as caught:
        recipe.read(ARM, tmp_path)
    one_paragraph(caught.value, *words)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(recipe.BadRecipe, match=r"base\.toml.*No such file"):
        recipe.read(ARM, tmp_path)


def without(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this program is not installed."""
    real = tools.shutil.which  # type: ignore[attr-defined]

    def which(name: str, path: str | None = None) -> str | None:
        return None if name == program else real(name, path=path)

    monkeypatch.setattr("shutil.which", which)


@pytest.mark.parametrize(
    ("program", "package"), [("mmdebstrap", "mmdebstrap"), ("mkfs.erofs", "erofs-utils")]
)
def test_a_missing_program_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, package: str
) -> None:
    without(program, monkeypatch)
    monkeypatch.setattr(build, "_complete", lambda *_: None)
    monkeypatch.setattr(build, "_compile", lambda *_: None)
    if program != "mmdebstrap":
        monkeypatch.setattr(build, "_unpack", lambda *_: None)
    with pytest.raises(tools.MissingTool) as caught:
        build.build(recipe.read(ARM), ARM, "python3=3", tmp_path)
    one_paragraph(caught.value, f"program {program}", f"apt-get install {package}")


def test_a_missing_compiler_is_named_with_its_package(
    cache: Cache, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("aarch64-linux-gnu-gcc", monkeypatch)
    with pytest.raises(tools.MissingTool) as caught:
        initrd.build(ARM64, kernel, {}, cache=cache)
    one_paragraph(caught.value, "arm64", "apt-get install gcc-aarch64-linux-gnu")


def test_without_debians_keys_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "KEYRING", tmp_path / "keyring.gpg")
    with pytest.raises(tools.MissingTool) as caught:
        apt.sources("bookworm")
    one_paragraph(caught.value, str(tmp_path / "keyring.gpg"), "debian-archive-keyring")


def test_sources_are_signed_and_come_from_the_mirror_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CORESNAP_LAB_MIRROR", "http://mirror.example/debian")
    text = apt.sources("bookworm")
    assert "URIs: http://mirror.example/debian\n" in text
    assert f"Signed-By: {apt.KEYRING}\n" in text
    assert "trusted" not in text.lower()


def archive(directory: Path) -> Path:
    """A mirror that has a suite, but without a signature."""
    release = directory / "dists" / "bookworm" / "Release"
    release.parent.mkdir(parents=True)
    release.write_text("Suite: bookworm\nCodename: bookworm\nComponents: main\n")
    return directory


def test_an_unsigned_mirror_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = archive(tmp_path / "mirror")
    monkeypatch.setenv("CORESNAP_LAB_MIRROR", f"file:{mirror}")
    with pytest.raises(tools.ToolFailed) as caught:
        apt.Apt.create(tmp_path / "apt", suite="bookworm", architecture=ARM)
    one_paragraph(caught.value, "Debian bookworm failed", "is not signed")


def test_an_unreachable_mirror_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORESNAP_LAB_MIRROR", f"file:{tmp_path / 'nothing'}")
    with pytest.raises(tools.ToolFailed) as caught:
        apt.Apt.create(tmp_path / "apt", suite="bookworm", architecture=ARM)
    one_paragraph(caught.value, "Fetching the lists", str(tmp_path / "nothing"))


def test_a_program_that_does_not_end_is_killed_with_what_it_started() -> None:
    script = "sleep 60 & echo child $! >&2; wait"
    with pytest.raises(tools.ToolFailed, match=r"Waiting failed: sh did not end in 1 s") as caught:
        tools.run(["sh", "-c", script], purpose="Waiting", timeout=1)
    child = int(str(caught.value).split()[-1])
    # Its streams are closed before it counts as ended.
    with contextlib.suppress(ProcessLookupError):
        ended = os.pidfd_open(child)
        assert select.select([ended], [], [], tools.DYING)[0]
        os.close(ended)


def test_without_a_fitting_python_there_is_no_byte_code_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "host_python", lambda: "3.99")
    (tmp_path / "usr" / "lib" / "python3.11").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        build._compile(tmp_path)
    assert "3.99" in caplog.text and "without Python's byte code" in caplog.text


def test_what_a_recipe_adds_stays_in_the_tree(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "usr" / "bin").mkdir(parents=True)
    found = recipe.read(ARM64)
    build._complete(found, tree)
    assert (tree / "usr" / "bin" / "awk").is_symlink()
    assert (tree / "etc" / "group").read_text().startswith("root:x:0:\n")
    assert (tree / "share").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_an_image_of_the_same_recipe_is_used_without_the_mirror(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def resolve(*_: object) -> str:
        asked.append("packages")
        return f"python3={len(asked)}"

    def make(_: object, __: object, packages: str, to: Path) -> None:
        (to / build.IMAGE).write_text(packages)

    monkeypatch.setattr(build, "resolve", resolve)
    monkeypatch.setattr(build, "build", make)
    first = qemu_images.image(ARM, cache=cache)
    assert qemu_images.image(ARM, cache=cache) == first
    assert asked == ["packages"]
    newer = qemu_images.image(ARM, refresh=True, cache=cache)
    assert newer.key != first.key
    assert newer.path.read_text() == "python3=2"
    assert qemu_images.image(ARM, cache=cache) == newer


def test_modules_are_loaded_after_those_that_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, to = tmp_path / "tree", tmp_path / "to"
    directory = tree / "lib" / "modules" / "6.1.0-1-none" / "kernel"
    directory.mkdir(parents=True)
    (tree / "boot").mkdir()
    to.mkdir()
    for name in ("vmlinuz", "config"):
        (tree / "boot" / f"{name}-6.1.0-1-none").write_text(name)
    needs = {"erofs": "libcrc32c", "virtio-rng": "virtio,virtio_ring", "virtio": "virtio_ring"}
    for name in ("erofs", "libcrc32c", "crc32c_generic", "virtio-rng", "virtio", "virtio_ring"):
        (directory / f"{name}.ko").write_text(name)
    monkeypatch.setattr(tools, "find", lambda name, **_: name)
    monkeypatch.setattr(tools, "run", lambda argv, **_: needs.get(Path(argv[-1]).stem, "") + "\n")
    stock._take(tree, to)
    assert (to / "release").read_text() == "6.1.0-1-none\n"
    order = (to / "modules" / "order").read_text().split()
    assert order == [
        *("crc32c_generic.ko", "virtio_ring.ko", "virtio.ko", "virtio_rng.ko"),
        *("libcrc32c.ko", "erofs.ko"),
    ]
    assert {file.name for file in (to / "modules").iterdir()} == {"order", *order}


@pytest.mark.parametrize("path", ["/boot.py", "../boot.py", "a/../boot.py", "", "a//b", "./a"])
def test_a_payload_stays_in_its_directory(cache: Cache, kernel: Kernel, path: str) -> None:
    with pytest.raises(ValueError, match="no plain relative path"):
        initrd.build(X86_64, kernel, {path: b""}, cache=cache)


def test_an_initrd_holds_init_modules_and_payload(
    cache: Cache, kernel: Kernel, tmp_path: Path
) -> None:
    payload = {"boot.py": b"print()\n", "bin/run": b"#!/bin/sh\n", "bin/data": b"data"}
    packed = initrd.build(X86_64, kernel, payload, cache=cache)
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["cpio", "--extract", "--quiet"], input=packed.read_bytes(), cwd=out, check=True)
    assert (out / "modules" / "order").read_text() == "virtio.ko\nerofs.ko\n"
    assert (out / "lab" / "boot.py").read_bytes() == payload["boot.py"]
    assert (out / "lab" / "bin" / "run").stat().st_mode & 0o777 == 0o755
    assert (out / "lab" / "bin" / "data").stat().st_mode & 0o777 == 0o644
    assert (out / "init").read_bytes().startswith(b"\x7fELF")
    for name in ("dev", "proc", "root", "sys"):
        assert (out / name).is_dir()


def test_the_same_content_is_the_same_initrd(tmp_path: Path, kernel: Kernel) -> None:
    payload = {"boot.py": b"print()\n"}
    first, second = (
        initrd.build(X86_64, kernel, payload, cache=Cache(tmp_path / name)) for name in "ab"
    )
    assert first.read_bytes() == second.read_bytes()
    other = initrd.build(X86_64, kernel, {"boot.py": b""}, cache=Cache(tmp_path / "a"))
    assert other != first


def test_the_command_line_says_one_paragraph(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    result = subprocess.run(
        [sys.executable, "-m", "lab.qemu_images", "build", "arm"],
        cwd=LAB.parent,
        env={"CORESNAP_LAB_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("python -m lab.qemu_images: The lab's cache ")
    assert result.stderr.count("\n") == 1
