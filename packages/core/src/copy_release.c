/* SPDX-License-Identifier: BSD-3-Clause */
// The end of a copy, and of what made it.
#include <linux/ptrace.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "copy_parts.h"
#include "errand.h"
#include "procfs.h"
#include "remote.h"
#include "step.h"

#define END_NS  2000000000u
#define REAP_NS 5000000000u // of tries, of which most come too early where the processor is not ours

// Waits until a tracee has ended, making it run on whenever it stops.
static bool wait_end(pid_t tid, uint64_t deadline)
{
	for (;;) {
		int status;
		const int ret = remote_wait(tid, deadline, &status);

		if (ret == -ECHILD)
			return true;
		if (ret <= 0)
			return false;
		if (!WIFSTOPPED(status))
			return true;
		remote_ptrace(PTRACE_CONT, tid, 0, 0);
	}
}

void copy_kill(struct copy *copy)
{
	if (copy->pid == 0)
		return;
	STEP();
	sys_call(SYS_kill, copy->pid, SIGKILL);
	wait_end(copy->pid, sys_now_ns() + END_NS);
	copy->pid = 0;
}

// A helper that did not get to its fork in time, or was stopped at it. The copy that it may still
// report is ended.
static void free_helper(struct copy *copy)
{
	const uint64_t deadline = sys_now_ns() + END_NS;

	while (copy->helper_traced) {
		unsigned long message = 0;
		int status;

		if (remote_ptrace(PTRACE_DETACH, copy->helper, 0, 0) == 0) {
			copy->helper_traced = false;
			return;
		}
		if (remote_wait(copy->helper, deadline, &status) <= 0)
			return;
		if (!WIFSTOPPED(status)) {
			copy->helper_traced = false;
			copy->helper = 0;
			return;
		}
		if (status >> 16 == PTRACE_EVENT_CLONE && !copy->pid &&
		    remote_ptrace(PTRACE_GETEVENTMSG, copy->helper, 0, (uintptr_t)&message) == 0)
			copy->pid = (pid_t)message;
	}
}

// Ends G and sees H off. H is attached to once more, so that its end is an event, and so that it
// comes to its end also in a process that is stopped by job control.
static bool end_copy(struct copy *copy)
{
	char path[32];
	struct statx st;

	free_helper(copy);
	if (copy->helper && !copy->helper_traced) {
		error_format(path, sizeof(path), "task/%d", copy->helper);
		if (sys_statx(copy->target->proc_fd, path, 0, &st) < 0 ||
		    remote_ptrace(PTRACE_SEIZE, copy->helper, 0, 0) < 0)
			copy->helper = 0;
	}
	copy_kill(copy);
	if (copy->helper && !wait_end(copy->helper, sys_now_ns() + END_NS))
		return false;
	copy->helper = 0;
	return true;
}

// What is left to be done in the target, by one call of one of its threads.
struct last_call {
	struct copy *copy;
	struct seccomp_call call;
};

// Is the page still ours? After an execve it is gone, and something else may be there.
static bool page_needed(void *arg)
{
	return copy_has_mark(((const struct last_call *)arg)->copy);
}

static int make_last_call(void *arg, struct remote *remote)
{
	const struct last_call *const last = arg;
	int64_t result;

	return remote_call(remote, last->call.nr, last->call.args, &result, NULL);
}

// The thread that bore the first injection is likely to bear this one.
static bool finish_in_target(struct last_call *last, bool on_page)
{
	struct copy *const copy = last->copy;
	struct coresnap_error err = { 0 };
	struct errand errand = {
		.target = copy->target,
		// The descriptor of an earlier program's memory leads nowhere.
		.reopen = !on_page,
		.strict_timeouts = copy->strict_timeouts,
		.gadgets = copy->gadgets,
		.memory = copy->memory,
		.calls = &last->call,
		.n_calls = 1,
		.needed = on_page ? page_needed : NULL,
		.work = make_last_call,
		.arg = last,
	};

	// Nobody is told: what may remain is in docs/pausing.md.
	return errand_run(&errand, &err) == 0;
}

// execve ends H, which leaves G to the new program: a zombie that it knows nothing of. (It also
// gets a SIGCHLD that we cannot keep from it: do_notify_parent() in kernel/signal.c sends that for
// any exit signal if the parent has called execve since.) Its pid in the target's namespace, or 0.
static pid_t orphan(const struct copy *copy, pid_t pid)
{
	struct procfs_status copy_status, status;
	char path[32];

	error_format(path, sizeof(path), "/proc/%d/status", pid);
	if (procfs_read_status(AT_FDCWD, path, &copy_status) < 0 || copy_status.state != 'Z' ||
	    copy_status.ppid != copy->target->pid ||
	    procfs_read_status(copy->target->proc_fd, "status", &status) < 0 ||
	    status.ns_depth == 0 || status.ns_depth > copy_status.ns_depth)
		return 0;
	return copy_status.ns_pid[status.ns_depth - 1];
}

// A program that has just begun has nothing to inject by before its C library is mapped, and may
// become another one meanwhile: so there are several tries.
static void reap_in_target(struct last_call *reap)
{
	const struct target *const target = reap->copy->target;
	const uint64_t deadline = sys_now_ns() + REAP_NS;

	while (!finish_in_target(reap, false) && !target_exited(target) && sys_now_ns() < deadline)
		sys_call(SYS_sched_yield);
}

static void release_injected(struct copy *copy)
{
	const struct arch_remote *const facts =
		copy->target->arch ? copy->target->arch->remote : NULL;
	const pid_t pid = copy->pid;

	// H's last return pops its address from the page: that may go only after H.
	if (!end_copy(copy) || !facts)
		return;
	const pid_t zombie = pid ? orphan(copy, pid) : 0;

	if (zombie) {
		struct last_call reap = { .copy = copy,
					  .call = { .nr = facts->nr.wait4,
						    .args = { (uint64_t)zombie, 0,
							      __WALL | WNOHANG } } };

		reap_in_target(&reap);
	} else if (copy->page && !target_exited(copy->target) && !target_execed(copy->target)) {
		struct last_call unmap = { .copy = copy,
					   .call = { .nr = facts->nr.munmap,
						     .args = { copy->page, copy->page_size } } };

		finish_in_target(&unmap, true);
	}
}

void copy_release(struct copy *copy)
{
	close_once(&copy->mem_fd);
	close_once(&copy->proc_fd);
	if (copy->own_child)
		copy_kill(copy);
	else if (copy->target)
		release_injected(copy);
	*copy = COPY_NONE;
}
