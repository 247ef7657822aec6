# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap notes`: the notes of a core, in file order."""

from __future__ import annotations

from pathlib import Path

import click

from coresnap_cli import talk
from coresnap_cli.cores import open_core
from coresnap_cli.escape import printable
from coresnap_cli.tables import Table


@click.command(
    epilog="""\b
Examples:
  coresnap notes core.4242
  coresnap notes core.4242 --json --bytes | jq -r '.notes[0].bytes'
"""
)
@click.argument("core", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--bytes", "with_bytes", is_flag=True, help="Show the contents too, in hex.")
def notes(core: Path, as_json: bool, with_bytes: bool) -> None:
    """List the notes of a core: owner, type, size."""
    with open_core(core) as opened:
        thread_of = {note.offset: thread.tid for thread in opened.threads for note in thread.notes}
        listed = opened.notes
    if as_json:
        talk.show_json(
            "notes",
            {
                "notes": [
                    {
                        "owner": printable(note.owner),
                        "type": note.type,
                        "name": printable(note.name),
                        "size": len(note.desc),
                        "offset": note.offset,
                        "tid": thread_of.get(note.offset),
                        **({"bytes": note.desc.hex()} if with_bytes else {}),
                    }
                    for note in listed
                ]
            },
        )
        return
    table = Table("OFFSET", "OWNER", "TYPE", "SIZE", "TID", right=("OFFSET", "SIZE", "TID"))
    for note in listed:
        table.add(
            f"{note.offset:#x}",
            printable(note.owner),
            printable(note.name),
            len(note.desc),
            thread_of.get(note.offset, ""),
        )
        if with_bytes:
            for line in hex_lines(note.desc):
                table.add("", "", line, "", "")
    table.show()


def hex_lines(data: bytes) -> list[str]:
    """32 bytes a line, each with its offset."""
    return [f"{at:06x}  {data[at : at + 32].hex(' ', 4)}" for at in range(0, len(data), 32)]
