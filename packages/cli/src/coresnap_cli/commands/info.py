# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap info`: what a core is of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

import coresnap
from coresnap_cli import talk
from coresnap_cli.cores import open_core, process_of
from coresnap_cli.escape import printable
from coresnap_cli.images import program_id


@click.command(
    epilog="""\b
Examples:
  coresnap info core.4242
  coresnap info core.4242 --json | jq -r .process.comm
"""
)
@click.argument("core", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def info(core: Path, as_json: bool) -> None:
    """Show what a core is of: process, architecture, sizes."""
    with open_core(core) as opened:
        fields = describe(opened, core)
    if as_json:
        talk.show_json("info", fields)
        return
    for label, value in rows(fields):
        print(f"{label:<12}{value}")


def describe(core: coresnap.Core, path: Path) -> dict[str, Any]:
    """Everything that `info` tells, as JSON values; text of the process is escaped."""
    process = process_of(core)
    signal = core.siginfo
    return {
        "core": printable(os.fsencode(path)),
        "arch": core.arch,
        "process": None
        if process is None
        else {
            "pid": process.pid,
            "ppid": process.ppid,
            "uid": process.uid,
            "gid": process.gid,
            "state": printable(process.sname),
            "nice": process.nice,
            "comm": printable(process.fname),
            "arguments": printable(process.psargs.rstrip()),
        },
        "executable": None if core.executable is None else printable(core.executable),
        "build_id": program_id(core),
        "threads": len(core.threads),
        "mappings": len(core.maps),
        "mapped_files": len({mapped.path for mapped in core.files}),
        "memory_mapped": sum(mapping.end - mapping.start for mapping in core.maps),
        "memory_kept": sum(mapping.filesz for mapping in core.maps),
        "memory_tagged": core.tags.memory,
        "core_size": core.file_size,
        "disk_size": path.stat().st_blocks * 512,
        "signal": None
        if signal is None
        else {"number": signal.signo, "code": signal.code, "errno": signal.errno},
    }


def rows(fields: dict[str, Any]) -> list[tuple[str, str]]:
    """Labels and values for people."""
    process = fields["process"] or {}
    unknown = "unknown"
    lines = [
        ("core", fields["core"]),
        ("process", f"{process['pid']} ({process['comm']})" if process else unknown),
        ("arguments", process.get("arguments", unknown)),
        ("executable", fields["executable"] or unknown),
        ("build-id", fields["build_id"] or "none"),
        ("arch", fields["arch"]),
    ]
    if process:
        lines += [
            ("user", f"uid {process['uid']}, gid {process['gid']}"),
            ("state", f"{process['state']}, nice {process['nice']}, parent {process['ppid']}"),
        ]
    signal = fields["signal"]
    if signal and signal["number"]:
        lines.append(("signal", f"{signal['number']} (code {signal['code']})"))
    mapped, kept = talk.size(fields["memory_mapped"]), talk.size(fields["memory_kept"])
    tagged = f", {talk.size(fields['memory_tagged'])} with tags" if fields["memory_tagged"] else ""
    lines += [
        ("threads", str(fields["threads"])),
        ("mappings", f"{fields['mappings']} of {fields['mapped_files']} files"),
        ("memory", f"{mapped} mapped, {kept} in the core{tagged}"),
        (
            "size",
            f"{talk.size(fields['core_size'])}, {talk.size(fields['disk_size'])} on disk",
        ),
    ]
    return lines
