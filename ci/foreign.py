#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Print the directory of what builds and tests for an architecture need of Debian, fetching it if
need be.

    ci/foreign.py python|codecs|profile ARCH      x86-32, x86-64, arm or arm64

python: the C headers of Python 3.11, in usr/include/python3.11 and
usr/include/MULTIARCH/python3.11.
codecs: zstd, lz4 and zlib, in include and lib.
profile: Docker's default seccomp profile, seccomp.json, which lies in a package of Docker's source.

It is taken out of Debian 12's packages by an apt root of its own (nothing is installed; apt checks
the signatures) and kept in the lab's cache by the packages' versions. What is in the cache is taken
as it is: security updates are for what runs, and this is for builds that tests run.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab.architectures import BY_NAME, Architecture
from lab.cache import Cache, CacheError
from lab.qemu_images import apt, tools

SUITE = "bookworm"
_KEPT_DAYS = 36500


class NotThere(Exception):
    """It cannot be had; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is wanted of some packages: ``pick`` moves it from where they are unpacked.

    ``kind`` is that of the cache's entries.
    """

    kind: str
    packages: tuple[str, ...]
    pick: Callable[[Architecture, Path, Path], None]


def _headers(_architecture: Architecture, unpacked: Path, into: Path) -> None:
    (into / "usr").mkdir()
    shutil.move(unpacked / "usr" / "include", into / "usr" / "include")


def _libraries(architecture: Architecture, unpacked: Path, into: Path) -> None:
    for kind, pattern in (("include", "*.h"), ("lib", "*.a")):
        (into / kind).mkdir()
        below = unpacked / "usr" / kind
        for place in (below, below / architecture.multiarch):
            for file in place.glob(pattern):
                shutil.copyfile(file, into / kind / file.name)


def _profile(_architecture: Architecture, unpacked: Path, into: Path) -> None:
    docker = unpacked / "usr" / "share" / "gocode" / "src" / "github.com" / "docker" / "docker"
    shutil.copyfile(docker / "profiles" / "seccomp" / "default.json", into / "seccomp.json")


WANTED = {
    "python": Wanted(kind="headers", packages=("libpython3.11-dev",), pick=_headers),
    "codecs": Wanted(
        kind="codecs", packages=("libzstd-dev", "liblz4-dev", "zlib1g-dev"), pick=_libraries
    ),
    "profile": Wanted(
        kind="profiles", packages=("golang-github-docker-docker-dev",), pick=_profile
    ),
}


def _extract(packages: list[Path], into: Path) -> None:
    purpose = "Unpacking what builds for other architectures need"
    program = tools.find("dpkg-deb", package="dpkg", purpose=purpose)
    for package in packages:
        tools.run([program, "--extract", str(package), str(into)], purpose=purpose)


def fetched(wanted: Wanted, architecture: Architecture, cache: Cache) -> Path:
    """The directory in the cache. Raises NotThere, MissingTool, ToolFailed or CacheError."""
    where = {"package": " ".join(wanted.packages), "architecture": architecture.debian}
    known = cache.newest(wanted.kind, architecture.name, where=where, days=_KEPT_DAYS)
    if known is not None:
        return cache.entry(wanted.kind, architecture.name, known, _gone)
    with tempfile.TemporaryDirectory(prefix="coresnap-foreign-") as directory:
        private = apt.Apt.create(Path(directory), suite=SUITE, architecture=architecture)
        versions = private.resolve(list(wanted.packages))
        packages = [
            private.download(name, versions[name], Path(directory)) for name in wanted.packages
        ]
        unpacked = Path(directory) / "unpacked"

        def make(into: Path) -> None:
            _extract(packages, unpacked)
            wanted.pick(architecture, unpacked, into)

        version = " ".join(versions[name] for name in wanted.packages)
        key = {**where, "version": version}
        return cache.entry(wanted.kind, architecture.name, key, make, mebibytes=20)


def _gone(_into: Path) -> None:
    raise NotThere("What the lab's cache had was damaged and is removed; run this again.")


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in WANTED or sys.argv[2] not in BY_NAME:
        sys.exit(f"usage: ci/foreign.py {'|'.join(WANTED)} {'|'.join(BY_NAME)}")
    try:
        print(fetched(WANTED[sys.argv[1]], BY_NAME[sys.argv[2]], Cache.default()))
    except (NotThere, tools.MissingTool, tools.ToolFailed, CacheError) as error:
        sys.exit(f"foreign: {error}")


if __name__ == "__main__":
    main()
