# SPDX-License-Identifier: BSD-3-Clause
"""Instructions around an address, by capstone. Pure: bytes in, lines out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import capstone

# The longest instruction of x86 has 15 bytes.
_X86_LONGEST = 15
_THUMB_BIT = 0x20  # CPSR.T, Arm Architecture Reference Manual


@dataclass(frozen=True)
class Instruction:
    """One decoded instruction."""

    address: int
    code: bytes
    text: str


def _engine(arch: str, thumb: bool) -> capstone.Cs:
    import capstone  # here, so that all else works where it is not installed

    if arch == "arm":
        mode = capstone.CS_MODE_THUMB if thumb else capstone.CS_MODE_ARM
        return capstone.Cs(capstone.CS_ARCH_ARM, mode)
    machine, mode = {
        "x86-64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "x86-32": (capstone.CS_ARCH_X86, capstone.CS_MODE_32),
        "arm64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    }[arch]
    return capstone.Cs(machine, mode)


def is_thumb(arch: str, flags: int) -> bool:
    """Does the thread run Thumb code? `flags` is its CPSR."""
    return arch == "arm" and bool(flags & _THUMB_BIT)


def reach(arch: str, count: int) -> int:
    """How many bytes `count` instructions can take at most."""
    return count * (_X86_LONGEST if arch.startswith("x86") else 4)


def _decode(engine: capstone.Cs, code: bytes, start: int) -> Iterator[Instruction]:
    for address, size, mnemonic, operands in engine.disasm_lite(code, start):
        at = address - start
        yield Instruction(address, code[at : at + size], f"{mnemonic} {operands}".strip())


def _lead(
    engine: capstone.Cs, before: bytes, pc: int, count: int, step: int, known: bool
) -> list[Instruction]:
    """Up to `count` instructions that end exactly at `pc`.

    With a variable length the right start is not known: of all starts the earliest counts whose
    instructions meet the PC. `known` says that `before` begins with an instruction.
    """
    starts = [0] if known else range(len(before) % step, len(before), step)
    for start in starts:
        found = list(_decode(engine, before[start:], pc - len(before) + start))
        if found and found[-1].address + len(found[-1].code) == pc:
            return found[-count:]
    return []


def around(
    arch: str, before: bytes, after: bytes, pc: int, count: int, *,
    thumb: bool = False, known: bool = False,
) -> list[Instruction]:  # fmt: skip
    """About `count` instructions around `pc`, whose own is among them if it can be decoded.

    `before` are the bytes that end at the PC (from the function's start if `known`), `after` those
    from it on. Returns an empty list when the bytes at the PC are no instruction.
    """
    engine = _engine(arch, thumb)
    step = 1 if arch.startswith("x86") else 2 if thumb else 4
    tail_count = count - count // 2
    lead = _lead(engine, before, pc, count // 2, step, known) if before else []
    tail = []
    for instruction in _decode(engine, after, pc):
        tail.append(instruction)
        if len(tail) == tail_count:
            break
    return [*lead, *tail] if tail else []
