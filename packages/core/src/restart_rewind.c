/* SPDX-License-Identifier: BSD-3-Clause */
// Calls that must be put back by hand (drawn in restart.h).
//
// At the stop the result stands where the first argument was, and a 64-bit ARM kernel does not show
// what that had been, nor that the thread comes from a call at all. It does while the thread
// sleeps, in /proc/PID/task/TID/syscall. This is believed only if the thread has done nothing since
// but stop: same call, same other arguments, same stack and code, and it has given up the processor
// exactly once more. A 32-bit kernel shows both at the stop.
#include <elf.h>
#include <linux/ptrace.h>
#include <string.h>

#include "arch/arch_remote.h"
#include "procfs.h"
#include "restart.h"
#include "step.h"
#include "sys.h"

struct restart_sleep {
	const struct arch *arch;
	uint64_t switches; // how often the thread had given up the processor by itself
	struct procfs_syscall call;
};

static bool read_status(const struct target *target, pid_t tid, struct procfs_status *status)
{
	char path[32];

	error_format(path, sizeof(path), "task/%d/status", tid);
	return procfs_read_status(target->proc_fd, path, status) == 0;
}

// 0: not known.
static uint64_t switches_of(const struct target *target, pid_t tid)
{
	struct procfs_status status;

	return read_status(target, tid, &status) ? status.switches : 0;
}

static bool look(const struct freeze *freeze, const struct arch *arch, pid_t tid,
		 struct restart_sleep *sleep)
{
	const int proc_fd = freeze->target->proc_fd;

	if (!procfs_read_syscall(proc_fd, tid, &sleep->call) ||
	    !restart_eintr_call(arch, sleep->call.nr))
		return false;
	// Counted first: if the thread falls asleep after that, the count will not fit.
	sleep->switches = switches_of(freeze->target, tid);
	return sleep->switches && procfs_read_syscall(proc_fd, tid, &sleep->call);
}

void restart_look(struct freeze *freeze)
{
	const struct arch *const arch = target_arch_of_exe(freeze->target);

	if (!arch || !arch->rewinds || !arch->remote)
		return;
	for (size_t i = 0; i < freeze->n_threads; i++) {
		struct thread *const thread = &freeze->threads[i];
		struct restart_sleep sleep;

		if (thread->state != THREAD_SEIZED || !look(freeze, arch, thread->tid, &sleep))
			continue;
		thread->sleep = arena_alloc(freeze->arena, sizeof(sleep));
		if (thread->sleep) {
			*thread->sleep = sleep;
			thread->sleep->arch = arch;
		}
	}
}

void restart_look_again(const struct freeze *freeze, struct thread *thread)
{
	const struct arch *const arch = thread->sleep->arch;

	if (!look(freeze, arch, thread->tid, thread->sleep))
		thread->sleep->switches = 0;
	thread->sleep->arch = arch;
}

// Is what the thread was seen in the call that it has just come out of?
static bool slept_in_it(const struct target *target, const struct thread *thread)
{
	const struct arch *const arch = target->arch;
	const struct restart_sleep *const sleep = thread->sleep;
	const void *const gregs = thread->gregs;

	if (!sleep || !sleep->switches ||
	    arch_get(arch, gregs, arch->orig_nr) != (uint64_t)sleep->call.nr ||
	    arch_get(arch, gregs, arch->sp) != sleep->call.sp ||
	    arch_get(arch, gregs, arch->pc) != sleep->call.pc)
		return false;
	for (unsigned int i = 1; i < 6; i++)
		if (arch_get(arch, gregs, arch->args[i]) != sleep->call.args[i])
			return false;
	if (arch->orig_arg0 && arch_get(arch, gregs, arch->orig_arg0) != sleep->call.args[0])
		return false;
	// Its last switch is the one into the stop.
	return switches_of(target, thread->tid) == sleep->switches + 1;
}

// What a 32-bit kernel tells: the number of the last call, and its first argument, which is -1 if
// the thread has come into the kernel in another way since (usr_entry in entry-armv.S).
static bool told_at_stop(const struct target *target, const struct thread *thread)
{
	const struct arch *const arch = target->arch;
	struct procfs_syscall now;

	return arch->orig_arg0 && arch_get_signed(arch, thread->gregs, arch->orig_arg0) != -1 &&
	       procfs_read_syscall(target->proc_fd, thread->tid, &now) &&
	       arch_get(arch, thread->gregs, arch->orig_nr) == (uint64_t)now.nr;
}

// Bytes of the system call instruction behind which the thread stands, or 0.
static unsigned int call_before(const struct target *target, const struct thread *thread)
{
	const struct arch *const arch = target->arch;
	const uint64_t pc = arch_get(arch, thread->gregs, arch->pc);

	for (unsigned int size = 2; size <= 4; size += 2) {
		uint8_t code[4] = { 0 };

		if (target_read(target, pc - size, code, size) == (ssize_t)size &&
		    arch->remote->call_at(thread->gregs, code) == size)
			return size;
	}
	return 0;
}

void restart_rewind(const struct target *target, struct thread *thread)
{
	const struct arch *const arch = target->arch;
	uint64_t first;

	if (!arch->remote)
		return;
	if (told_at_stop(target, thread))
		first = arch_get(arch, thread->gregs, arch->orig_arg0);
	else if (slept_in_it(target, thread))
		first = thread->sleep->call.args[0];
	else
		return;
	const unsigned int size = call_before(target, thread);

	if (!size)
		return;
	arch_set(arch, thread->gregs_out, arch->args[0], first);
	arch_set(arch, thread->gregs_out, arch->pc, arch_get(arch, thread->gregs, arch->pc) - size);
	thread->changed = true;
}

void restart_reconsider(const struct target *target, struct thread *thread)
{
	struct iovec iov = { .iov_base = thread->gregs, .iov_len = thread->gregs_len };
	struct procfs_status status;

	if (!thread->changed || !target->arch || !target->arch->rewinds)
		return;
	if (!read_status(target, thread->tid, &status))
		return;
	const uint64_t pending = status.sig_pending | status.shd_pending;

	if (!(pending & ~status.sig_blocked & status.sig_caught))
		return;
	STEP();
	sys_call(SYS_ptrace, PTRACE_SETREGSET, thread->tid, NT_PRSTATUS, &iov);
	memcpy(thread->gregs_out, thread->gregs, sizeof(thread->gregs));
	thread->changed = false;
}
