# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap threads`: where every thread stands."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from coresnap_cli import talk
from coresnap_cli.cores import open_core
from coresnap_cli.escape import printable
from coresnap_cli.images import images_of
from coresnap_cli.tables import Table


@click.command(
    epilog="""\b
Examples:
  coresnap threads core.4242
  coresnap threads core.4242 --json | jq '.threads[].at'
"""
)
@click.argument("core", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with all registers.")
def threads(core: Path, as_json: bool) -> None:
    """List the threads of a core: PC, SP, signals, function."""
    with open_core(core) as opened, images_of(opened, core) as images:
        places = [images.place(thread.pc) for thread in opened.threads]
        if as_json:
            listed = [
                {
                    "tid": thread.tid,
                    "pc": hex(thread.pc),
                    "sp": hex(thread.sp),
                    "at": {
                        "symbol": place.symbol,
                        "offset": hex(place.offset),
                        "mapping": place.mapping,
                    },
                    "pending": signal_names(thread.prstatus.sigpend),
                    "blocked": signal_names(thread.prstatus.sighold),
                    "utime_ns": thread.prstatus.utime,
                    "stime_ns": thread.prstatus.stime,
                    "registers": {name: hex(value) for name, value in thread.regs.items()},
                    "notes": [printable(note.name) for note in thread.notes],
                }
                for thread, place in zip(opened.threads, places, strict=True)
            ]
            talk.show_json("threads", {"threads": listed})
            return
        table = Table("TID", "PC", "SP", "PENDING", "BLOCKED", "AT", right=("TID",))
        for thread, place in zip(opened.threads, places, strict=True):
            table.add(
                thread.tid,
                f"{thread.pc:#x}",
                f"{thread.sp:#x}",
                masked(thread.prstatus.sigpend),
                masked(thread.prstatus.sighold),
                place.text,
            )
    table.show()


def signal_names(mask: int) -> list[str]:
    """The signals of a mask of NT_PRSTATUS; bit 0 is signal 1."""
    return [_name(number) for number in range(1, 65) if mask >> (number - 1) & 1]


def _name(number: int) -> str:
    if number >= 32:  # real-time signals as the kernel counts them; libc keeps the first for itself
        return f"RT{number - 32}"
    return signal.Signals(number).name.removeprefix("SIG")


def masked(mask: int) -> str:
    """A mask for a table: a few names, or the bits."""
    names = signal_names(mask)
    if not names:
        return "-"
    return ",".join(names) if len(names) <= 4 else f"{mask:#x}"
