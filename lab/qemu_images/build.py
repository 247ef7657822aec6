# SPDX-License-Identifier: BSD-3-Clause
"""Builds a root file system: packages unpacked, Python compiled, packed as erofs.

No program of the guest is run and nothing is installed: mmdebstrap's variant `extract` downloads,
checks and unpacks; what installation scripts would have made and a guest needs is in the recipe. So
it takes no emulator and no rights. Python's byte code is compiled by the host's Python of the same
version, since a guest that does it spends four seconds of each start on it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.architectures import Architecture
from lab.qemu_images import apt, tools
from lab.qemu_images.recipe import Recipe

IMAGE = "root.erofs"
# The most that a build has on the disk at once, in MiB: packages, tar, tree and image.
MEBIBYTES = 800
# To be counted up when the same recipe and packages are to become another image.
_BUILDER = 1
_HOST_PYTHON = Path("/usr/bin/python3")
# The same packages make the same image, to the byte: no times, and always this name.
_UUID = "6c616200-0000-4000-8000-000000000000"
_log = logging.getLogger(__name__)


def fingerprint(recipe: Recipe) -> str:
    """The hash of the recipe and of how it is built."""
    return hashlib.sha256(f"{_BUILDER} {recipe!r}".encode()).hexdigest()


def resolve(recipe: Recipe, architecture: Architecture) -> str:
    """All packages of the image as ``name=version``, separated by blanks; asks the mirror."""
    _log.info("%s: looking for packages in Debian %s", architecture.name, recipe.suite)
    with TemporaryDirectory(prefix="coresnap-lab-apt-") as directory:
        private = apt.Apt.create(Path(directory), suite=recipe.suite, architecture=architecture)
        versions = private.resolve(recipe.packages)
    return " ".join(f"{package}={version}" for package, version in versions.items())


def host_python() -> str:
    """The version of the Python that compiles byte code, as ``3.11``; empty if there is none."""
    if not _HOST_PYTHON.exists():
        return ""
    script = "import sys; print('{}.{}'.format(*sys.version_info))"
    return tools.run([str(_HOST_PYTHON), "-I", "-c", script], purpose="Asking Python").strip()


def build(recipe: Recipe, architecture: Architecture, packages: str, to: Path) -> None:
    """Make the image of exactly these packages in the directory ``to``. Raises MissingTool and
    ToolFailed."""
    work = to / "work"
    tree = work / "tree"
    tree.mkdir(parents=True)
    _unpack(recipe, architecture, packages.split(), work / "tree.tar", tree)
    _complete(recipe, tree)
    _compile(tree)
    _log.info("%s: packing", architecture.name)
    _pack(tree, to / IMAGE)
    shutil.rmtree(work)


def _unpack(
    recipe: Recipe, architecture: Architecture, packages: list[str], archive: Path, tree: Path
) -> None:
    purpose = f"Unpacking Debian for {architecture.name}"
    program = tools.find("mmdebstrap", package="mmdebstrap", purpose=purpose)
    _log.info("%s: unpacking %d packages", architecture.name, len(packages))
    argv = [
        *(program, "--variant=extract", f"--mode={_mode()}"),
        f"--architectures={architecture.debian}",
        *(f"--include={package}" for package in packages),
        *('--aptopt=Acquire::Languages "none"', '--aptopt=APT::Install-Recommends "false"'),
        *(f"--aptopt={line}" for line in apt.proxies()),
        *(f"--setup-hook={_merge(name)}" for name in recipe.merged),
        *("--skip=output/dev", "--format=tar"),
        *(recipe.suite, "-", "-"),
    ]
    with archive.open("wb") as output:
        tools.run(
            argv,
            purpose=purpose,
            timeout=1800,
            env={"TMPDIR": str(archive.parent)},
            stdin=apt.sources(recipe.suite),
            stdout=output,
        )
    # All files become root's when they are packed, so who unpacks them does not matter.
    tar = tools.find("tar", package="tar", purpose=purpose)
    argv = [
        *(tar, "--extract", f"--file={archive}", f"--directory={tree}"),
        *("--no-same-owner", "--preserve-permissions", "--anchored", "--wildcards"),
        *(f"--exclude=.{pattern}" for pattern in recipe.exclude),
    ]
    tools.run(argv, purpose=purpose)
    archive.unlink()


def _merge(name: str) -> str:
    """A command of the shell that makes /``name`` a link to /usr/``name``. mmdebstrap's own hook
    for that also installs a package, which takes root's rights."""
    return f'mkdir -p "$1/usr/{name}" && ln -s "usr/{name}" "$1/{name}"'


def _mode() -> str:
    """How mmdebstrap unpacks. Without rights it need not pretend to have them (by user namespaces,
    or fakechroot): nothing is run in the tree, and who owns the files does not matter. What then is
    missing are set-user-ID bits, of su and mount, which nothing in a guest relies on."""
    return "root" if os.geteuid() == 0 else "chrootless"


def _complete(recipe: Recipe, tree: Path) -> None:
    for directory in recipe.directories:
        _inside(tree, directory).mkdir(parents=True, exist_ok=True)
    for name, target in recipe.links.items():
        link = _inside(tree, name)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    for name, text in recipe.files.items():
        file = _inside(tree, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _inside(tree: Path, path: str) -> Path:
    return tree / path.lstrip("/")


def _compile(tree: Path) -> None:
    version = host_python()
    libraries = tree / "usr" / "lib" / f"python{version}"
    if not version or not libraries.is_dir():
        _log.warning(
            "The image is built without Python's byte code, so Python starts some seconds later in "
            "each guest: %s is %s, and the image has not that version.",
            _HOST_PYTHON,
            version or "missing",
        )
        return
    modules = tree / "usr" / "lib" / "python3"
    argv = [
        # Isolated, so that no PYTHONPYCACHEPREFIX leads the files elsewhere.
        *(str(_HOST_PYTHON), "-I", "-m", "compileall", "-q"),
        # The image's files have no times that could be compared, and never change.
        *("--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", "/"),
        *(str(libraries), str(modules)),
    ]
    tools.run(argv, purpose="Compiling Python's byte code")


def _pack(tree: Path, image: Path) -> None:
    purpose = "Packing the root file system"
    program = tools.find("mkfs.erofs", package="erofs-utils", purpose=purpose)
    argv = [
        *(program, "-zlz4", "-T0", f"-U{_UUID}", "-x-1", "--all-root", "--quiet"),
        *(str(image), str(tree)),
    ]
    tools.run(argv, purpose=purpose)


def key(recipe: Recipe, architecture: Architecture, packages: str) -> Mapping[str, str]:
    """What an image's content depends on."""
    return {
        "architecture": architecture.name,
        "recipe": fingerprint(recipe),
        "python": host_python(),
        "mode": _mode(),
        "packages": packages,
    }
