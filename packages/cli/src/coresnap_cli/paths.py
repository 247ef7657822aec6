# SPDX-License-Identifier: BSD-3-Clause
"""What lies under a name that the user typed, which may be no possible name at all.

The methods of pathlib.Path raise for a name that is too long; here the answer is no.
"""

from __future__ import annotations

from pathlib import Path


def is_directory(path: Path) -> bool:
    """Is this a directory, or a link to one?"""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Is this a regular file, or a link to one?"""
    try:
        return path.is_file()
    except OSError:
        return False


def exists(path: Path) -> bool:
    """Is there anything, dangling links aside?"""
    try:
        return path.exists()
    except OSError:
        return False
