# SPDX-License-Identifier: BSD-3-Clause
"""The allowed differences between the core of a copy, by /proc/PID/livedump, and that of a crash of
the process itself.

Both are written by the same code, so what differs is what the copy is: born a moment ago, alone in
its pid namespace, never interrupted, and killed by no signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coresnap.corefile import Core, Thread
from coresnap.diff import Difference
from lab.rules import RULES as OF_OURS
from lab.rules import Cell, Context, Rule, everywhere, nowhere

_EM_386, _EM_ARM, _EM_X86_64 = 3, 40, 62
# By machine: the result of a call, its number or first argument, and the program counter.
_CALLS = {
    _EM_X86_64: ("rax", "orig_rax", "rip"),
    _EM_386: ("eax", "orig_eax", "eip"),
    _EM_ARM: ("r0", "orig_r0", "pc"),
}
# The length of svc in programs that Debian's compiler for ARM makes.
_THUMB_CALL = 2
# include/uapi/asm-generic/errno-base.h, errno.h, include/linux/errno.h
_EINTR, _ENOSYS = 4, 38
_RESTARTS = (512, 513, 514, 516)
# include/linux/sched.h
_PF_FORKNOEXEC, _PF_SUPERPRIV, _PF_RANDOMIZE = 0x40, 0x100, 0x400000
_NICE = 19
# A signal of the kernel's core that ours has not, in rules of the library's cores.
_SHARED = frozenset(
    {
        "dying-signal-of-threads",
        "dying-signal",
        "dying-signal-code",
        "dying-signal-sender",
        "order-of-dying-threads",
        "timeout-written-back",
        "last-call-of-a-running-thread",
        "clock-of-the-vdso",
        "null-selector-after-a-signal",
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
    result, entry, pc = _CALLS[context.ours.machine]
    mask = (1 << context.ours.elf_class) - 1
    name = difference.path.rpartition(".")[2]
    if context.ours.machine != _EM_ARM:
        interrupted = {-code & mask for code in (_EINTR, *_RESTARTS)}
        return name == result and ours[result] == -_ENOSYS & mask and kernel[result] in interrupted
    # The kernel moves pc back to the call before it looks for the signal's effect.
    if name == pc:
        return ours[pc] - kernel[pc] in (2, 4) and kernel[result] == kernel[entry]
    return name == result and ours[result] == ours[entry] and kernel[result] == -_EINTR & mask


def in_the_call(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a scenario says of itself, but as it is in the middle of its calls.

    It expects them to be interrupted, as a stop by ptrace interrupts them: that shows in their
    results, and ARM's pc is back at the call, of the leader, which reads. Here it is behind it.
    """
    results = {result for result, _, _ in _CALLS.values()}
    truths = []
    for truth in facts["truths"]:
        if truth["is"] == "register" and truth["name"] in results:
            continue
        if truth.get("name") == "pc" and truth["tid"] == facts["pid"]:
            truths.append({**truth, "value": truth["value"] + _THUMB_CALL})
        else:
            truths.append(truth)
    return {**facts, "truths": truths}


def _many_calls(cell: Cell) -> bool:
    return cell.row.scenario.source in ("blocked", "threads")


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
        name="call-not-interrupted",
        reason="no thread is woken, so one in a system call looks as it does in the middle of it; "
        "the signal of the kernel's core interrupted the call",
        kernel="kernel/livedump/threads.c: capture; kernel/signal.c: get_signal",
        path=r"thread\[\d+\]\.prstatus\.([re]ax|r0|pc)",
        allows=_still_in_the_call,
        cells=everywhere,
        surely=_many_calls,
    ),
)
