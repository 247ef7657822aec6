# SPDX-License-Identifier: BSD-3-Clause
"""The root file systems of guests: read-only images, one per architecture, built when needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.architectures import Architecture
from lab.cache import Cache
from lab.qemu_images import build, recipe

_KIND = "images"
# For so long, an image of the same recipe is used without asking the mirror for newer packages.
FRESH_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class Image:
    """A root file system: the file that guests have as disk, and the name of its content."""

    path: Path
    key: str


def image(
    architecture: Architecture, *, refresh: bool = False, cache: Cache | None = None
) -> Image:
    """The image for guests of that architecture, built if there is none of this recipe that is
    younger than 30 days, or with ``refresh``, if the mirror has newer packages.

    Building takes a minute and needs the network. Raises BadRecipe, MissingTool, ToolFailed and
    CacheError.
    """
    cache = cache or Cache.default()
    wanted = recipe.read(architecture)
    known = {"architecture": architecture.name, "recipe": build.fingerprint(wanted)}
    key = cache.newest(_KIND, architecture.name, where=known, days=0 if refresh else FRESH_DAYS)
    if key is None:
        key = build.key(wanted, architecture, build.resolve(wanted, architecture))
    packages = key["packages"]
    entry = cache.entry(
        _KIND,
        architecture.name,
        key,
        lambda to: build.build(wanted, architecture, packages, to),
        mebibytes=build.MEBIBYTES,
    )
    return Image(path=entry / build.IMAGE, key=entry.name)
