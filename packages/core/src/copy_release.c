/* SPDX-License-Identifier: BSD-3-Clause */
// The end of a copy, and of what made it.
#include <linux/ptrace.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "copy_parts.h"
#include "procfs.h"
#include "remote.h"
#include "restart.h"
#include "seccomp.h"
#include "step.h"

#define END_NS  2000000000u
#define STOP_NS 500000000u

enum {
	MAX_TRIES = 16, // threads that are tried for the last call
};

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

// Stops one thread, and only that. true: it is in freeze as the only one.
static bool stop_one(struct freeze *freeze, struct thread *thread, pid_t tid)
{
	const uint64_t deadline = sys_now_ns() + STOP_NS;

	*thread = (struct thread){ .tid = tid, .state = THREAD_SEIZED };
	if (remote_ptrace(PTRACE_SEIZE, tid, 0, 0) < 0)
		return false;
	freeze->threads = thread;
	freeze->n_threads = 1;
	freeze->ended_ns = 0;
	restart_look(freeze);
	thread->state = THREAD_MISSED; // until it has stopped
	remote_ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	for (;;) {
		int status;
		size_t len;

		if (remote_wait(tid, deadline, &status) <= 0)
			return false;
		if (!WIFSTOPPED(status)) {
			thread->state = THREAD_GONE;
			return false;
		}
		if (status >> 16 != PTRACE_EVENT_STOP) {
			remote_ptrace(PTRACE_CONT, tid, 0, (uintptr_t)WSTOPSIG(status));
			continue;
		}
		thread->state = THREAD_STOPPED;
		if (remote_get_gregs(tid, thread->gregs, sizeof(thread->gregs), &len) < 0 ||
		    remote_ptrace(PTRACE_GETSIGMASK, tid, sizeof(thread->sigmask),
				  (uintptr_t)&thread->sigmask) < 0)
			return false;
		thread->gregs_len = (uint16_t)len;
		memcpy(thread->gregs_out, thread->gregs, sizeof(thread->gregs));
		return true;
	}
}

// Is the page still ours? After an execve it is gone, and something else may be there.
static bool page_known(const struct copy *copy)
{
	uint8_t head[sizeof(copy->page_head)];

	return target_read(copy->target, copy->page, head, sizeof(head)) == sizeof(head) &&
	       memcmp(head, copy->page_head, sizeof(head)) == 0;
}

// What is left to be done in the target, by one call of one of its threads.
struct last_call {
	int32_t nr;
	uint64_t args[6];
	bool on_page;
};

// true: there is nothing left to do.
// The target, or this thread of it, may have gone into its sandbox since the copy was made.
static bool filter_allows(const struct copy *copy, struct arena *arena, const struct victim *victim,
			  const struct last_call *call)
{
	const struct arch_remote *const facts = copy->target->arch->remote;
	struct seccomp_call calls[2] = { { .nr = call->nr }, { .nr = facts->nr.rt_sigreturn } };
	size_t denied;

	if (!victim->seccomp)
		return true;
	memcpy(calls[0].args, call->args, sizeof(calls[0].args));
	return seccomp_allows(victim->thread->tid, arena, facts->audit,
			      gadget_behind_call(&copy->gadgets, facts), calls, 2, &denied) == 0;
}

static bool call_in(struct copy *copy, struct freeze *freeze, const struct maps *maps,
		    const struct last_call *call)
{
	struct coresnap_error err = { 0 };
	struct remote remote = { .target = copy->target, .arena = freeze->arena };
	struct victim victim;
	int64_t result;

	restart_calls(freeze);
	freeze_write_registers(freeze);
	// The descriptor of an earlier program's memory leads nowhere.
	if (!call->on_page && target_open_mem(copy->target, &err) < 0)
		return false;
	if (victim_choose(&victim, freeze, maps, &copy->memory, &err) < 0)
		return false;
	if (call->on_page && !page_known(copy))
		return true;
	const uint64_t avoid = victim_pc(copy->target->arch, &victim);

	if (!gadget_check(&copy->gadgets, copy->target, avoid) &&
	    gadget_find(&copy->gadgets, copy->target, maps, avoid) < 0)
		return false;
	if (!filter_allows(copy, freeze->arena, &victim, call))
		return false;
	remote.gadgets = copy->gadgets;
	remote.thread = victim.thread;
	remote.restart_nr = victim.restart_nr;
	remote.call_size = victim.call_size;
	remote.timed = victim.timed;
	if (remote_begin(&remote) < 0)
		return false;
	const int ret = remote_call(&remote, call->nr, call->args, &result, NULL);

	remote_end(&remote);
	if (remote.lost)
		victim.thread->state = THREAD_MISSED;
	return ret == 0 || remote.lost;
}

static bool try_thread(struct copy *copy, struct arena *arena, const struct maps *maps,
		       const struct last_call *call, pid_t tid)
{
	struct freeze freeze;
	struct thread thread;

	freeze_init(&freeze, copy->target, arena);
	freeze.strict_timeouts = copy->strict_timeouts;
	const bool done = stop_one(&freeze, &thread, tid) && call_in(copy, &freeze, maps, call);

	STEP();
	freeze_thaw(&freeze);
	return done;
}

static bool try_threads(struct copy *copy, struct arena *arena, const struct maps *maps,
			const struct last_call *call)
{
	struct procfs_dir dir guard(procfs_closedir);
	const char *name;
	unsigned int tries = 0;

	if (procfs_opendir(&dir, copy->target->proc_fd, "task") < 0)
		return false;
	while (tries < MAX_TRIES && (name = procfs_readdir(&dir))) {
		const pid_t tid = (pid_t)procfs_number(name, 10, NULL);

		if (tid == copy->memory.tid)
			continue;
		tries++;
		if (try_thread(copy, arena, maps, call, tid))
			return true;
	}
	return false;
}

// The thread that bore the first injection is likely to bear this one.
static void finish_in_target(struct copy *copy, const struct last_call *call)
{
	struct arena arena;
	struct coresnap_error err = { 0 };
	struct maps maps = { .arena = &arena };

	arena_init(&arena);
	if (!target_exited(copy->target) &&
	    maps_read(&maps, copy->target->proc_fd, "maps", &err) == 0 &&
	    // Another program by now, perhaps, in which they lie elsewhere.
	    gadget_find(&copy->gadgets, copy->target, &maps, 0) == 0 &&
	    !try_thread(copy, &arena, &maps, call, copy->memory.tid))
		try_threads(copy, &arena, &maps, call);
	arena_deinit(&arena);
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
		const struct last_call reap = { .nr = facts->nr.wait4,
						.args = { (uint64_t)zombie, 0, __WALL | WNOHANG } };

		finish_in_target(copy, &reap);
	} else if (copy->page && !target_execed(copy->target)) {
		const struct last_call unmap = { .nr = facts->nr.munmap,
						 .args = { copy->page, copy->page_size },
						 .on_page = true };

		finish_in_target(copy, &unmap);
	}
}

void copy_release(struct copy *copy)
{
	guard_close(&copy->mem_fd);
	guard_close(&copy->proc_fd);
	if (copy->own_child)
		copy_kill(copy);
	else if (copy->target)
		release_injected(copy);
	*copy = COPY_NONE;
}
