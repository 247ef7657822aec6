# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap disasm`: the code around each thread's PC."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import coresnap
from coresnap_cli import talk
from coresnap_cli.cores import open_core
from coresnap_cli.disassembly import Instruction, around, is_thumb, reach
from coresnap_cli.images import Images, Place, images_of

# A longer function is decoded from somewhere before its PC, not from its start.
_LONGEST_LEAD = 64 << 10


@dataclass(frozen=True)
class Excerpt:
    """A thread's code; `instructions` is empty if no bytes of it were found."""

    tid: int
    pc: int
    place: Place
    instructions: list[Instruction]


@click.command(
    epilog="""\b
Examples:
  coresnap disasm core.4242
  coresnap disasm core.4242 --tid 4250 --count 40
"""
)
@click.argument("core", type=click.Path(path_type=Path))
@click.option("--tid", type=int, help="Only this thread.")
@click.option(
    "--count", type=click.IntRange(1, 10_000), default=10, show_default=True,
    help="Instructions for each thread, half of them before the PC.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def disasm(core: Path, tid: int | None, count: int, as_json: bool) -> None:
    """Disassemble around each thread's PC.

    A core of the kernel's kind holds no code of files: it is then read from the file that was
    mapped, if that is still here with the same build-id.
    """
    with open_core(core) as opened, images_of(opened, core) as images:
        chosen = [thread for thread in opened.threads if tid is None or thread.tid == tid]
        if tid is not None and not chosen:
            talk.die(f"the core has no thread {tid}", hint=f"see `coresnap threads {core}`")
        excerpts = [excerpt(opened, images, thread, count) for thread in chosen]
    if as_json:
        talk.show_json("disasm", {"threads": [_fields(found) for found in excerpts]})
        return
    for number, found in enumerate(excerpts):
        if number:
            print()
        for line in lines(found):
            print(line)


def excerpt(core: coresnap.Core, images: Images, thread: coresnap.Thread, count: int) -> Excerpt:
    """The code around one thread's PC."""
    pc = thread.pc
    place = images.place(pc)
    known = place.symbol is not None and place.offset <= _LONGEST_LEAD
    length = reach(core.arch, count)
    found = around(
        core.arch,
        images.text_before(pc, place.offset if known else length),
        images.text_at(pc, length),
        pc,
        count,
        thumb=is_thumb(core.arch, thread.regs.get("cpsr", 0)),
        known=known,
    )
    return Excerpt(thread.tid, pc, place, found)


def _fields(found: Excerpt) -> dict[str, Any]:
    return {
        "tid": found.tid,
        "pc": hex(found.pc),
        "at": found.place.text,
        "instructions": [
            {
                "address": hex(instruction.address),
                "bytes": instruction.code.hex(),
                "text": instruction.text,
            }
            for instruction in found.instructions
        ],
    }


def lines(found: Excerpt) -> list[str]:
    """One thread for people; the arrow marks what runs next."""
    text = [f"thread {found.tid} at {found.pc:#x} {found.place.text}"]
    if not found.instructions:
        text.append("   (no code: neither the core nor a file of this system holds it)")
    for instruction in found.instructions:
        mark = "=>" if instruction.address == found.pc else "  "
        code = instruction.code.hex(" ")
        text.append(f"{mark} {instruction.address:#x}  {code:<30}  {instruction.text}")
    return text
