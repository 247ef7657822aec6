# SPDX-License-Identifier: BSD-3-Clause
"""Recipes of root file systems: what is in base.toml and in the file of an architecture."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.architectures import Architecture

RECIPES = Path(__file__).resolve().parent
_LISTS = ("packages", "exclude", "merged", "directories")
_TABLES = ("links", "files")


class BadRecipe(Exception):
    """A recipe cannot be read; the text names the file and what is wrong in it."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One root file system.

    ``packages`` of Debian's ``suite`` are unpacked, but no path that one of the patterns in
    ``exclude`` matches, and what goes to a directory in ``merged``, say ``bin``, goes to that in
    /usr; then ``directories``, symbolic ``links`` (name to target) and text ``files`` are made.
    """

    suite: str
    packages: tuple[str, ...]
    exclude: tuple[str, ...]
    merged: tuple[str, ...]
    directories: tuple[str, ...]
    links: Mapping[str, str]
    files: Mapping[str, str]


def read(architecture: Architecture, directory: Path = RECIPES) -> Recipe:
    """The recipe of that architecture. Raises BadRecipe."""
    base = directory / "base.toml"
    own = directory / f"{architecture.name}.toml"
    parts = [(file, _parse(file)) for file in (base, own) if file == base or file.exists()]
    suite = parts[0][1].get("suite")
    if not isinstance(suite, str):
        raise BadRecipe(f"{base}: `suite` must name a release of Debian")
    lists: dict[str, tuple[str, ...]] = dict.fromkeys(_LISTS, ())
    tables: dict[str, dict[str, str]] = {key: {} for key in _TABLES}
    for file, content in parts:
        for key, value in content.items():
            if key in _LISTS and _is_texts(value, list):
                lists[key] += tuple(value)
            elif key in _TABLES and _is_texts(value, dict) and _are_absolute(value):
                tables[key] |= value
            elif key != "suite":
                raise BadRecipe(
                    f"{file}: `{key}` must be one of {', '.join(_LISTS)} with a list of strings, "
                    f"or one of {', '.join(_TABLES)} with a table from absolute paths to strings"
                )
    return Recipe(
        suite=suite,
        packages=lists["packages"],
        exclude=lists["exclude"],
        merged=lists["merged"],
        directories=lists["directories"],
        links=tables["links"],
        files={path: text.lstrip("\n") for path, text in tables["files"].items()},
    )


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadRecipe(f"{file}: {error}") from error


def _is_texts(value: Any, kind: type[list[Any] | dict[str, Any]]) -> bool:
    if not isinstance(value, kind):
        return False
    texts = value.values() if isinstance(value, dict) else value
    return all(isinstance(text, str) for text in texts)


def _are_absolute(table: dict[str, Any]) -> bool:
    return all(path.startswith("/") and ".." not in Path(path).parts for path in table)
