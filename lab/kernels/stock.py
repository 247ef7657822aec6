# SPDX-License-Identifier: BSD-3-Clause
"""Debian's own kernels: fetched in seconds, and what users' machines run.

Everything a guest needs is a module there, so an initrd has to load them (initrd.py). The package
is unpacked, nothing of it is run.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.architectures import Architecture
from lab.cache import Cache
from lab.kernels import Kernel
from lab.qemu_images import FRESH_DAYS, apt, tools

NAME = "stock-6.1"
SUITE = "bookworm"
# The disk of the root, its file system, the channel to the agent, files of the host, entropy, and
# files whose reads hang.
# libcrc32c, which erofs needs, asks for an implementation of crc32c while it starts, and no table
# of dependencies says so; the generic one runs on every processor.
MODULES = (
    *("crc32c_generic", "virtio_mmio", "virtio_pci", "virtio_rng", "virtio_blk", "virtio_console"),
    *("erofs", "9pnet_virtio", "9p", "fuse"),
)
_KIND = "kernels"
# To be counted up when the same package is to become another entry.
_TAKER = "1"
# A package is 40 to 70 MiB, and 300 MiB when unpacked.
_MEBIBYTES = 600
_log = logging.getLogger(__name__)


def kernel(
    architecture: Architecture, *, refresh: bool = False, cache: Cache | None = None
) -> Kernel:
    """Debian's kernel for that architecture, fetched if there is none younger than 30 days, or with
    ``refresh``, if the mirror has a newer one. Raises MissingTool, ToolFailed and CacheError."""
    cache = cache or Cache.default()
    name = f"{NAME}-{architecture.name}"
    known = {
        "stock": architecture.stock,
        "suite": SUITE,
        "modules": " ".join(MODULES),
        "taker": _TAKER,
    }
    key = cache.newest(_KIND, name, where=known, days=0 if refresh else FRESH_DAYS)
    if key is None:
        key = {**known, **_newest(architecture)}
    package = key
    entry = cache.entry(
        _KIND,
        name,
        key,
        lambda to: _fetch(architecture, package, to),
        mebibytes=_MEBIBYTES,
    )
    return Kernel(
        name=NAME,
        architecture=architecture.name,
        image=entry / "vmlinuz",
        modules=entry / "modules",
        key=entry.name,
        version=(entry / "release").read_text().strip(),
    )


def _newest(architecture: Architecture) -> Mapping[str, str]:
    """The package that the architecture's package of packages depends on, and its version."""
    _log.info("%s: looking for Debian's kernel", architecture.name)
    with TemporaryDirectory(prefix="coresnap-lab-apt-") as directory:
        private = apt.Apt.create(Path(directory), suite=SUITE, architecture=architecture)
        found = private.resolve([architecture.stock])
    for package, version in found.items():
        if package.startswith("linux-image-") and package != architecture.stock:
            return {"package": package, "version": version}
    raise tools.ToolFailed(
        f"Debian {SUITE} has no kernel for {architecture.name}: {architecture.stock} depends on no "
        f"package linux-image-…, only on {', '.join(found) or 'nothing'}"
    )


def _fetch(architecture: Architecture, key: Mapping[str, str], to: Path) -> None:
    package, version = key["package"], key["version"]
    _log.info("%s: fetching %s %s", architecture.name, package, version)
    work = to / "work"
    work.mkdir()
    private = apt.Apt.create(work / "apt", suite=SUITE, architecture=architecture)
    archive = private.download(package, version, work)
    purpose = f"Unpacking {archive.name}"
    dpkg = tools.find("dpkg-deb", package="dpkg", purpose=purpose)
    tools.run([dpkg, "--extract", str(archive), str(work / "tree")], purpose=purpose)
    _take(work / "tree", to)
    shutil.rmtree(work)


def _take(tree: Path, to: Path) -> None:
    """Copy what guests need out of the unpacked package."""
    (image,) = (tree / "boot").glob("vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    shutil.copy(image, to / "vmlinuz")
    shutil.copy(tree / "boot" / f"config-{release}", to / "config")
    (to / "release").write_text(f"{release}\n")
    found = {_name(file.stem): file for file in (tree / "lib" / "modules").rglob("*.ko")}
    order: list[str] = []
    for name in MODULES:
        _add(name, found, order)
    (to / "modules").mkdir()
    for name in order:
        shutil.copy(found[name], to / "modules" / f"{name}.ko")
    (to / "modules" / "order").write_text("".join(f"{name}.ko\n" for name in order))


def _add(name: str, found: Mapping[str, Path], order: list[str]) -> None:
    """Append a module after those that it needs. One that is not there is built in: then a guest
    that lacks it says at its start what it misses."""
    if name in order or name not in found:
        return
    purpose = f"Reading what the module {name} needs"
    modinfo = tools.find("modinfo", package="kmod", purpose=purpose)
    needed = tools.run([modinfo, "--field", "depends", str(found[name])], purpose=purpose).strip()
    for other in filter(None, needed.split(",")):
        _add(_name(other), found, order)
    order.append(name)


def _name(file: str) -> str:
    """The name of a module as the kernel has it."""
    return file.replace("-", "_")
