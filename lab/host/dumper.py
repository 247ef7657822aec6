# SPDX-License-Identifier: BSD-3-Clause
"""Where the program under test is on this machine: coresnap-dump."""

from __future__ import annotations

import os
from pathlib import Path


class NoDumper(Exception):
    """coresnap-dump is not built; the text says where it was looked for."""


def find() -> Path:
    """The program: $CORESNAP_DUMP, or in the meson build directory $CORESNAP_BUILD."""
    named = os.environ.get("CORESNAP_DUMP")
    if named:
        path = Path(named)
        if not os.access(path, os.X_OK):
            raise NoDumper(f"CORESNAP_DUMP is {named!r}, which is not an executable file")
        return path.resolve()
    build = os.environ.get("CORESNAP_BUILD")
    if not build:
        raise NoDumper(
            "the lab needs coresnap-dump: set CORESNAP_DUMP to the program, or CORESNAP_BUILD to "
            "the build directory of meson, as tox does"
        )
    found = [path for path in Path(build).rglob("coresnap-dump") if os.access(path, os.X_OK)]
    programs = [path for path in found if path.is_file()]
    if not programs:
        raise NoDumper(f"there is no coresnap-dump below CORESNAP_BUILD={build}")
    return programs[0].resolve()


def find_32() -> Path | None:
    """The program built for x86-32, $CORESNAP_DUMP32, or None."""
    named = os.environ.get("CORESNAP_DUMP32")
    return Path(named).resolve() if named and os.access(named, os.X_OK) else None


def why_missing() -> str | None:
    """A sentence that says why there is no program to test, or None."""
    try:
        find()
    except NoDumper as error:
        return str(error)
    return None
