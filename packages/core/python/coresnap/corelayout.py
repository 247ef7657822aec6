# SPDX-License-Identifier: BSD-3-Clause
"""What the kernel puts into a core, per architecture, as data.

The layouts are those of include/linux/elfcore.h, include/linux/elfcore-compat.h and each
architecture's uapi headers, spelled by offset so that any host reads the core of any target.
They are written down independently of the dumper's own tables: the reader judges what the dumper
writes, so a mistake must not be able to hide in both.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

PT_LOAD = 1
PT_NOTE = 4
# From here on the numbers are those of the machine.
PT_LOPROC = 0x70000000
# include/uapi/linux/elf.h
PT_AARCH64_MEMTAG_MTE = 0x70000002
PF_X = 1
PF_W = 2
PF_R = 4
PN_XNUM = 0xFFFF

NT_PRSTATUS = 1
NT_PRFPREG = 2
NT_PRPSINFO = 3
NT_AUXV = 6
NT_SIGINFO = 0x53494749
NT_FILE = 0x46494C45
NT_X86_XSTATE = 0x202
NT_X86_XSAVE_LAYOUT = 0x205
NT_GNU_BUILD_ID = 3

# arch/arm64/include/asm/mte-def.h: MTE_GRANULE_SIZE, and what MTE_PAGE_TAG_STORAGE comes to.
TAG_GRANULE = 16
TAGGED_BY_A_BYTE = 2 * TAG_GRANULE

AT_NULL = 0
AT_PHDR = 3
AT_ENTRY = 9

# include/uapi/linux/elf.h. The kernel names the first group's owner "CORE" and the rest "LINUX";
# a number below 0x10 means something else with every other owner.
CORE_NOTE_NAMES = {
    1: "NT_PRSTATUS",
    2: "NT_PRFPREG",
    3: "NT_PRPSINFO",
    4: "NT_TASKSTRUCT",
    6: "NT_AUXV",
    0x53494749: "NT_SIGINFO",
    0x46494C45: "NT_FILE",
}
LINUX_NOTE_NAMES = {
    0x46E62B7F: "NT_PRXFPREG",
    0x200: "NT_386_TLS",
    0x201: "NT_386_IOPERM",
    0x202: "NT_X86_XSTATE",
    0x204: "NT_X86_SHSTK",
    0x205: "NT_X86_XSAVE_LAYOUT",
    0x400: "NT_ARM_VFP",
    0x401: "NT_ARM_TLS",
    0x402: "NT_ARM_HW_BREAK",
    0x403: "NT_ARM_HW_WATCH",
    0x404: "NT_ARM_SYSTEM_CALL",
    0x405: "NT_ARM_SVE",
    0x406: "NT_ARM_PAC_MASK",
    0x407: "NT_ARM_PACA_KEYS",
    0x408: "NT_ARM_PACG_KEYS",
    0x409: "NT_ARM_TAGGED_ADDR_CTRL",
    0x40A: "NT_ARM_PAC_ENABLED_KEYS",
    0x40B: "NT_ARM_SSVE",
    0x40C: "NT_ARM_ZA",
    0x40D: "NT_ARM_ZT",
    0x40E: "NT_ARM_FPMR",
    0x40F: "NT_ARM_POE",
    0x410: "NT_ARM_GCS",
}
_NOTE_NAMES = {"CORE": CORE_NOTE_NAMES, "LINUX": LINUX_NOTE_NAMES}

# Notes that describe the process although they may stand between those of a thread. NT_SIGINFO is
# not here: the kernel writes one for the process, gdb's gcore one for each thread.
PROCESS_NOTES = frozenset(
    {
        ("CORE", NT_PRPSINFO),
        ("CORE", NT_AUXV),
        ("CORE", NT_FILE),
        ("LINUX", NT_X86_XSAVE_LAYOUT),
    }
)

# include/uapi/linux/auxvec.h and the architectures' asm/auxvec.h.
AUXV_NAMES = {
    0: "AT_NULL",
    1: "AT_IGNORE",
    2: "AT_EXECFD",
    3: "AT_PHDR",
    4: "AT_PHENT",
    5: "AT_PHNUM",
    6: "AT_PAGESZ",
    7: "AT_BASE",
    8: "AT_FLAGS",
    9: "AT_ENTRY",
    10: "AT_NOTELF",
    11: "AT_UID",
    12: "AT_EUID",
    13: "AT_GID",
    14: "AT_EGID",
    15: "AT_PLATFORM",
    16: "AT_HWCAP",
    17: "AT_CLKTCK",
    23: "AT_SECURE",
    24: "AT_BASE_PLATFORM",
    25: "AT_RANDOM",
    26: "AT_HWCAP2",
    27: "AT_RSEQ_FEATURE_SIZE",
    28: "AT_RSEQ_ALIGN",
    29: "AT_HWCAP3",
    30: "AT_HWCAP4",
    31: "AT_EXECFN",
    32: "AT_SYSINFO",
    33: "AT_SYSINFO_EHDR",
    51: "AT_MINSIGSTKSZ",
}


def note_name(owner: str, number: int) -> str:
    """The kernel's name of a note type, or the number in hex (with its owner) if it has none."""
    known = _NOTE_NAMES.get(owner)
    if known is None:
        return f"{owner}/{number:#x}"
    return known.get(number, f"{number:#x}")


def auxv_name(key: int) -> str:
    """The kernel's name of an auxiliary vector entry, or ``AT_<number>``."""
    return AUXV_NAMES.get(key, f"AT_{key}")


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a kernel structure: ``code`` is a struct format without byte order."""

    name: str
    offset: int
    code: str

    @property
    def size(self) -> int:
        return struct.calcsize("<" + self.code)


@dataclass(frozen=True)
class Layout:
    """A kernel structure of ``size`` bytes; bytes that no field claims are padding."""

    name: str
    size: int
    fields: tuple[Field, ...]

    @cached_property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """The unclaimed (start, end) byte ranges."""
        gaps = []
        at = 0
        for item in self.fields:
            if item.offset > at:
                gaps.append((at, item.offset))
            at = item.offset + item.size
        if at < self.size:
            gaps.append((at, self.size))
        return tuple(gaps)

    @cached_property
    def _decoder(self) -> struct.Struct:
        parts = ["<"]
        at = 0
        for item in self.fields:
            parts.append(f"{item.offset - at}x{item.code}")
            at = item.offset + item.size
        parts.append(f"{self.size - at}x")
        return struct.Struct("".join(parts))

    def decode(self, data: bytes) -> dict[str, int | bytes]:
        """Values by field name; a time (two words: seconds, microseconds) becomes nanoseconds."""
        values = iter(self._decoder.unpack(data))
        return {item.name: _value(item, values) for item in self.fields}

    def decode_field(self, item: Field, data: bytes) -> int | bytes:
        """One field's value out of the bytes of the whole structure."""
        return _value(item, iter(struct.unpack_from("<" + item.code, data, item.offset)))


def _value(item: Field, values: Iterable[int | bytes]) -> int | bytes:
    iterator = iter(values)
    first = next(iterator)
    if item.code in ("qq", "ii"):
        return int(first) * 1_000_000_000 + int(next(iterator)) * 1_000
    return first


def _fields(spec: str) -> tuple[Field, ...]:
    rows = (row.split() for row in spec.strip().splitlines())
    return tuple(Field(name, int(offset), code) for offset, code, name in rows)


# struct elf_prstatus up to pr_reg; pr_fpvalid follows the registers.
_PRSTATUS_64 = _fields("""
    0   i  si_signo
    4   i  si_code
    8   i  si_errno
    12  h  pr_cursig
    16  Q  pr_sigpend
    24  Q  pr_sighold
    32  i  pr_pid
    36  i  pr_ppid
    40  i  pr_pgrp
    44  i  pr_sid
    48  qq pr_utime
    64  qq pr_stime
    80  qq pr_cutime
    96  qq pr_cstime
""")
_PRSTATUS_32 = _fields("""
    0   i  si_signo
    4   i  si_code
    8   i  si_errno
    12  h  pr_cursig
    16  I  pr_sigpend
    20  I  pr_sighold
    24  i  pr_pid
    28  i  pr_ppid
    32  i  pr_pgrp
    36  i  pr_sid
    40  ii pr_utime
    48  ii pr_stime
    56  ii pr_cutime
    64  ii pr_cstime
""")

# struct elf_prpsinfo. pr_uid and pr_gid have 16 bits where __kernel_uid_t has (i386, arm).
_PRPSINFO_64 = _fields("""
    0   b  pr_state
    1   c  pr_sname
    2   b  pr_zomb
    3   b  pr_nice
    8   Q  pr_flag
    16  I  pr_uid
    20  I  pr_gid
    24  i  pr_pid
    28  i  pr_ppid
    32  i  pr_pgrp
    36  i  pr_sid
    40  16s pr_fname
    56  80s pr_psargs
""")
_PRPSINFO_32 = _fields("""
    0   b  pr_state
    1   c  pr_sname
    2   b  pr_zomb
    3   b  pr_nice
    4   I  pr_flag
    8   H  pr_uid
    10  H  pr_gid
    12  i  pr_pid
    16  i  pr_ppid
    20  i  pr_pgrp
    24  i  pr_sid
    28  16s pr_fname
    44  80s pr_psargs
""")


@dataclass(frozen=True)
class Arch:
    """One architecture: how it is named, recognised and laid out."""

    name: str
    machine: int
    elf_class: int
    registers: tuple[str, ...]
    pc: str
    sp: str
    prstatus: Layout = field(repr=False)
    prpsinfo: Layout = field(repr=False)
    tag_segment: int | None = None
    """The type of the segments that hold allocation tags of memory."""

    @property
    def word(self) -> str:
        """Format of an unsigned long."""
        return "Q" if self.elf_class == 64 else "I"


def _arch(
    name: str,
    machine: int,
    elf_class: int,
    registers: str,
    pc: str,
    sp: str,
    tag_segment: int | None = None,
) -> Arch:
    names = tuple(registers.split())
    wide = elf_class == 64
    word = 8 if wide else 4
    at = 112 if wide else 72
    regs = tuple(Field(reg, at + i * word, "Q" if wide else "I") for i, reg in enumerate(names))
    end = at + len(names) * word
    fpvalid = Field("pr_fpvalid", end, "i")
    head = _PRSTATUS_64 if wide else _PRSTATUS_32
    return Arch(
        name=name,
        machine=machine,
        elf_class=elf_class,
        registers=names,
        pc=pc,
        sp=sp,
        prstatus=Layout("prstatus", end + word, (*head, *regs, fpvalid)),
        prpsinfo=Layout("prpsinfo", 136 if wide else 124, _PRPSINFO_64 if wide else _PRPSINFO_32),
        tag_segment=tag_segment,
    )


# Registers in the order of user_regs_struct (x86), pt_regs (arm) and user_pt_regs (arm64).
ARCHES = (
    _arch(
        "x86-64",
        62,
        64,
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
        "fs_base gs_base ds es fs gs",
        "rip",
        "rsp",
    ),
    _arch(
        "x86-32",
        3,
        32,
        "ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss",
        "eip",
        "esp",
    ),
    _arch(
        "arm",
        40,
        32,
        "r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 r11 r12 sp lr pc cpsr orig_r0",
        "pc",
        "sp",
    ),
    _arch(
        "arm64",
        183,
        64,
        "".join(f"x{i} " for i in range(31)) + "sp pc pstate",
        "pc",
        "sp",
        PT_AARCH64_MEMTAG_MTE,
    ),
)
PC_NAMES = frozenset(arch.pc for arch in ARCHES)
SP_NAMES = frozenset(arch.sp for arch in ARCHES)

# The extended state in its standard form (Intel SDM vol. 1, 13.4): 512 bytes as FXSAVE writes
# them, a header, then components. Only the first two and AVX have a place of their own on every
# processor; for the others the core must say (NT_X86_XSAVE_LAYOUT).
XSAVE_FIXED = {0: (0, 160), 1: (160, 256), 2: (576, 256)}
