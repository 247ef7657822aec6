# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap estimate`: how large a core would be, and how long the process would stand still.

Also what of which file system it would take.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import coresnap
from coresnap_cli import paths, processes, talk, units
from coresnap_cli.escape import printable
from coresnap_cli.tables import Table

# Of the library, for a core that goes to a descriptor.
_TEMPORARY = Path("/var/tmp")


@dataclass(frozen=True)
class Need:
    """What of a disk a dump would take: bytes of the file system of a directory."""

    what: str
    needed: int
    directory: Path

    @property
    def free(self) -> int | None:
        """What any user may have of it; None if it does not tell."""
        try:
            found = os.statvfs(self.directory)
        except (OSError, ValueError):
            return None
        return found.f_bavail * found.f_frsize if found.f_blocks else None

    def as_dict(self) -> dict[str, Any]:
        """The fields for --json."""
        return {
            "what": self.what,
            "needed": self.needed,
            "free": self.free,
            "directory": printable(os.fsencode(self.directory)),
        }


@click.command(
    epilog="""\b
Examples:
  coresnap estimate 4242
  coresnap estimate 4242 -o /var/crash      what is free there
  coresnap estimate 4242 --json | jq .pauses.fork.expected_ns
"""
)
@click.argument("text", metavar="PID")
@click.option(
    "--filter", "filter_", callback=units.number, metavar="BITS",
    help="As with these bits (see core(5)) instead of /proc/PID/coredump_filter.",
)  # fmt: skip
@click.option(
    "--stage-budget", callback=units.size, metavar="BYTES",
    help="As with so much memory for the method stop.  [default: 1/8 of what is available]",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="PATH|-",
    help="As for a core that goes there.  [default: the current directory]",
)  # fmt: skip
@click.option("--undumpable", is_flag=True, help="Also of what the kernel would not dump.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def estimate(
    text: str, filter_: int | None, stage_budget: int | None, output: Path | None,
    undumpable: bool, as_json: bool,
) -> None:  # fmt: skip
    """Say how large a core of the process would be, and how long it would stand still for it.

    The process is looked at, and not stopped. Whether it could be dumped is what doctor says.
    """
    found = coresnap.estimate(
        processes.parse_pid(text), filter=filter_, stage_budget=stage_budget, undumpable=undumpable
    )
    needs = disk_needs(found, output)
    if as_json:
        disk = [need.as_dict() for need in needs]
        talk.show_json("estimate", {**found.as_dict(), "disk": disk})
        return
    regions(found).show()
    print()
    pauses(found).show()
    if needs:
        print()
        disks(needs).show()


def regions(found: coresnap.Estimate) -> Table:
    """The memory by kind, and all of it."""
    table = Table(
        "REGION", "MAPPINGS", "MAPPED", "RESIDENT", "IN THE CORE",
        right=("MAPPINGS", "MAPPED", "RESIDENT", "IN THE CORE"),
    )  # fmt: skip
    rows = [(str(region), size) for region, size in found.regions.items() if size.mappings]
    for name, size in [*rows, ("total", _total(found))]:
        sizes = map(talk.size, (size.mapped, size.resident, size.kept))
        table.add(name, size.mappings, *sizes)
    return table


def _total(found: coresnap.Estimate) -> coresnap.RegionSize:
    all_of: dict[str, Any] = {
        name: sum(getattr(size, name) for size in found.regions.values())
        for name in ("mappings", "mapped", "resident", "kept")
    }
    return coresnap.RegionSize(**all_of)


def pauses(found: coresnap.Estimate) -> Table:
    """A row for each method, the one that auto would take with a star."""
    table = Table("METHOD", "PAUSE", "LEAST", "MOST", "FOR", right=("PAUSE", "LEAST", "MOST"))
    for method, pause in found.pauses.items():
        star = " *" if method is found.method else ""
        times = map(talk.milliseconds, (pause.expected_ns, pause.least_ns, pause.most_ns))
        table.add(f"{method}{star}", *times, pause.basis)
    return table


def disk_needs(found: coresnap.Estimate, output: Path | None) -> list[Need]:
    """What a dump would take of disks, and what precopy would besides."""
    if str(output) == "-":
        needs = [Need("precopy", found.beside_fd, _TEMPORARY)]
    else:
        place = _directory(output)
        needs = [Need("core", found.kept, place), Need("precopy", found.beside_path, place)]
    return [need for need in needs if need.needed]


def _directory(output: Path | None) -> Path:
    if output is None:
        return Path()
    return output if paths.is_directory(output) else output.parent


def disks(needs: list[Need]) -> Table:
    """A row for each."""
    table = Table("DISK", "NEEDED", "FREE", "DIRECTORY", right=("NEEDED", "FREE"))
    for need in needs:
        free = "unknown" if need.free is None else talk.size(need.free)
        table.add(need.what, talk.size(need.needed), free, printable(os.fsencode(need.directory)))
    return table
