# SPDX-License-Identifier: BSD-3-Clause
"""The allowed differences between a core of ours and the kernel's core of the same process.

Each has a name, a reason why it cannot or need not be removed, the place in the kernel, what
exactly it allows, and the cells (row and method) in which it can happen. Every difference must be
allowed by exactly one rule. A rule that no cell of a run needed, although the run had such cells,
fails the run: so the list only shrinks.
"""

from __future__ import annotations

import os
import re
import signal
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from coresnap.corefile import Core
from coresnap.diff import Difference
from lab.architectures import ARM, ARM64
from lab.longform import FULL
from lab.matrix import PRECOPY_METHOD, STOCK, X86S, Row

SIGABRT = int(signal.SIGABRT)
SI_TKILL = -6

PAGE = 4096
TICK_NS = 10_000_000  # of the times in /proc/PID/stat

# arch/arm64/include/uapi/asm/ptrace.h: struct user_fpsimd_state, struct user_sve_header
_FPSIMD_STATE = 528
_SVE_HEADER = 16

# include/linux/sched.h: struct task_struct.flags
PF_SUPERPRIV = 0x100
PF_DUMPCORE = 0x200
PF_SIGNALED = 0x400


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A comparison: one row of the matrix, one method."""

    row: Row
    method: str

    @property
    def name(self) -> str:
        """As in ``threads-64/x86-64:stop``."""
        return f"{self.row.name}:{self.method}"


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a rule may look at: both cores and the scenario's facts.

    ``elapsed`` are the seconds from our first dump to the end of the process, ``lifetime`` those
    from its start to its end.
    """

    cell: Cell
    ours: Core
    kernel: Core
    facts: Mapping[str, Any]
    elapsed: float
    lifetime: float


def everywhere(_: Cell) -> bool:
    """A rule that can fire in every cell."""
    return True


def nowhere(_: Cell) -> bool:
    """For a rule whose difference a race in the kernel decides: it need not fire."""
    return False


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One allowed difference.

    ``path`` is matched against the whole path of a difference (a is ours, b the kernel's), then
    ``allows`` decides on the values. ``cells`` are those in which it may fire at all; ``surely``
    those of which at least one fires it in every run that has such a cell.
    """

    name: str
    reason: str
    kernel: str
    path: str
    allows: Callable[[Difference, Context], bool]
    cells: Callable[[Cell], bool] = everywhere
    surely: Callable[[Cell], bool] = everywhere

    def explains(self, difference: Difference, context: Context) -> bool:
        """Whether this rule allows the difference."""
        return (
            self.cells(context.cell)
            and re.fullmatch(self.path, difference.path) is not None
            and self.allows(difference, context)
        )


def _address(difference: Difference) -> int:
    """The first address in the path of a difference, as in ``phdr[7f00].p_filesz``."""
    match = re.search(r"\[([0-9a-f]+)", difference.path)
    assert match is not None
    return int(match[1], 16)


def _range(difference: Difference) -> tuple[int, int]:
    """Start and end of the pages of a difference ``memory[7f00-7f01]`` or ``tags[7f00-7f01]``."""
    match = re.fullmatch(r"(?:memory|tags)\[([0-9a-f]+)-([0-9a-f]+)\]", difference.path)
    assert match is not None
    return int(match[1], 16), int(match[2], 16)


def _tags(difference: Difference, core: Core) -> list[bytes]:
    """The tags of each page of a difference ``tags[7f00-7f01]``."""
    return [core.tags.read(at, PAGE) for at in range(*_range(difference), PAGE)]


def _tid(difference: Difference) -> int:
    """The thread of a difference ``thread[17].prstatus.…``."""
    return int(difference.path.partition("[")[2].partition("]")[0])


def _is(ours: object, kernel: object) -> Callable[[Difference, Context], bool]:
    return lambda difference, _: (difference.a, difference.b) == (ours, kernel)


def _abort_sent(difference: Difference, context: Context) -> bool:
    """struct siginfo behind its three first members: who sent it, and the rest zero."""
    ours, kernel = difference.a, difference.b
    assert isinstance(ours, bytes) and isinstance(kernel, bytes)
    # On 64 bits four bytes of padding stand before the sender's pid and uid.
    at = 4 if context.ours.elf_class == 64 else 0
    sender, rest = kernel[at : at + 8], kernel[:at] + kernel[at + 8 :]
    return not any(ours) and not any(rest) and any(sender)


def _dying(difference: Difference, _: Context) -> bool:
    ours, kernel = difference.a, difference.b
    assert isinstance(ours, int) and isinstance(kernel, int)
    return kernel == ours | PF_DUMPCORE | PF_SIGNALED and not ours & (PF_DUMPCORE | PF_SIGNALED)


def _ran_on(difference: Difference, context: Context) -> bool:
    """A time in ns that grew by no more than all threads together can have used meanwhile."""
    ours, kernel = difference.a, difference.b
    assert isinstance(ours, int) and isinstance(kernel, int)
    return 0 < kernel - ours <= context.elapsed * 1e9 * (len(context.facts["tids"]) + 1)


def _within_lifetime(difference: Difference, context: Context) -> bool:
    """Times in ns that the process can have used on all processors since it began."""
    ours, kernel = difference.a, difference.b
    assert isinstance(ours, int) and isinstance(kernel, int)
    limit = context.lifetime * 1e9 * (os.cpu_count() or 1) + TICK_NS
    return 0 <= ours <= limit and 0 <= kernel <= limit


def _same_threads(difference: Difference, _: Context) -> bool:
    ours, kernel = difference.a, difference.b
    assert isinstance(ours, tuple) and isinstance(kernel, tuple)
    return ours[0] == kernel[0] and sorted(ours) == sorted(kernel)


def _once_written(context: Context) -> dict[int, int]:
    """Sizes of the mappings that were written and lost all written pages, by address."""
    return {
        int.from_bytes(bytes.fromhex(truth["hex"]), "little"): truth["number"]
        for truth in context.facts["truths"]
        if truth["is"] == "once-written"
    }


def _only_in_kernels(difference: Difference, context: Context) -> bool:
    """p_filesz of such a mapping, or its bytes: in the kernel's core whole, in ours not at all."""
    size = _once_written(context).get(_address(difference))
    return size is not None and (difference.a, difference.b) == (0, size)


# Calls that write back what is left of their timeout whenever they are interrupted: by machine, the
# number, the register that points there, and the size. See select(2), ppoll(2), nanosleep(2).
_WRITES_BACK = {
    62: {23: ("r8", 16), 270: ("r8", 16), 271: ("rdx", 16)},  # select, pselect6, ppoll
    3: {
        142: ("edi", 8),  # _newselect
        308: ("edi", 8),  # pselect6
        309: ("edx", 8),  # ppoll
        413: ("edi", 16),  # pselect6_time64
        414: ("edx", 16),  # ppoll_time64
        267: ("esi", 8),  # clock_nanosleep, for which glibc always gives a place
        0: ("esi", 8),  # restart_syscall of it
    },
    40: {
        142: ("r4", 8),
        335: ("r4", 8),
        336: ("r2", 8),
        413: ("r4", 16),
        414: ("r2", 16),
        265: ("r3", 8),
        407: ("r3", 16),  # clock_nanosleep_time64
        0: ("r3", 8),
    },
    183: {72: ("x4", 16), 73: ("x2", 16), 101: ("x1", 16), 115: ("x3", 16), 128: ("x3", 16)},
}
_NUMBERS = {62: "orig_rax", 3: "orig_eax", 40: "r7", 183: "x8"}


def _timeouts(core: Core) -> Iterator[tuple[int, int]]:
    """Where the timeouts of calls stand that write back what is left: (address, size)."""
    calls = _WRITES_BACK[core.machine]
    number = _NUMBERS[core.machine]
    for thread in core.threads:
        register, size = calls.get(thread.regs[number], ("", 0))
        if register and thread.regs[register] != 0:
            yield thread.regs[register], size


def _less_time_left(difference: Difference, context: Context) -> bool:
    """All that differs in these pages are such timeouts, and the kernel's are shorter."""
    start, end = _range(difference)
    ours = bytearray(context.ours.read(start, end - start))
    kernel = context.kernel.read(start, end - start)
    for address, size in _timeouts(context.kernel):
        if not start <= address <= end - size:
            continue
        part = slice(address - start, address - start + size)
        words = "<qq" if size == 16 else "<ii"
        if struct.unpack(words, kernel[part]) > struct.unpack(words, ours[part]):
            return False
        ours[part] = kernel[part]
    return ours == kernel


def _two_tags_a_page(difference: Difference, context: Context) -> bool:
    """Two tags in turn in our pages, and in the kernel's the same two at the head of each 16."""
    ours, kernel = _tags(difference, context.ours), _tags(difference, context.kernel)
    return all(
        mine == mine[:2] * 128 and its == (mine[:2] + bytes(14)) * 16
        for mine, its in zip(ours, kernel, strict=True)
    )


_SEGMENTS = frozenset(["cs", "ss", "ds", "es", "fs", "gs", "fs_base", "gs_base"])


def _of_the_caller(difference: Difference, context: Context) -> bool:
    """A register of the thread that called coresnap_dump_self(), on the stack of commands."""
    match = re.match(r"thread\[(\d+)\]\.(?:prstatus\.)?(\w+)", difference.path)
    assert match is not None
    tid, name = int(match[1]), match[2]
    if tid != context.facts["pid"] or name in _SEGMENTS or name.startswith(("pr_", "si_")):
        return False
    return not name.startswith("NT_") or _same_size(difference)


def _same_size(difference: Difference) -> bool:
    ours, kernel = difference.a, difference.b
    return isinstance(ours, bytes) and isinstance(kernel, bytes) and len(ours) == len(kernel)


def _lock_is_held(difference: Difference, context: Context) -> bool:
    """Of these pages only the library's lock differs: ours names the caller, then it is free."""
    start, end = _range(difference)
    ours = context.ours.read(start, end - start)
    kernel = context.kernel.read(start, end - start)
    pid = context.facts["pid"]
    held = struct.pack("<II", pid, pid)
    at = ours.find(held)
    free = ours[:at] + bytes(len(held)) + ours[at + len(held) :]
    return at >= 0 and at % len(held) == 0 and free == kernel


def _itself(cell: Cell) -> bool:
    return cell.row.itself


def _job_stopped(cell: Cell) -> bool:
    # On the Arm architectures the kernel has moved pc back before either core is taken.
    return cell.row.scenario.name == "stopped" and cell.row.width in X86S


def _restarting(difference: Difference, context: Context) -> bool:
    """The kernel's registers are ours after the kernel's own restart of the interrupted call."""
    tid = _tid(difference)
    ours, kernel = (
        next(thread.regs for thread in core.threads if thread.tid == tid)
        for core in (context.ours, context.kernel)
    )
    result, number, pc = (
        ("rax", "orig_rax", "rip") if context.ours.elf_class == 64 else ("eax", "orig_eax", "eip")
    )
    mask = (1 << context.ours.elf_class) - 1
    # include/linux/errno.h: ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND
    interrupted = ours[result] in {-code & mask for code in (512, 513, 514)}
    return interrupted and kernel[result] == ours[number] and kernel[pc] == ours[pc] - 2


def _blocked(cell: Cell) -> bool:
    return cell.row.scenario.name == "blocked"


def _blocked_unprivileged(cell: Cell) -> bool:
    return _blocked(cell) and (cell.row.nobody or os.geteuid() != 0)


def _aio_ring(difference: Difference, context: Context) -> bool:
    entry = context.kernel.file_at(_address(difference))
    if entry is None or entry.path != b"/[aio] (deleted)":
        return False
    return (difference.a, difference.b) == (entry.end - entry.start, 0)


def _zoo(cell: Cell) -> bool:
    return cell.row.scenario.name == "maps-zoo"


def _many_threads(cell: Cell) -> bool:
    return cell.row.scenario.name.startswith("threads-")


def _spins(cell: Cell) -> bool:
    return cell.row.scenario.source in ("fpu", "thumb", "sve")


def _linux_6_1(cell: Cell) -> bool:
    return cell.row.guest is not None and "6.1" in cell.row.guest.kernel.split("-")


def _compat(cell: Cell) -> bool:
    return cell.row.guest is not None and cell.row.width != cell.row.guest.architecture


def _compat_arm(cell: Cell) -> bool:
    return _compat(cell) and cell.row.width == ARM.name


def _compat_arm_spins(cell: Cell) -> bool:
    return _compat_arm(cell) and cell.row.scenario.source == "fpu"


def _outside_calls(difference: Difference, context: Context) -> bool:
    """A thread that spins in user mode, where orig_r0 means nothing."""
    return _tid(difference) in context.facts["spins"]


def _zoo_of_nobody_on_tmpfs(cell: Cell) -> bool:
    return _zoo(cell) and cell.row.nobody and cell.row.guest is not None


def _never_mapped_in(difference: Difference, context: Context) -> bool:
    """Pages of a shared mapping that ours has as holes."""
    start, end = _range(difference)
    entry = context.kernel.file_at(start)
    shared = entry is not None and entry.path.endswith(b" (deleted)")
    return shared and not any(context.ours.read(start, end - start))


_AT_SYSINFO_EHDR = 33


def _arm_kernel(cell: Cell) -> bool:
    return cell.row.guest is not None and cell.row.guest.architecture == ARM.name


def _before_the_vdso(difference: Difference, context: Context) -> bool:
    """The page of [vvar], which lies before the vdso."""
    start, end = _range(difference)
    vdso = dict(context.kernel.auxv).get(_AT_SYSINFO_EHDR)
    return end == vdso and end - start == PAGE and context.cell.row.width == ARM.name


def _x86_on_6_1(cell: Cell) -> bool:
    return _linux_6_1(cell) and cell.row.width in X86S


def _own_arm64(cell: Cell) -> bool:
    """Debian's kernels clear each variable on the stack, ours do not."""
    guest = cell.row.guest
    return guest is not None and guest.kernel != STOCK and cell.row.width == ARM64.name


def _own_arm64_fpu(cell: Cell) -> bool:
    return _own_arm64(cell) and cell.row.scenario.source == "fpu"


def _reserved_words(difference: Difference, _: Context) -> bool:
    """The end of struct user_fpsimd_state, which is the note, or follows the header of SVE's."""
    ours, kernel = difference.a, difference.b
    if not isinstance(ours, bytes) or not isinstance(kernel, bytes):
        return False
    size = _FPSIMD_STATE + (_SVE_HEADER if difference.path.endswith("SVE") else 0)
    return len(ours) == len(kernel) == size and ours[:-8] == kernel[:-8]


def _compat_x86_spins(cell: Cell) -> bool:
    return _compat(cell) and _x86_on_6_1(cell) and cell.row.scenario.source == "fpu"


def _tags_of_memory(cell: Cell) -> bool:
    return cell.row.scenario.name == "mte"


def _compat_x86(cell: Cell) -> bool:
    return _compat(cell) and _x86_on_6_1(cell)


def _privilege_of_null(difference: Difference, context: Context) -> bool:
    """The null selector with and without a privilege level, in a thread that took a signal."""
    tid = _tid(difference)
    return tid in context.facts["spins"] and (difference.a, difference.b) == (0, 3)


_NT_X86_XSAVE_LAYOUT = 0x205


def _xsave_layout(difference: Difference, context: Context) -> bool:
    """The note itself, or the size of all notes, which is larger by just that note."""
    note, theirs = (
        core.process_note(_NT_X86_XSAVE_LAYOUT, owner="LINUX")
        for core in (context.ours, context.kernel)
    )
    if note is None or theirs is not None:
        return False
    if difference.path.startswith("notes."):
        return difference.b is None
    ours, kernel = difference.a, difference.b
    assert isinstance(ours, int) and isinstance(kernel, int)
    return ours - kernel == 12 + len(b"LINUX\0..") + len(note.desc)


# docs/core-format.md, "Holes between segments"
_KIB, _MIB = 1 << 10, 1 << 20
_HEAD = 8 * _MIB  # 4 MiB, and what headers, names and notes take of a few threads and mappings
_LEAST_ROOM, _MOST_ROOM, _MOST_OF_ALL = 64 * _KIB, 64 * _MIB, 1024 * _MIB


def _in_places(cell: Cell) -> bool:
    return cell.row.scenario.name == "large" and cell.method == PRECOPY_METHOD


def _room_to_grow(difference: Difference, context: Context) -> bool:
    """A segment of ours stands as far behind the one before as that, or what comes, may grow."""
    kept = [mapping for mapping in context.ours.maps if mapping.filesz]
    sizes = [mapping.filesz for mapping in kept]
    gaps = [after.start - before.start - before.filesz for before, after in pairwise(kept)]
    starts = [mapping.start for mapping in kept]
    if _address(difference) not in starts:
        return False
    at = starts.index(_address(difference))
    if at == 0:
        return 4 * _MIB < kept[0].offset < _HEAD
    gap = gaps[at - 1]
    part, most = sizes[at - 1] // 16, _MOST_ROOM
    if gap == max(gaps):
        part, most = sum(sizes) // 8, _MOST_OF_ALL
    room = min(max(min(part, most), _LEAST_ROOM), gap)
    behind = kept[at].offset - kept[at - 1].offset - sizes[at - 1]
    return behind == -(-room // PAGE) * PAGE


RULES = (
    Rule(
        name="note-align",
        reason="Linux 6.1 leaves p_align of PT_NOTE 0; ours say 4 everywhere, as 6.12 and newer "
        "do, since the notes are aligned to it",
        kernel="fs/binfmt_elf.c: fill_elf_note_phdr",
        path=r"phdr\[PT_NOTE\]\.p_align",
        allows=_is(4, 0),
        cells=_linux_6_1,
        surely=_linux_6_1,
    ),
    Rule(
        name="dying-signal-of-threads",
        reason="the kernel's core is of a process that dies by SIGABRT, ours of one that lives",
        kernel="fs/binfmt_elf.c: fill_prstatus",
        path=r"thread\[\d+\]\.prstatus\.(si_signo|pr_cursig)",
        allows=_is(0, SIGABRT),
    ),
    Rule(
        name="dying-signal",
        reason="the kernel's core is of a process that dies by SIGABRT, ours of one that lives",
        kernel="fs/binfmt_elf.c: fill_siginfo_note",
        path=r"siginfo\.si_signo",
        allows=_is(0, SIGABRT),
    ),
    Rule(
        name="dying-signal-code",
        reason="the lab sends SIGABRT by tgkill(2), which says so in si_code",
        kernel="kernel/signal.c: do_tkill",
        path=r"siginfo\.si_code",
        allows=_is(0, SI_TKILL),
    ),
    Rule(
        name="dying-signal-sender",
        reason="siginfo of the SIGABRT names its sender, of which no signal of ours can know",
        kernel="kernel/signal.c: do_tkill",
        path=r"siginfo\.bytes",
        allows=_abort_sent,
    ),
    Rule(
        name="dying-flags",
        reason="the flags of a task that is killed and dumps core; ours does neither",
        kernel="kernel/signal.c: get_signal (PF_SIGNALED), fs/coredump.c: zap_threads "
        "(PF_DUMPCORE)",
        path=r"process\.pr_flag",
        allows=_dying,
    ),
    Rule(
        name="sampled-times",
        reason="the kernel's core has the processor times as they were sampled at ticks, and "
        "/proc/PID/stat has them scaled to the exact sum and cut to ticks of 10 ms, so neither "
        "follows from the other; besides, the kernel's core is later",
        kernel="fs/binfmt_elf.c: fill_prstatus, kernel/sched/cputime.c: cputime_adjust",
        path=r"thread\[\d+\]\.prstatus\.pr_[us]time",
        allows=_within_lifetime,
        surely=_spins,
    ),
    Rule(
        name="copy-was-reaped",
        reason="fork leaves a helper thread in the target that waits for the copy, and the kernel "
        "counts what a waited-for child used; the kernel's core is later than our fork",
        kernel="kernel/exit.c: wait_task_zombie",
        path=r"thread\[\d+\]\.prstatus\.pr_c[us]time",
        allows=_ran_on,
    ),
    Rule(
        name="order-of-dying-threads",
        reason="the kernel writes the other threads in the order in which they came to die, which "
        "the scheduler decides; ours stand in the order of /proc/PID/task",
        kernel="kernel/exit.c: coredump_task_exit, fs/binfmt_elf.c: fill_note_info",
        path=r"notes\.thread-order",
        allows=_same_threads,
        surely=_many_threads,
    ),
    Rule(
        name="anon-vma-invisible",
        reason="the kernel dumps a private mapping if it was ever written, which it knows by "
        "vm_area_struct.anon_vma; from outside only pages that are written now are seen, so when "
        "none is left nothing tells such a mapping from one never written",
        kernel="fs/coredump.c: vma_dump_size",
        path=r"(phdr\[[0-9a-f]+\]\.p_filesz|memory-missing\[[0-9a-f]+-[0-9a-f]+\])",
        allows=_only_in_kernels,
        cells=_zoo,
        surely=_zoo,
    ),
    Rule(
        name="timeout-written-back",
        reason="a call that is interrupted by a stop writes what is left of its timeout to the "
        "program's memory; the kernel's core is later, so less is left",
        kernel="fs/select.c: poll_select_finish",
        path=r"memory\[[0-9a-f]+-[0-9a-f]+\]",
        allows=_less_time_left,
        cells=_blocked,
        surely=_blocked,
    ),
    Rule(
        name="call-about-to-restart",
        reason="SIGCONT, without which SIGABRT does nothing to a stopped process, lets a thread "
        "get as far as the restart of its interrupted call before the dying one catches it; which "
        "of them is first is a race",
        kernel="arch/x86/kernel/signal.c: arch_do_signal_or_restart, kernel/signal.c: get_signal",
        path=r"thread\[\d+\]\.prstatus\.([re]ax|[re]ip)",
        allows=_restarting,
        cells=_job_stopped,
        surely=nowhere,
    ),
    Rule(
        name="links-of-a-file-invisible",
        reason="whether a shared mapping counts as anonymous is whether its file has no links; "
        "without CAP_CHECKPOINT_RESTORE only the word (deleted) in /proc/PID/maps is seen, which "
        "the ring of io_setup(2) also has, although its inode counts one link",
        kernel="fs/coredump.c: vma_dump_size, fs/proc/base.c: proc_map_files_get_link",
        path=r"(phdr\[[0-9a-f]+\]\.p_filesz|memory-missing\[[0-9a-f]+-[0-9a-f]+\])",
        allows=_aio_ring,
        cells=_blocked_unprivileged,
        surely=_blocked_unprivileged,
    ),
    Rule(
        name="caller-is-in-the-call",
        reason="a thread that dumps its own process is in coresnap_dump_self() in our core, and "
        "parked in read(2) in the kernel's, which comes after the call",
        kernel="arch/x86/kernel/ptrace.c: genregs_get",
        path=r"thread\[\d+\]\.(prstatus\.[a-z]\w+|NT_PRFPREG|NT_PRXFPREG|NT_X86_XSTATE|"
        r"NT_ARM_VFP|NT_ARM_S?SVE)",
        allows=_of_the_caller,
        cells=_itself,
        surely=_itself,
    ),
    Rule(
        name="lock-of-the-library",
        reason="coresnap_dump_self() holds its lock while the core is taken, and no longer when "
        "the kernel writes its own",
        kernel="fs/coredump.c: dump_user_range",
        path=r"memory\[[0-9a-f]+-[0-9a-f]+\]",
        allows=_lock_is_held,
        cells=_itself,
        surely=_itself,
    ),
    Rule(
        name="last-call-of-a-running-thread",
        reason="an AArch64 kernel leaves in orig_r0 of a 32-bit thread the first argument of its "
        "last system call, whichever that was; between our core and the kernel's it was "
        "sigreturn(2), when the scenario checked itself",
        kernel="arch/arm64/kernel/entry.S: kernel_entry",
        path=r"thread\[\d+\]\.prstatus\.orig_r0",
        allows=_outside_calls,
        cells=_compat_arm,
        surely=_compat_arm_spins,
    ),
    Rule(
        name="unmapped-for-the-unprivileged",
        reason="pages of a shared file that the process has mapped but never touched are in the "
        "kernel's core, which faults them in; without privileges ours could do so too, but would "
        "make them resident in a process that keeps running; it lists them as unmapped instead",
        kernel="fs/coredump.c: dump_user_range, mm/gup.c: get_dump_page",
        path=r"memory\[[0-9a-f]+-[0-9a-f]+\]",
        allows=_never_mapped_in,
        cells=_zoo_of_nobody_on_tmpfs,
        surely=_zoo_of_nobody_on_tmpfs,
    ),
    Rule(
        name="clock-of-the-vdso",
        reason="an ARM kernel dumps the page of [vvar], in which it keeps the time of day for the "
        "vdso; it has gone on when the kernel's core is written",
        kernel="arch/arm/kernel/vdso.c: install_vvar",
        path=r"memory\[[0-9a-f]+-[0-9a-f]+\]",
        allows=_before_the_vdso,
        cells=_arm_kernel,
        surely=_arm_kernel,
    ),
    Rule(
        name="xsave-layout",
        reason="Linux 6.1 does not tell the layout of the extended state, which came with 6.12; "
        "ours says it wherever the processor does, as debuggers need it for cores of others",
        kernel="fs/binfmt_elf.c: elf_core_dump",
        path=r"(notes\.NT_X86_XSAVE_LAYOUT|phdr\[PT_NOTE\]\.p_filesz)",
        allows=_xsave_layout,
        cells=_x86_on_6_1,
        surely=_x86_on_6_1,
    ),
    Rule(
        name="reserved-words-of-fpsimd",
        reason="sigreturn(2) on AArch64 leaves what was on the kernel's stack in the two reserved "
        "words of struct user_fpsimd_state, where the kernel is not built to clear its stack; the "
        "scenario checks itself by a signal between our core and the kernel's",
        kernel="arch/arm64/kernel/signal.c: restore_fpsimd_context",
        path=r"thread\[\d+\]\.(NT_PRFPREG|NT_ARM_S?SVE)",
        allows=_reserved_words,
        cells=_own_arm64,
        # Only the long form has such kernels.
        surely=_own_arm64_fpu if FULL else nowhere,
    ),
    Rule(
        name="null-selector-after-a-signal",
        reason="sigreturn(2) of a 32-bit thread on a 64-bit Linux 6.1 gives the null selector in "
        "fs privilege level 3; the scenario checks itself by a signal between our core and "
        "the kernel's",
        kernel="arch/x86/ia32/ia32_signal.c: reload_segments",
        path=r"thread\[\d+\]\.prstatus\.[defg]s",
        allows=_privilege_of_null,
        cells=_compat_x86,
        surely=_compat_x86_spins,
    ),
    Rule(
        name="room-between-segments",
        reason="precopy writes 64 MiB and more to where they will be in the core before it knows "
        "how large the notes will be and what will have grown; the kernel writes all at once",
        kernel="fs/binfmt_elf.c: elf_core_dump",
        path=r"phdr\[[0-9a-f]+\]\.p_offset",
        allows=_room_to_grow,
        cells=_in_places,
        surely=_in_places,
    ),
    # Which emulator there is no cell knows.
    Rule(
        name="emulator-mixes-tags",
        reason="QEMU 7 keeps two tags for a page, that of even and that of odd granules, and tells "
        "them for every granule that is asked for (ldg, for a tracer), but for the first two of "
        "16 that are asked for at once (ldgm, for a core) (mended in QEMU 8.0)",
        kernel="arch/arm64/lib/mte.S: mte_save_page_tags, mte_copy_tags_to_user",
        path=r"tags\[[0-9a-f]+-[0-9a-f]+\]",
        allows=_two_tags_a_page,
        cells=_tags_of_memory,
        surely=nowhere,
    ),
)
