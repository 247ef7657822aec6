# SPDX-License-Identifier: BSD-3-Clause
"""A control group of a test's own, where the system lets us make one (v1 and v2)."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _mounts() -> Iterator[tuple[str, Path, set[str]]]:
    """Type, place and options of the mounted hierarchies."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            yield kind, Path(place), set(options.split(","))


def _hierarchy(controller: str) -> Path:
    """The root of the hierarchy that has this controller; skips without.

    That of version 2 if it is an empty name.
    """
    for kind, place, options in _mounts():
        if kind == "cgroup2" and not controller:
            return place
        if kind == "cgroup" and controller in options:
            return place
        if kind == "cgroup2" and controller in (place / "cgroup.controllers").read_text().split():
            if controller in (place / "cgroup.subtree_control").read_text().split():
                return place
            with contextlib.suppress(OSError):
                (place / "cgroup.subtree_control").write_text(f"+{controller}")
                return place
    wanted = f"with the controller {controller}" if controller else "of version 2"
    pytest.skip(f"no control groups {wanted} here")


class Cgroup:
    """A control group without limits; its processes must have ended when it goes."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def take(self, pid: int) -> None:
        """Move a process in."""
        (self.place / "cgroup.procs").write_text(str(pid))

    def number(self, *names: str) -> int:
        """The number in the first of these files that exists (their names differ by version)."""
        return int(self._file(names).read_text())

    def limit(self, value: int, *names: str) -> None:
        """Write a number to the first of these files that exists."""
        self._file(names).write_text(str(value))

    def _file(self, names: tuple[str, ...]) -> Path:
        for name in names:
            if (self.place / name).exists():
                return self.place / name
        pytest.skip(f"control groups have no {names[0]} here")


@contextlib.contextmanager
def of(controller: str) -> Iterator[Cgroup]:
    """A control group below the root of the hierarchy; skips where it cannot be."""
    root = _hierarchy(controller)
    try:
        place = Path(tempfile.mkdtemp(prefix="coresnap-test-", dir=root))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        pytest.skip(f"no control group can be made here: {os.strerror(error.errno)}")
    try:
        yield Cgroup(place)
    finally:
        place.rmdir()
