# SPDX-License-Identifier: BSD-3-Clause
"""The allowed differences between the core of a copy, by /proc/PID/livedump, and that of a crash of
the process itself.

Both are written by the same code, so what differs is what the copy is: born a moment ago, alone in
its pid namespace, never interrupted, and killed by no signal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from coresnap.corefile import Core, Thread
from coresnap.diff import Difference
from lab.architectures import ARM64
from lab.matrix import Row
from lab.rules import RULES as OF_OURS
from lab.rules import Cell, Context, Rule, nowhere

_EM_386, _EM_ARM, _EM_X86_64, _EM_AARCH64 = 3, 40, 62, 183
# By machine: the result of a call, and the program counter. ARM's result replaces the argument.
_CALLS = {
    _EM_X86_64: ("rax", "rip"),
    _EM_386: ("eax", "eip"),
    _EM_ARM: ("r0", "pc"),
    _EM_AARCH64: ("x0", "pc"),
}
_ARMS = (_EM_ARM, _EM_AARCH64)
# Lengths of svc; the shorter one is Thumb's.
_SVC = (2, 4)
_NO_CALL = b"\xff\xff\xff\xff"
"""The number of no system call in NT_ARM_SYSTEM_CALL."""
# include/uapi/asm-generic/errno-base.h, errno.h, include/linux/errno.h
_EINTR, _ENOSYS = 4, 38
# include/uapi/linux/elf.h
_NT_ARM_HW_WATCH, _NT_ARM_SYSTEM_CALL = 0x403, 0x404
_RESTARTS = (512, 513, 514, 516)
# include/linux/sched.h
_PF_FORKNOEXEC, _PF_SUPERPRIV, _PF_RANDOMIZE = 0x40, 0x100, 0x400000
_NICE = 19
_NO_FORK = re.compile(r"(madv_)?(dontfork|wipeonfork)", re.IGNORECASE)
"""Why a scenario says something of memory that a fork does not get."""
# A signal of the kernel's core that ours has not, in rules of the library's cores.
_SHARED = frozenset(
    {
        "dying-signal-of-threads",
        "dying-signal",
        "dying-signal-code",
        "dying-signal-sender",
        "order-of-dying-threads",
        "timeout-written-back",
        "call-about-to-restart",
        "last-call-of-a-running-thread",
        "clock-of-the-vdso",
        "null-selector-after-a-signal",
        "reserved-words-of-fpsimd",
    }
)


def _none_of_it(difference: Difference, _: Context) -> bool:
    return difference.a == 0 and difference.b != 0


def _newborn(difference: Difference, context: Context) -> bool:
    """A time in ns that the copy can have used since it was made."""
    return isinstance(difference.a, int) and 0 <= difference.a <= context.elapsed * 1e9


def _flags(difference: Difference, _: Context) -> bool:
    ours, kernel = difference.a, difference.b
    assert isinstance(ours, int) and isinstance(kernel, int)
    return not (ours ^ kernel) & ~(_PF_FORKNOEXEC | _PF_SUPERPRIV | _PF_RANDOMIZE)


def _nice(difference: Difference, _: Context) -> bool:
    return difference.a == _NICE


def _thread(core: Core, difference: Difference) -> Thread:
    tid = int(difference.path.partition("[")[2].partition("]")[0])
    return next(thread for thread in core.threads if thread.tid == tid)


def _still_in_the_call(difference: Difference, context: Context) -> bool:
    """What a signal does to a thread in a call, and nothing else."""
    ours, kernel = (_thread(core, difference).regs for core in (context.ours, context.kernel))
    result, pc = _CALLS[context.ours.machine]
    mask = (1 << context.ours.elf_class) - 1
    name = difference.path.rpartition(".")[2]
    if context.ours.machine not in _ARMS:
        interrupted = {-code & mask for code in (_EINTR, *_RESTARTS)}
        return name == result and ours[result] == -_ENOSYS & mask and kernel[result] in interrupted
    # The kernel moves pc back to the call before it looks for the signal's effect.
    if name == pc:
        return ours[pc] - kernel[pc] in _SVC and kernel[result] == ours[result]
    return name == result and kernel[result] == -_EINTR & mask


def _number_of_the_call(difference: Difference, context: Context) -> bool:
    """The kernel forgets the number before it looks for the signal's effect."""
    ours, kernel = (_thread(core, difference) for core in (context.ours, context.kernel))
    number, none = ours.regset(_NT_ARM_SYSTEM_CALL), kernel.regset(_NT_ARM_SYSTEM_CALL)
    return number == ours.regs["x8"].to_bytes(4, "little") and none == _NO_CALL


def _none_watched(difference: Difference, context: Context) -> bool:
    """The first word tells what the processor can do, the others what is watched."""
    note = _thread(context.ours, difference).regset(_NT_ARM_HW_WATCH)
    return note is not None and not note[4:].strip(b"\0")


def _kept_of_fork(context: Context, address: int) -> bool:
    """Is there, in what the kernel's core has at the address, something that no fork gets?"""
    mapping = context.kernel.mapping_at(address)
    return mapping is not None and any(
        mapping.start <= truth["address"] < mapping.end
        for truth in context.facts["truths"]
        if _NO_FORK.fullmatch(truth.get("why", ""))
    )


def _not_forked(difference: Difference, context: Context) -> bool:
    ours, kernel = difference.a, difference.b
    if difference.path == "header.e_phnum":
        return isinstance(ours, int) and isinstance(kernel, int) and ours < kernel
    found = re.search(r"([0-9a-f]+)[-\]]", difference.path)
    return not ours and found is not None and _kept_of_fork(context, int(found[1], 16))


def _forks_less(cell: Cell) -> bool:
    return cell.row.scenario.source in ("maps_zoo", "mte")


def _watches(cell: Cell) -> bool:
    return cell.row.scenario.source == "control"


def as_a_copy(facts: Mapping[str, Any], row: Row) -> Mapping[str, Any]:
    """What a row's scenario says of itself, as it is true of its copy, in the middle of its calls.

    The scenario expects calls to be interrupted, as a stop by ptrace interrupts them: that shows in
    their results and in their number on AArch64, and ARM's pc may be back at the call. Threads that
    are stopped were interrupted.
    """
    interrupted = {"pc", *(result for result, _ in _CALLS.values())}
    untrue = f"note-({_NT_ARM_SYSTEM_CALL:#x}|{_NT_ARM_HW_WATCH:#x})-.*"

    def holds(truth: Mapping[str, Any]) -> bool:
        if _NO_FORK.fullmatch(truth.get("why", "")):
            return False
        if truth["is"] == "register" and truth["name"] in interrupted:
            return row.scenario.stopped
        return re.fullmatch(untrue, truth["is"]) is None or row.scenario.stopped

    return {**facts, "truths": list(filter(holds, facts["truths"]))}


def _of_aarch64(cell: Cell) -> bool:
    return cell.row.width == ARM64.name


def _remembers(cell: Cell) -> bool:
    return _of_aarch64(cell) and not cell.row.scenario.stopped


def _many_calls(cell: Cell) -> bool:
    scenario = cell.row.scenario
    return scenario.source in ("blocked", "threads") and not scenario.stopped


RULES = (
    *(rule for rule in OF_OURS if rule.name in _SHARED),
    Rule(
        name="copy-has-no-relatives",
        reason="parent, process group and session are not in the pid namespace of the copy",
        kernel="fs/binfmt_elf.c: fill_prstatus, fill_psinfo",
        path=r"(thread\[\d+\]\.prstatus|process)\.pr_(ppid|pgrp|sid)",
        allows=_none_of_it,
    ),
    Rule(
        name="copy-begins-its-times",
        reason="processor times of a task begin when it is forked",
        kernel="kernel/fork.c: copy_process",
        path=r"thread\[\d+\]\.prstatus\.pr_c?[us]time",
        allows=_newborn,
        surely=nowhere,
    ),
    Rule(
        name="copy-is-nice",
        reason="the core is written at the nice value of the copy, 19 unless told otherwise",
        kernel="fs/binfmt_elf.c: fill_psinfo",
        path=r"process\.pr_nice",
        allows=_nice,
    ),
    Rule(
        name="copy-has-flags-of-its-own",
        reason="the copy was forked by a kernel thread and not executed, so it has flags of such a "
        "task, and those of the original's history are not its",
        kernel="fs/binfmt_elf.c: fill_psinfo, kernel/fork.c: copy_process",
        path=r"process\.pr_flag",
        allows=_flags,
    ),
    Rule(
        name="copy-has-what-a-fork-gets",
        reason="memory of MADV_DONTFORK is not copied, and that of MADV_WIPEONFORK is empty",
        kernel="kernel/fork.c: dup_mmap",
        path=r"header\.e_phnum|phdr\[.*\](\.p_filesz)?|memory-missing\[.*\]",
        allows=_not_forked,
        cells=_forks_less,
        surely=_forks_less,
    ),
    Rule(
        name="copy-is-not-watched",
        reason="watchpoints are perf events of the thread that a debugger set them for",
        kernel="arch/arm64/include/asm/livedump.h: arch_livedump_skips",
        path=r"thread\[\d+\]\.NT_ARM_HW_WATCH.*",
        allows=_none_watched,
        cells=_watches,
        surely=_watches,
    ),
    Rule(
        name="call-not-interrupted",
        reason="no thread is woken, so one in a system call looks as it does in the middle of it; "
        "the signal of the kernel's core interrupted the call",
        kernel="kernel/livedump/threads.c: capture; kernel/signal.c: get_signal",
        path=r"thread\[\d+\]\.prstatus\.([re]ax|[rx]0|pc)",
        allows=_still_in_the_call,
        surely=_many_calls,
    ),
    Rule(
        name="call-not-forgotten",
        reason="a thread in a system call still has the number of it; the signal of the kernel's "
        "core made it forget it",
        kernel="arch/arm64/kernel/signal.c: do_signal",
        path=r"thread\[\d+\]\.NT_ARM_SYSTEM_CALL.*",
        allows=_number_of_the_call,
        cells=_of_aarch64,
        surely=_remembers,
    ),
)
