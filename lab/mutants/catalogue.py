# SPDX-License-Identifier: BSD-3-Clause
"""Faults for the C writer, each with the one cell of the lab that must see it.

A mutant replaces a text that stands exactly once in a file of packages/core/src. One whose text is
not there, or there twice, fails: the sources went on, and it must follow them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lab.architectures import ARM, ARM64, X86_32, X86_64
from lab.matrix import STOCK


class Judge(StrEnum):
    """Who sees a fault: see sightings.py."""

    KERNEL = "kernel"
    TRUTH = "truth"
    READER = "reader"
    DUMPER = "dumper"


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One fault.

    ``file`` is named below packages/core/src. ``said`` is a pattern for the whole of what the
    ``judge`` must say in the cell of ``row`` and ``method``: to the kernel it is the path of a
    difference that no rule allows.
    """

    name: str
    file: str
    search: str
    replacement: str
    row: str
    method: str = "stop"
    judge: Judge = Judge.KERNEL
    said: str

    @property
    def cell(self) -> str:
        """As in ``threads-64/x86-64:stop``."""
        return f"{self.row}:{self.method}"


_REGISTERS = (
    Mutant(
        name="a wrong register",
        file="note.c",
        search="\tmemcpy(desc + head, t->regsets[0].bytes, t->regsets[0].size);\n",
        replacement="\tmemcpy(desc + head, t->regsets[0].bytes, t->regsets[0].size);\n"
        "\tarch_set(arch, desc + head, arch->ret, arch_get(arch, desc + head, arch->orig_nr));\n",
        row="one-thread/x86-64",
        said=r"thread\[\d+\]\.prstatus\.rax",
    ),
    Mutant(
        name="stale registers",
        file="snapshot.c",
        search="&arch->regsets[0], thread->gregs, thread->gregs_len,",
        replacement="&arch->regsets[0], thread->gregs_out, thread->gregs_len,",
        row="blocked/x86-64",
        said=r"thread\[\d+\]\.prstatus\.rax",
    ),
    Mutant(
        name="floating point that is not valid",
        file="note.c",
        search="fpvalid = has_fp(t);",
        replacement="fpvalid = !has_fp(t);",
        row="threads-64/x86-32",
        said=r"thread\[\d+\]\.prstatus\.pr_fpvalid",
    ),
    Mutant(
        name="XSTATE cut off",
        file="arch/x86_64.c",
        search=".type = NT_X86_XSTATE, .max_size = X86_MAX_XSTATE }",
        replacement=".type = NT_X86_XSTATE, .max_size = 576 }",
        row="fpu/x86-64",
        said=r"thread\[\d+\]\.NT_X86_XSTATE\.size",
    ),
    Mutant(
        name="thread-local segments left out",
        file="arch/i386.c",
        search="\t\t\treturn false;\n",
        replacement="\t\t\treturn true;\n",
        row="tls/x86-32",
        said=r"thread\[\d+\]\.NT_386_TLS",
    ),
)

_THREADS = (
    Mutant(
        name="a thread dropped",
        file="snapshot.c",
        search="for (size_t n = 0; n < freeze->n_threads; n++) {",
        replacement="for (size_t n = 0; n + 1 < freeze->n_threads; n++) {",
        row="threads-64/x86-64",
        said=r"thread\[\d+\]",
    ),
    Mutant(
        name="the main thread last",
        file="snapshot.c",
        search="const size_t i = n == 0 ? first : n <= first ? n - 1 : n;",
        replacement="const size_t i = (first + freeze->n_threads - 1 - n) % freeze->n_threads;",
        row="threads-64/x86-64",
        method="fork",
        said=r"notes\.thread-order",
    ),
    Mutant(
        name="the signal mask that comes back, not the one in force",
        file="snapshot.c",
        search="if (arch->lending_calls[i] == nr)",
        replacement="if (arch->lending_calls[i] == -2)",
        row="blocked/x86-64",
        said=r"thread\[\d+\]\.prstatus\.pr_sighold",
    ),
    Mutant(
        name="the process's pending signals for the thread's",
        file="snapshot.c",
        search="to->sigpend = status.sig_pending;",
        replacement="to->sigpend = status.shd_pending;",
        row="signals/x86-64",
        said=r"thread\[\d+\]\.prstatus\.pr_sigpend",
    ),
)

_PROCESS = (
    Mutant(
        name="process and parent swapped",
        file="snapshot.c",
        search="\ts->ppid = parent_id(r);\n",
        replacement="\ts->ppid = s->pid;\n\ts->pid = parent_id(r);\n",
        row="one-thread/x86-64",
        said=r"process\.pr_ppid",
    ),
    Mutant(
        name="the state of a process that sleeps",
        file="note.c",
        search="const char sname = s->leaderless ? '.' : 'R';",
        replacement="const char sname = 'S';",
        row="one-thread/x86-64",
        said=r"process\.pr_sname",
    ),
    Mutant(
        name="zeros between the arguments",
        file="snapshot.c",
        search="s->psargs[i] = ' ';",
        replacement="s->psargs[i] = '\\0';",
        row="hostile-names/x86-64",
        said=r"process\.pr_psargs",
    ),
    Mutant(
        name="an auxiliary vector without its end",
        file="snapshot.c",
        search="\t\tif (type == AT_NULL)\n\t\t\tbreak;\n",
        replacement="",
        row="one-thread/x86-32",
        said=r"auxv\.AT_NULL#2",
    ),
)

_NOTES = (
    Mutant(
        name="a note that is too short",
        file="note.c",
        search="NT_SIGINFO, siginfo, sizeof(siginfo))",
        replacement="NT_SIGINFO, siginfo, sizeof(siginfo) - 4)",
        row="one-thread/x86-64",
        said=r"siginfo\.bytes\.size",
    ),
    Mutant(
        name="a 32-bit note as long as on 64 bits",
        file="arch/i386.c",
        search=".prstatus_size = 144,",
        replacement=".prstatus_size = 148,",
        row="one-thread/x86-32",
        judge=Judge.READER,
        said=r".*: the NT_PRSTATUS at offset 0x[0-9a-f]+ has 148 bytes, x86-32 has 144; .*",
    ),
    Mutant(
        name="two notes swapped",
        file="note.c",
        search="NT_SIGINFO, siginfo, sizeof(siginfo))) < 0 ||\n"
        '\t    (ret = add_note(notes, "CORE", NT_AUXV, s->auxv, s->auxv_size)) < 0)\n',
        replacement="NT_AUXV, s->auxv, s->auxv_size)) < 0 ||\n"
        '\t    (ret = add_note(notes, "CORE", NT_SIGINFO, siginfo, sizeof(siginfo))) < 0)\n',
        row="threads-64/x86-32",
        said=r"notes\.order",
    ),
    Mutant(
        name="files without a disk left out",
        file="maps.c",
        search="return m->inode != 0 || m->dev_major != 0 || m->dev_minor != 0;",
        replacement="return m->inode != 0 && m->dev_major != 0;",
        row="maps-zoo/x86-64",
        said=r"files\[\d+\]",
    ),
    Mutant(
        name="offsets of files in bytes, not pages",
        file="note.c",
        search="put_word(s->arch, &at, m->offset / s->page_size);",
        replacement="put_word(s->arch, &at, m->offset);",
        row="one-thread/x86-32",
        method="fork",
        said=r"files\[\d+\]\.offset",
    ),
    Mutant(
        name="an escaped name left as it is",
        file="maps.c",
        search=r'memcmp(from + i, "\\012", 4) == 0',
        replacement=r'memcmp(from + i, "\\011", 4) == 0',
        row="hostile-names/x86-32",
        said=r"files\[\d+\]\.path",
    ),
)

_SEGMENTS = (
    Mutant(
        name="more segments than 16 bits count",
        file="plan.c",
        search=".e_phnum = n_phdrs >= PN_XNUM ? PN_XNUM : (uint16_t)n_phdrs,",
        replacement=".e_phnum = (uint16_t)n_phdrs,",
        row="maps-70000/x86-64",
        said=r"header\.e_phnum",
    ),
    Mutant(
        name="a shifted offset",
        file="plan.c",
        search="(head_size + s->page_size - 1) & ~(s->page_size - 1);",
        replacement="((head_size + s->page_size - 1) & ~(s->page_size - 1)) + s->page_size;",
        row="one-thread/x86-64",
        said=r"phdr\[[0-9a-f]+\]\.p_offset",
    ),
    Mutant(
        name="a page less in a program header",
        file="plan.c",
        search=".p_filesz = segment->filesz,\n\t\t\t\t\t  .p_memsz = segment->memsz,\n",
        replacement=".p_filesz = segment->filesz ? segment->filesz - s->page_size : 0,\n"
        "\t\t\t\t\t  .p_memsz = segment->memsz,\n",
        row="one-thread/x86-64",
        method="fork",
        said=r"phdr\[[0-9a-f]+\]\.p_filesz",
    ),
    Mutant(
        name="a 32-bit program header with one size for both",
        file="plan.c",
        search=".p_memsz = (uint32_t)phdr->p_memsz,",
        replacement=".p_memsz = (uint32_t)phdr->p_filesz,",
        row="threads-64/x86-32",
        method="fork",
        said=r"phdr\[[0-9a-f]+\]\.p_memsz",
    ),
    Mutant(
        name="mappings without access left out",
        file="snapmaps.c",
        search="\t\tif (!cut_injected(&m, options))\n",
        replacement="\t\tif (!cut_injected(&m, options) ||\n"
        "\t\t    !(m.flags & (MAPPING_READ | MAPPING_WRITE | MAPPING_EXEC)))\n",
        row="maps-zoo/x86-64",
        said=r"phdr\[[0-9a-f]+\]",
    ),
    Mutant(
        name="coredump_filter ignored",
        file="snapmaps.c",
        search="options->filter = procfs_number(text, 16, NULL);",
        replacement="options->filter = DEFAULT_FILTER;",
        row="filter/x86-64",
        said=r"phdr\[[0-9a-f]+\]\.p_filesz",
    ),
    Mutant(
        name="MADV_DONTDUMP ignored",
        file="maps.c",
        search='{ "dd", MAPPING_DONTDUMP },',
        replacement='{ "dd", 0 },',
        row="maps-zoo/x86-32",
        judge=Judge.TRUTH,
        said=r"MADV_DONTDUMP: the core has bytes at 0x[0-9a-f]+",
    ),
    Mutant(
        name="first pages of ELF files left out",
        file="maps.c",
        search="facts->first_page_kept)",
        replacement="facts->first_page_kept && !filter)",
        row="one-thread/x86-64",
        method="fork",
        said=r"phdr\[[0-9a-f]+\]\.p_filesz",
    ),
)

_MEMORY = (
    Mutant(
        name="a page of zeros",
        file="mem.c",
        search="\t\t\tmem->bytes_read += (uint64_t)n;\n",
        replacement="\t\t\tmem->bytes_read += (uint64_t)n;\n"
        "\t\t\tmemset(bytes + done, 0, (size_t)n < page ? (size_t)n : (size_t)page);\n",
        row="threads-64/x86-64",
        method="fork",
        said=r"memory\[[0-9a-f]+-[0-9a-f]+\]",
    ),
    Mutant(
        name="pages that a copy has lost",
        file="maps.c",
        search="MAPPING_WIPEONFORK | MAPPING_HUGETLB);",
        replacement="MAPPING_HUGETLB);",
        row="maps-zoo/x86-64",
        method="fork",
        judge=Judge.TRUTH,
        said=r"MADV_WIPEONFORK: .*",
    ),
    Mutant(
        name="the running process read instead of its copy",
        file="job_fork.c",
        search="\tmem->image = &job->copy_image;\n",
        replacement="",
        row="busy/x86-64",
        method="fork",
        judge=Judge.TRUTH,
        said=r"[^:]+: thread \d+ counts \d+, its pages hold \[.*",
    ),
)

_GUESTS = (
    Mutant(
        name="no floating point of ARM",
        file="arch/arm.c",
        search='\t{ .owner = "LINUX", .type = NT_ARM_VFP, .max_size = 260 },\n',
        replacement="",
        row=f"{ARM.name}/{STOCK}/fpu/{ARM.name}",
        said=r"thread\[\d+\]\.NT_ARM_VFP",
    ),
    Mutant(
        name="the mask in force forgotten on ARM",
        file="arch/arm.c",
        search="\t179, // rt_sigsuspend\n",
        replacement="",
        row=f"{ARM.name}/{STOCK}/blocked/{ARM.name}",
        said=r"thread\[\d+\]\.prstatus\.pr_sighold",
    ),
    Mutant(
        name="SVE cut off",
        file="arch/aarch64.c",
        search=".type = ARM_SVE, .max_size = 16384,",
        replacement=".type = ARM_SVE, .max_size = 512,",
        row=f"{ARM64.name}/{STOCK}/fpu/{ARM64.name}",
        said=r"thread\[\d+\]\.NT_ARM_SVE\.size",
    ),
    Mutant(
        name="tags in the wrong halves of their bytes",
        file="tags.c",
        search="tags[i] | tags[i + 1] << 4",
        replacement="tags[i + 1] | tags[i] << 4",
        row=f"{ARM64.name}/{STOCK}/mte/{ARM64.name}",
        said=r"tags\[[0-9a-f]+-[0-9a-f]+\]",
    ),
    Mutant(
        name="tags of what a fork does not carry over left for the copy",
        file="job_fork.c",
        search="\tret = job_stage(job, 0, err);\n",
        replacement="\tret = mem_stage(mem, 0, err);\n",
        row=f"{ARM64.name}/{STOCK}/mte/{ARM64.name}",
        method="fork",
        said=r"tags\[[0-9a-f]+-[0-9a-f]+\]",
    ),
    Mutant(
        name="a header of tags that tells their own size for the memory's",
        file="plan.c",
        search=".p_memsz = segment->memsz };",
        replacement=".p_memsz = segment->filesz };",
        row=f"{ARM64.name}/{STOCK}/mte/{ARM64.name}",
        said=r"phdr\[PT_0x70000002:[0-9a-f]+\]\.p_memsz",
    ),
    Mutant(
        name="a 32-bit process of AArch64 without its floating point",
        file="arch/arm.c",
        search=".type = NT_ARM_VFP, .max_size = 260 }",
        replacement=".type = NT_ARM_VFP, .max_size = 4 }",
        row=f"{ARM64.name}/{STOCK}/fpu/{ARM.name}",
        said=r"thread\[\d+\]\.NT_ARM_VFP\.size",
    ),
    Mutant(
        name="the last pages of a mapping lost where no PAGEMAP_SCAN is",
        file="pagemap.c",
        search="return run ? range(arg, at - run, at) : 0;",
        replacement="return 0;",
        row=f"{X86_64.name}/{STOCK}/threads-20/{X86_64.name}",
        said=r"memory(-missing)?\[[0-9a-f]+-[0-9a-f]+\]",
    ),
    Mutant(
        name="the 32-bit kernel's FXSAVE note left out",
        file="arch/i386.c",
        search='\t{ .owner = "LINUX", .type = NT_PRXFPREG, .max_size = 512 },\n',
        replacement="",
        row=f"{X86_32.name}/{STOCK}/fpu/{X86_32.name}",
        said=r"thread\[\d+\]\.NT_PRXFPREG",
    ),
)

_LIMITS = (
    Mutant(
        name="a part of a page at a limit",
        file="emit.c",
        search="size = (size_t)emit->left / unit * unit;",
        replacement="size = (size_t)emit->left;",
        row="limited/x86-64",
        said=r"memory(-missing)?\[[0-9a-f]+-[0-9a-f]+\]",
    ),
    Mutant(
        name="a page counted twice against a limit",
        file="emit.c",
        search="\temit->left -= size;\n",
        replacement="\temit->left -= size * 2 < emit->left ? size * 2 : emit->left;\n",
        row="limited/x86-32",
        said=r"memory(-missing)?\[[0-9a-f]+-[0-9a-f]+\]",
    ),
)

# The row that takes longest comes first, so that no worker is left with it at the end.
MUTANTS = (*_SEGMENTS, *_MEMORY, *_REGISTERS, *_THREADS, *_PROCESS, *_NOTES, *_LIMITS, *_GUESTS)
