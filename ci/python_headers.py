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
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab.architectures import BY_NAME, Architecture
from lab.cache import Cache, CacheError

PACKAGE = "libpython3.11-dev"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Security updates are for what runs; headers of one Python version do not change.
SOURCES = "deb [signed-by={keyring}] http://deb.debian.org/debian bookworm main\n"
DEADLINE = 300
"""Seconds that one command of apt may take."""


class NoHeaders(Exception):
    """The headers cannot be had; the text says why and what to do."""


def _apt(program: str, architecture: Architecture, root: Path) -> list[str]:
    settings = {
        "APT::Architecture": architecture.debian,
        "APT::Architectures": architecture.debian,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Dir::Etc::SourceList": str(root / "sources.list"),
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State": str(root),
        "Dir::State::Lists": str(root / "lists"),
        "Dir::State::Status": "/dev/null",
        "Dir::Cache": str(root),
        "Dir::Cache::PkgCache": "",
        "Dir::Cache::SrcPkgCache": "",
    }
    return [program, "-q", *(word for item in settings.items() for word in ("-o", "=".join(item)))]


def _run(argv: list[str], *, work: Path) -> None:
    try:
        done = subprocess.run(argv, cwd=work, capture_output=True, text=True, timeout=DEADLINE)
    except FileNotFoundError:
        raise NoHeaders(
            f"Python's headers are fetched with {argv[0]}, which this machine does not have. "
            f"Build on a Debian machine."
        ) from None
    except subprocess.TimeoutExpired:
        raise NoHeaders(
            f"{argv[0]} {argv[-1]} took more than {DEADLINE} s. Is Debian's mirror reachable?"
        ) from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise NoHeaders(
            f"{argv[0]} {argv[-1]} failed: {said}. Python's headers are in Debian's package "
            f"{PACKAGE}: make Debian's mirror reachable and run this again."
        )


def _download(architecture: Architecture, root: Path) -> Path:
    """The package, in a new apt root."""
    if not KEYRING.exists():
        raise NoHeaders(
            f"{KEYRING} is missing, without which nobody knows whether {PACKAGE} comes from "
            f"Debian: apt-get install debian-archive-keyring"
        )
    for directory in ("lists/partial", "archives/partial"):
        (root / directory).mkdir(parents=True)
    (root / "sources.list").write_text(SOURCES.format(keyring=KEYRING), encoding="utf-8")
    _run([*_apt("apt-get", architecture, root), "update"], work=root)
    _run([*_apt("apt-get", architecture, root), "download", PACKAGE], work=root)
    return next(root.glob(f"{PACKAGE}_*.deb"))


def _extract(package: Path, into: Path) -> None:
    unpacked = package.parent / "unpacked"
    _run(["dpkg-deb", "--extract", str(package), str(unpacked)], work=package.parent)
    (into / "usr").mkdir()
    shutil.move(unpacked / "usr" / "include", into / "usr" / "include")


def headers(architecture: Architecture, cache: Cache) -> Path:
    """The directory in the cache. Raises NoHeaders or CacheError."""
    where = {"package": PACKAGE, "architecture": architecture.debian}
    known = cache.newest("headers", architecture.name, where=where, days=36500)
    if known is not None:
        return cache.entry("headers", architecture.name, known, _gone)
    with tempfile.TemporaryDirectory(prefix="python-headers-") as directory:
        package = _download(architecture, Path(directory))
        key = {**where, "version": package.name.split("_")[1]}
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
    except (NoHeaders, CacheError) as error:
        sys.exit(f"python_headers: {error}")


if __name__ == "__main__":
    main()
