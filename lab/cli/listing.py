# SPDX-License-Identifier: BSD-3-Clause
"""``list`` and ``prune``: what the lab's cache holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import click
from rich.table import Table

from lab import matrix
from lab.architectures import ARCHITECTURES, Architecture
from lab.cache import Cache, Entry
from lab.cli import talk
from lab.guest import emulator
from lab.guest.errors import QemuMissing
from lab.kernels import kconfig, own


def newest(entries: Iterable[Entry]) -> Mapping[tuple[str, str], Entry]:
    """By kind and name, the entry that was used last: the current one, as a rule."""
    return {(entry.kind, entry.name): entry for entry in sorted(entries, key=lambda it: it.used)}


def kernels(architecture: Architecture) -> list[str]:
    """Every kernel that a guest of the architecture can have."""
    names = [matrix.STOCK]
    for line in kconfig.LINES:
        variants = [name for name, which in kconfig.VARIANTS.items() if architecture.name in which]
        names += [own.kernel_name(line, variant) for variant in ("", *variants)]
    return names


def age(moment: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that fits: "12 s", "3 min", "5 h", "2 d"."""
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _cached(entry: Entry | None) -> str:
    return f"{talk.size(entry.size)}, {entry.path.name}" if entry else "not there"


def _machines(entries: list[Entry]) -> Table:
    have = newest(entries)
    table = Table("architecture", "emulator", "kernel", "kernel built", "image", "state", box=None)
    for architecture in ARCHITECTURES:
        name = architecture.name
        try:
            version = emulator.require(architecture).partition("version ")[2].partition(" ")[0]
        except QemuMissing:
            version = f"no {architecture.qemu}"
        image = _cached(have.get(("images", name)))
        for kernel in kernels(architecture):
            table.add_row(
                name,
                version,
                kernel,
                _cached(have.get(("kernels", f"{kernel}-{architecture.name}"))),
                image,
                _cached(have.get(("state", f"{architecture.name}-{kernel}"))),
            )
            name = version = image = ""
    return table


def _entries(entries: list[Entry]) -> Table:
    now = datetime.now(UTC)
    table = Table("kind", "entry", "size", "made", "used", box=None)
    table.columns[2].justify = "right"
    for entry in entries:
        size = talk.size(entry.size)
        ages = (f"{age(moment, now)} ago" for moment in (entry.made, entry.used))
        table.add_row(entry.kind, entry.path.name, size, *ages)
    return table


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Also every entry of the cache.")
def list_(*, everything: bool) -> None:
    """Architectures, kernels, images and states: which are there, how large, under which key."""
    with talk.told():
        cache = Cache.default()
        entries = cache.entries()
        console = talk.console()
        console.print(_machines(entries))
        if everything:
            console.print()
            console.print(_entries(entries))
        total = talk.size(sum(entry.size for entry in entries))
        talk.say(f"{len(entries)} entries, {total}, below {cache.root}")


@click.command()
@click.option("--days", type=click.FloatRange(min=0), help="What was not used for so many days.")
@click.option("--entry", "names", metavar="NAME", multiple=True, help="This entry of `list --all`.")
@click.option("--all", "everything", is_flag=True, help="All that nobody uses just now.")
def prune(*, days: float | None, names: tuple[str, ...], everything: bool) -> None:
    """Remove entries of the cache, and what killed builds left.

    An entry that a running test or guest uses stays.
    """
    if days is None and not names and not everything:
        raise click.UsageError("say what to remove: --days N, --entry NAME or --all")
    with talk.told():
        cache = Cache.default()
        unknown = sorted(set(names) - {path.name for path in cache.root.glob("*/*")})
        if unknown:
            raise talk.LabError(
                f"The cache {cache.root} has no entry {', '.join(unknown)}. The names are those "
                "of `coresnap-lab list --all`. Nothing was removed."
            )
        removed = cache.prune(keep_days=days or 0, only=names)
        for path in removed:
            click.echo(path)
        talk.say(f"{len(removed)} removed")
