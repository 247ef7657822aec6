# SPDX-License-Identifier: BSD-3-Clause
"""Fragments of kernel configurations: which make a kernel, and whether kconfig took them whole.

A fragment's line is one option, ``CONFIG_NAME=value``, where ``n`` is a value too. A mark behind
it, ``# not arm 6.1``, says where kconfig drops the option: on these architectures or kernel lines.
Such an option is asked for all the same; if it is ever there, the mark has become wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.architectures import ARCHITECTURES, Architecture
from lab.kernels.errors import KernelError

FRAGMENTS = Path(__file__).resolve().parent / "fragments"

LINES = ("6.1", "6.12")
"""The kernel lines that Debian packages the source of."""

VARIANTS: Mapping[str, frozenset[str]] = {
    "no-lpae": frozenset({"arm"}),
    "no-core": frozenset(architecture.name for architecture in ARCHITECTURES),
    "sme": frozenset({"arm64"}),
    "debug": frozenset({"arm", "x86-64"}),
    "no-livedump": frozenset({"arm", "x86-64"}),
}
"""Variants, each with the architectures that have it. The plain kernel is the variant ''."""

_OPTION = re.compile(r"(CONFIG_\w+)=(\S+|\"[^\"]*\")(?:\s+# not ((?:\S+ ?)+))?")
_SET = re.compile(r"(CONFIG_\w+)=(.*)")
_WIDTHS_OF_X86 = frozenset({"x86-32", "x86-64"})


class BadFragment(KernelError):
    """A fragment asks for what is not understood, or for what kconfig does not give."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One line of a fragment. ``lacking`` are the marks; ``where`` is ``FILE:LINE``."""

    name: str
    value: str
    lacking: frozenset[str]
    where: str


def fragments(architecture: Architecture, variant: str = "") -> tuple[Path, ...]:
    """The fragments of a kernel; a later one overrides an earlier one."""
    names = ["common"]
    if architecture.name in _WIDTHS_OF_X86:
        names.append("x86")
    names.append(architecture.name)
    if variant:
        names.append(variant)
    found = [FRAGMENTS / f"{name}.config" for name in names]
    of_both = FRAGMENTS / f"{variant}-{architecture.name}.config"
    return (*found, of_both) if of_both.exists() else tuple(found)


def read(fragment: Path) -> list[Option]:
    """The options of one fragment, in its order. Error: BadFragment for a line that is none."""
    options = []
    known = {*LINES, *(architecture.name for architecture in ARCHITECTURES)}
    for number, line in enumerate(fragment.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        found = _OPTION.fullmatch(line)
        lacking = frozenset((found[3] or "").split()) if found else frozenset()
        if found is None or not lacking <= known:
            raise BadFragment(
                f"{fragment}:{number}: {line!r} is not CONFIG_NAME=value, with or without a mark "
                f"'# not' and names out of {', '.join(sorted(known))}."
            )
        where = f"{fragment.name}:{number}"
        options.append(Option(name=found[1], value=found[2], lacking=lacking, where=where))
    return options


def wanted(architecture: Architecture, variant: str = "") -> dict[str, Option]:
    """Every option of a kernel by its name, as the last fragment has it. Error: BadFragment."""
    options: dict[str, Option] = {}
    for fragment in fragments(architecture, variant):
        for option in read(fragment):
            options[option.name] = option
    return options


def all_config(options: Iterable[Option]) -> str:
    """The options as kconfig's KCONFIG_ALLCONFIG takes them."""
    return "".join(f"{option.name}={option.value}\n" for option in options)


def problems(options: Iterable[Option], config: str, *, at: Iterable[str]) -> list[str]:
    """What a finished .config does otherwise than the options say, a line each.

    ``at`` names the architecture and the line of this kernel, as marks do.
    """
    here = frozenset(at)
    values = {found[1]: found[2] for found in map(_SET.fullmatch, config.splitlines()) if found}
    said = []
    for option in options:
        value = values.get(option.name, "n")
        marks = sorted(option.lacking & here)
        if marks and value == option.value:
            said.append(f"{option.where}: {option.name} is there, so '# not {marks[0]}' is wrong")
        elif not marks and value != option.value:
            said.append(f"{option.where}: {option.name}={option.value} became {value}")
    return said
