# SPDX-License-Identifier: BSD-3-Clause
"""Values of options: numbers with units and the like, as click callbacks and types."""

from __future__ import annotations

import re
from pathlib import Path

import click

import coresnap

# The ranges of /proc/PID/livedump, and of the library.
NICE = click.IntRange(-20, 19)
IO_PRIO = click.IntRange(0, 7)
OOM_ADJ = click.IntRange(-17, 15)

_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)([KMGT]?)(?:i?B)?", re.ASCII)
_MAX = 2**64 - 1
_PERCENTAGE = re.compile(r"[1-9][0-9]?%", re.ASCII)
_SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(s|ms|us)?", re.ASCII)


def parse_number(text: str) -> int | None:
    """A decimal or 0x number with an optional K, M, G or T (powers of 1024); None if it is none."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    digits, unit = match.groups()
    value = int(digits, 16 if digits[:2] in ("0x", "0X") else 10) * _FACTORS[unit]
    return value if value <= _MAX else None


def number(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """An unsigned 64-bit number: bits or bytes."""
    parsed = None if value is None else parse_number(value)
    if value is not None and parsed is None:
        raise click.BadParameter(f"{value!r} is not a number like 51, 0x33 or 64M")
    return parsed


def size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A positive number of bytes."""
    parsed = number(ctx, param, value)
    if parsed == 0:
        raise click.BadParameter("0 bytes would be no core; leave the option out for no limit")
    return parsed


def limit(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A number of bytes that may be 0, or `unlimited`."""
    return coresnap.UNLIMITED if value == "unlimited" else number(ctx, param, value)


def core_limit(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A positive number of bytes, or `unlimited`, which is none."""
    return None if value == "unlimited" else size(ctx, param, value)


def min_free(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | str | None:
    """A positive number of bytes, or a percentage, which stays text."""
    if value is None or _PERCENTAGE.fullmatch(value):
        return value
    parsed = parse_number(value)
    if not parsed:
        raise click.BadParameter(f"{value!r} is not a size like 1GiB or a percentage like 10%")
    return parsed


def notes(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, int, bytes]]:
    """Notes as OWNER:TYPE:FILE: owner, type and the file's content."""
    found = []
    for value in values:
        owner, _, rest = value.partition(":")
        number, _, file = rest.partition(":")
        kind = parse_number(number)
        if not (owner and file) or kind is None or kind >= 2**32:
            raise click.BadParameter(f"{value!r} is not like example.org:1:build.txt")
        try:
            found.append((owner, kind, Path(file).read_bytes()))
        except OSError as error:
            raise click.BadParameter(f"{file!r} cannot be read: {error.strerror}") from error
    return found


def compression(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[coresnap.Compression, int | None]:
    """A compression as NAME or NAME:LEVEL."""
    if value is None:
        return coresnap.Compression.NONE, None
    name, colon, text = value.partition(":")
    try:
        level = int(text) if colon else None
        return coresnap.Compression(name), level
    except ValueError:
        known = ", ".join(coresnap.Compression)
        raise click.BadParameter(
            f"{value!r} is not one of {known}, with or without a level as in zstd:3"
        ) from None


def duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """A positive duration with a unit (s, ms or us), or in seconds."""
    if value is None:
        return None
    match = _DURATION.fullmatch(value.strip())
    parsed = float(match[1]) * _SECONDS[match[2] or ""] if match else 0.0
    if not 1e-9 <= parsed < 1e9:
        raise click.BadParameter(f"{value!r} is not a duration like 20ms or 0.5s")
    return parsed
