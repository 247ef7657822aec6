# SPDX-License-Identifier: BSD-3-Clause
"""What pip and importlib.metadata know of a package that meson installed.

dist-info.py PROJECT VERSION DIRECTORY
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from pyproject_metadata import StandardMetadata

# Debian has another module for it.
NOT_IN_DEBIAN = "backports.zstd"


def main() -> None:
    """Write DIRECTORY/NAME-VERSION.dist-info."""
    project, version, directory = sys.argv[1:]
    settings = tomllib.loads(Path(project, "pyproject.toml").read_text("utf-8"))
    dependencies = settings["project"]["dependencies"]
    settings["project"]["dependencies"] = [
        one for one in dependencies if not one.startswith(NOT_IN_DEBIAN)
    ]
    settings["project"]["license"] = {"text": "BSD-3-Clause"}
    metadata = StandardMetadata.from_pyproject(settings, project)
    metadata.version = version
    place = Path(directory, f"{metadata.name}-{version}.dist-info")
    place.mkdir()
    (place / "METADATA").write_bytes(bytes(metadata.as_rfc822()))
    (place / "INSTALLER").write_text("debian\n")


if __name__ == "__main__":
    main()
