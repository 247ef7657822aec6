# SPDX-License-Identifier: BSD-3-Clause
"""python -m lab.qemu_images: builds the root file systems of guests."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from lab.architectures import BY_NAME
from lab.cache import CacheError
from lab.qemu_images import image
from lab.qemu_images.recipe import BadRecipe
from lab.qemu_images.tools import MissingTool, ToolFailed


def main() -> int:
    """Build the images that the arguments name and print their paths; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lab.qemu_images", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build images, unless the cache has them")
    build.add_argument("architecture", nargs="+", choices=sorted(BY_NAME))
    build.add_argument("--refresh", action="store_true", help="ask the mirror for newer packages")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        for name in arguments.architecture:
            begin = time.monotonic()
            built = image(BY_NAME[name], refresh=arguments.refresh)
            logging.info("%s: ready after %.1f s", name, time.monotonic() - begin)
            print(built.path)
    except (BadRecipe, CacheError, MissingTool, ToolFailed) as error:
        print(f"python -m lab.qemu_images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
