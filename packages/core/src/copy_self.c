/* SPDX-License-Identifier: BSD-3-Clause */
// The copy of a process that dumps itself.
//
// D: helper process that shares memory with the program, whose threads it has stopped
// G: a fork of D, hence of the program's memory
//
//   D: clone without CLONE_VM: G; no exit signal
//   G: dies with D (PR_SET_PDEATHSIG); closes all, names itself; sleeps for ever
//   D: thaws the program, reads /proc/G/mem
//   D: stops G, where memory has tags that ptrace alone tells
//   D: kills and reaps G
//
// G runs on a stack of its own, in code of this library and in nothing else: D's stack is shared
// memory (arena.h), so that a fork does not give G a copy of it.
#include <linux/ptrace.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "copy_parts.h"
#include "remote.h"
#include "step.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2
#endif

#define STOP_NS 2000000000u

enum {
	COPY_STACK = 16384,
	MAX_FD = 4096, // where close_range(2) (Linux 5.9) is missing; D has a handful
};

// Returning ends G.
static int sleep_as_copy(void *arg)
{
	const pid_t parent = (pid_t)(intptr_t)arg;

	sys_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	// D may have died before that.
	if (sys_call(SYS_getppid) != parent)
		return 0;
	sys_call(SYS_prctl, PR_SET_NAME, COPY_NAME);
	if (sys_call(SYS_close_range, 0, -1, 0) < 0)
		for (int fd = 0; fd < MAX_FD; fd++)
			sys_close(fd);
	sys_call(SYS_chroot, "/proc/self/fdinfo");
	sys_call(SYS_chdir, "/");
	while (sys_call(SYS_ppoll, NULL, 0, NULL, NULL, 0) != -ENOSYS)
		;
	return 0;
}

int copy_create_self(struct copy *copy, struct freeze *freeze, struct coresnap_error *err)
{
	const pid_t me = (pid_t)sys_call(SYS_getpid);
	const int saved_errno = errno; // of the program's thread that waits for D
	uint8_t *const stack = arena_alloc(freeze->arena, COPY_STACK);

	if (!stack)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory for the copy's stack");
	STEP();
	const int pid = clone(sleep_as_copy, stack + COPY_STACK, 0, (void *)(intptr_t)me);
	const int why = errno;

	errno = saved_errno;
	if (pid < 0) {
		error_remedy(err, "Use the method stop, which makes no second process");
		return error_set(err, CORESNAP_E_FAILED, why, "cannot fork: %s",
				 error_errno_name(why));
	}
	copy->target = freeze->target;
	copy->pid = pid;
	copy->own_child = true;
	return 0;
}

pid_t copy_tracee(const struct copy *copy)
{
	int status;

	if (!copy->own_child)
		return copy->pid; // traced from birth, and stopped
	if (remote_ptrace(PTRACE_SEIZE, copy->pid, 0, PTRACE_O_EXITKILL) < 0 ||
	    remote_ptrace(PTRACE_INTERRUPT, copy->pid, 0, 0) < 0)
		return 0;
	// It was born with all signals blocked: no other stop can come.
	return remote_wait(copy->pid, sys_now_ns() + STOP_NS, &status) == 1 && WIFSTOPPED(status) ?
		       copy->pid :
		       0;
}
