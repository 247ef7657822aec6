# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap estimate`: how large a core would be, and how long the process would stand still."""

from __future__ import annotations

from typing import Any

import click

import coresnap
from coresnap_cli import processes, talk, units
from coresnap_cli.tables import Table


@click.command(
    epilog="""\b
Examples:
  coresnap estimate 4242
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
@click.option("--undumpable", is_flag=True, help="Also of what the kernel would not dump.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def estimate(
    text: str, filter_: int | None, stage_budget: int | None, undumpable: bool, as_json: bool
) -> None:
    """Say how large a core of the process would be, and how long it would stand still for it.

    The process is looked at, and not stopped. Whether it could be dumped is what doctor says.
    """
    found = coresnap.estimate(
        processes.parse_pid(text), filter=filter_, stage_budget=stage_budget, undumpable=undumpable
    )
    if as_json:
        talk.show_json("estimate", found.as_dict())
        return
    regions(found).show()
    print()
    pauses(found).show()


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
