# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap maps`: the mappings of a core and how much of each is in it."""

from __future__ import annotations

from pathlib import Path

import click

import coresnap
from coresnap_cli import talk
from coresnap_cli.cores import open_core
from coresnap_cli.escape import printable
from coresnap_cli.tables import Table

_AT_SYSINFO_EHDR = 33


@click.command(
    epilog="""\b
Examples:
  coresnap maps core.4242
  coresnap maps core.4242 --json | jq '.maps[] | select(.kept == 0)'
"""
)
@click.argument("core", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def maps(core: Path, as_json: bool) -> None:
    """List the mappings of a core: addresses, rights, sizes, files.

    KEPT is what the core holds of a mapping, holes included.
    """
    with open_core(core) as opened:
        vdso = dict(opened.auxv).get(_AT_SYSINFO_EHDR)
        listed = [(mapping, *named(opened, mapping, vdso)) for mapping in opened.maps]
    if as_json:
        talk.show_json(
            "maps",
            {
                "maps": [
                    {
                        "start": hex(mapping.start),
                        "end": hex(mapping.end),
                        "perms": mapping.perms,
                        "size": mapping.end - mapping.start,
                        "kept": mapping.filesz,
                        "path": path or None,
                        "offset": None if offset is None else hex(offset),
                    }
                    for mapping, path, offset in listed
                ]
            },
        )
        return
    table = Table(
        "START", "END", "PERM", "SIZE", "KEPT", "OFFSET", "FILE",
        right=("START", "END", "SIZE", "KEPT", "OFFSET"),
    )  # fmt: skip
    for mapping, path, offset in listed:
        table.add(
            f"{mapping.start:#x}",
            f"{mapping.end:#x}",
            mapping.perms,
            talk.size(mapping.end - mapping.start),
            talk.size(mapping.filesz) if mapping.filesz else "-",
            "" if offset is None else f"{offset:#x}",
            path,
        )
    table.show()


def named(
    core: coresnap.Core, mapping: coresnap.Mapping, vdso: int | None
) -> tuple[str, int | None]:
    """A mapping's file, escaped, and the offset in it; "" and None for memory without a file."""
    mapped = core.file_at(mapping.start)
    if mapped is not None:
        return printable(mapped.path), mapped.offset + mapping.start - mapped.start
    return ("[vdso]" if mapping.start == vdso else ""), None
