# SPDX-License-Identifier: BSD-3-Clause
"""The initrd of guests: a static first process (init.c), the kernel's modules and a payload."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from lab.architectures import Architecture
from lab.cache import Cache
from lab.kernels import Kernel
from lab.qemu_images import tools

_SOURCE = Path(__file__).with_name("init.c")
_FLAGS = (
    *("-std=gnu11", "-Os", "-static", "-s"),
    *("-Wall", "-Wextra", "-Wconversion", "-Wswitch-enum", "-Werror"),
)
# Where the kernel and init.c expect something.
_DIRECTORIES = ("dev", "lab", "modules", "proc", "root", "sys")
_INITRD = "initrd"
# To be counted up when the same content is to become another initrd.
_PACKER = "1"


def build(
    architecture: Architecture,
    kernel: Kernel,
    payload: Mapping[str, bytes],
    *,
    cache: Cache | None = None,
) -> Path:
    """The initrd for guests of that kernel, made once per content.

    ``payload`` maps paths, which become /run/lab/… in the guest, to contents; ELF files and scripts
    with #! are made executable. ``boot.py`` is what the guest starts; a payload without it makes an
    initrd whose guest says that it misses it. Raises MissingTool, ToolFailed and CacheError, and
    ValueError for a path that leads out of the payload.
    """
    contents = {f"lab/{_checked(path)}": _hash(content) for path, content in payload.items()}
    cache = cache or Cache.default()
    init = _init(architecture, cache)
    key = {
        "architecture": architecture.name,
        "kernel": kernel.key,
        "init": init.parent.name,
        "packer": _PACKER,
        **contents,
    }
    entry = cache.entry(
        "initrds",
        f"{kernel.name}-{architecture.name}",
        key,
        lambda to: _pack(to, init=init, modules=kernel.modules, payload=payload),
        mebibytes=64,
    )
    return entry / _INITRD


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _checked(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or str(pure) != path:
        raise ValueError(f"{path!r} is no plain relative path for a payload")
    return path


@functools.cache
def _version(compiler: str, purpose: str) -> str:
    return tools.run([compiler, "--version"], purpose=purpose).partition("\n")[0]


def _init(architecture: Architecture, cache: Cache) -> Path:
    purpose = f"Building the first process of {architecture.name} guests"
    package = f"gcc-{architecture.compiler.rstrip('-').replace('_', '-')}"
    compiler = tools.find(f"{architecture.compiler}gcc", package=package, purpose=purpose)
    version = _version(compiler, purpose)
    source = _SOURCE.read_bytes()

    def compile_it(to: Path) -> None:
        argv = [compiler, *_FLAGS, "-o", str(to / "init"), str(_SOURCE)]
        tools.run(argv, purpose=purpose)

    key = {"source": _hash(source), "compiler": version, "flags": " ".join(_FLAGS)}
    return cache.entry("inits", architecture.name, key, compile_it) / "init"


def _pack(to: Path, *, init: Path, modules: Path | None, payload: Mapping[str, bytes]) -> None:
    tree = to / "tree"
    for name in _DIRECTORIES:
        (tree / name).mkdir(parents=True)
    shutil.copy(init, tree / "init")
    if modules:
        shutil.copytree(modules, tree / "modules", dirs_exist_ok=True)
    else:
        (tree / "modules" / "order").touch()
    for path, content in payload.items():
        file = tree / "lab" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o755 if content.startswith((b"\x7fELF", b"#!")) else 0o644)
    files = [tree, *sorted(tree.rglob("*"))]
    for file in files:
        # The same content makes the same initrd.
        os.utime(file, (0, 0))
    purpose = "Packing an initrd"
    cpio = tools.find("cpio", package="cpio", purpose=purpose)
    argv = [cpio, "--create", "--format=newc", "--reproducible", "--owner=+0:+0", "--quiet"]
    names = "".join(f"{file.relative_to(tree)}\n" for file in files)
    with (to / _INITRD).open("wb") as output:
        tools.run(argv, purpose=purpose, cwd=tree, stdin=names, stdout=output)
    shutil.rmtree(tree)
