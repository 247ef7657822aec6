#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Print the directory of Python 3.11's C headers for an architecture, fetching them if need be.

    ci/python_headers.py ARCH      x86-32, x86-64, arm or arm64

They are those of Debian 12's package libpython3.11-dev, taken out of it by an apt root of its own
(nothing is installed; apt checks the signatures) and kept in the lab's cache by the package's
version. What is in the cache is taken as it is: the headers of one Python version do not change.
The directory has usr/include/python3.11 and usr/include/MULTIARCH/python3.11.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab.architectures import BY_NAME, Architecture
from lab.cache import Cache, CacheError
from lab.qemu_images import apt, tools

PACKAGE = "libpython3.11-dev"
# Security updates are for what runs; headers of one Python version do not change.
SUITE = "bookworm"


class NoHeaders(Exception):
    """The headers cannot be had; the text says why and what to do."""


def _extract(package: Path, into: Path) -> None:
    unpacked = package.parent / "unpacked"
    purpose = "Unpacking Python's headers"
    program = tools.find("dpkg-deb", package="dpkg", purpose=purpose)
    tools.run([program, "--extract", str(package), str(unpacked)], purpose=purpose)
    (into / "usr").mkdir()
    shutil.move(unpacked / "usr" / "include", into / "usr" / "include")


def headers(architecture: Architecture, cache: Cache) -> Path:
    """The directory in the cache. Raises NoHeaders, MissingTool, ToolFailed or CacheError."""
    where = {"package": PACKAGE, "architecture": architecture.debian}
    known = cache.newest("headers", architecture.name, where=where, days=36500)
    if known is not None:
        return cache.entry("headers", architecture.name, known, _gone)
    with tempfile.TemporaryDirectory(prefix="python-headers-") as directory:
        private = apt.Apt.create(Path(directory), suite=SUITE, architecture=architecture)
        version = private.resolve([PACKAGE])[PACKAGE]
        package = private.download(PACKAGE, version, Path(directory))
        key = {**where, "version": version}
        return cache.entry(
            "headers",
            architecture.name,
            key,
            lambda into: _extract(package, into),
            mebibytes=20,
        )


def _gone(_into: Path) -> None:
    raise NoHeaders("The headers in the lab's cache were damaged and are removed; run this again.")


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in BY_NAME:
        sys.exit(f"usage: ci/python_headers.py {'|'.join(BY_NAME)}")
    try:
        print(headers(BY_NAME[sys.argv[1]], Cache.default()))
    except (NoHeaders, tools.MissingTool, tools.ToolFailed, CacheError) as error:
        sys.exit(f"python_headers: {error}")


if __name__ == "__main__":
    main()
