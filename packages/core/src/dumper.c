/* SPDX-License-Identifier: BSD-3-Clause */
#include "dumper.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "tls.h"

#ifndef __WALL
#define __WALL 0x40000000
#endif

#define STACK_SIZE (512u << 10)
#define TICK_NS    20000000
#define GOES_ON    -1 // no wait status

// How long D may take to undo everything once it is told to stop. It may be held up by a page that
// the target alone could supply (userfaultfd), or by a dead file server.
#define CANCEL_GRACE_NS  500000000u
#define STOPPED_GRACE_NS 80000000u // while the target stands still

// The kernel's sigset_t: 64 signals on all architectures but MIPS.
static void set_mask(uint64_t new_mask, uint64_t *old_mask)
{
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &new_mask, old_mask, sizeof(new_mask));
}

// Closes everything outside keep: D must not hold sockets, locks or mounts of the program.
static void close_others(const int keep[2])
{
	const int low = keep[0] < keep[1] ? keep[0] : keep[1];
	const int high = keep[0] < keep[1] ? keep[1] : keep[0];
	unsigned int from = 0;

	for (int i = 0; i < 2; i++) {
		const int fd = i == 0 ? low : high;

		if (fd < 0)
			continue;
		if ((unsigned int)fd > from)
			sys_call(SYS_close_range, from, fd - 1, 0);
		from = (unsigned int)fd + 1;
	}
	if (sys_call(SYS_close_range, from, ~0u, 0) != -ENOSYS)
		return;
	for (int fd = 0; fd < 65536; fd++)
		if (fd != low && fd != high)
			sys_close(fd);
}

// One of both gets the arena.
static bool own(struct dumper *dumper, int owner)
{
	int both = DUMPER_BOTH;

	return __atomic_compare_exchange_n(&dumper->owner, &both, owner, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

static int dumper_main(void *arg)
{
	struct dumper *dumper = arg;

	// Killing the program that dumps another one ends the dump; a program that dumps itself may
	// end before its core is complete, but not before D has begun.
	sys_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (sys_call(SYS_getppid) != dumper->caller)
		return 0;
	sys_call(SYS_prctl, PR_SET_NAME, "coresnap-dumper", 0, 0, 0);
	// Looks up now and then: an execve of another thread ends C without a word.
	while (!__atomic_load_n(&dumper->go, __ATOMIC_ACQUIRE)) {
		struct timespec second = { .tv_sec = 1 };

		sys_call(SYS_futex, &dumper->go, FUTEX_WAIT, 0, &second, NULL, 0);
		if (sys_call(SYS_tgkill, dumper->caller, dumper->caller_tid, 0) == -ESRCH)
			return 0;
	}
	if (dumper->own_process)
		sys_call(SYS_prctl, PR_SET_PDEATHSIG, 0, 0, 0, 0);
	close_others(dumper->keep);
	dumper->result = dumper->work(dumper->arg);
	__atomic_store_n(&dumper->done, 1, __ATOMIC_RELEASE);
	if (!own(dumper, DUMPER_ENDED))
		arena_leave(dumper->arena);
	return 0;
}

// Calls the callback until it asks to stop; then D has its grace, and its end undoes the rest.
static void tick(struct dumper *dumper, uint64_t *cancelled_ns)
{
	if (*cancelled_ns) {
		const bool stopped = __atomic_load_n(dumper->stopped, __ATOMIC_RELAXED);

		if (sys_now_ns() - *cancelled_ns > (stopped ? STOPPED_GRACE_NS : CANCEL_GRACE_NS))
			sys_call(SYS_kill, dumper->pid, SIGKILL);
		return;
	}
	if (!dumper->tick || dumper->tick(dumper->tick_arg) == 0)
		return;
	__atomic_store_n(&dumper->cancel, 1, __ATOMIC_RELAXED);
	*cancelled_ns = sys_now_ns();
}

static bool let_go(struct dumper *dumper)
{
	dumper->on_ready(dumper->tick_arg);
	return own(dumper, DUMPER_ALONE);
}

// Waits for D's end, or until it goes on alone; D sends no signal when it ends, and wait(2) without __WALL does not see it.
static int wait_end(struct dumper *dumper, int pid)
{
	const int pidfd guard(guard_close) = (int)sys_call(SYS_pidfd_open, pid, 0);
	uint64_t cancelled_ns = 0;
	int status = 0;

	for (;;) {
		const long ret = sys_call(SYS_wait4, pid, &status, __WALL | WNOHANG, NULL);

		if (ret == pid)
			return status;
		// Another thread of the program has collected it.
		if (ret == -ECHILD)
			return 0;
		// Then the descriptor tells, as far as it goes: D works in our memory.
		const bool refused = ret < 0 && ret != -EINTR;

		if (refused && pidfd < 0)
			return 0;
		struct pollfd poll[] = { { .fd = pidfd, .events = POLLIN },
					 { .fd = dumper->ready_fd, .events = POLLIN } };
		struct timespec wait = { .tv_nsec = TICK_NS };

		if (sys_call(SYS_ppoll, poll, 2, &wait, NULL, 0) <= 0)
			tick(dumper, &cancelled_ns);
		else if (refused && poll[0].revents & POLLIN)
			return 0;
		else if (!cancelled_ns && (poll[1].revents & POLLIN) && let_go(dumper))
			return GOES_ON;
	}
}

static int died(const struct dumper *dumper, int status, struct coresnap_error *err)
{
	if (dumper->cancel)
		return error_cancelled(err);
	if (WIFSIGNALED(status))
		return error_set(err, CORESNAP_E_FAILED, EINTR,
				 "the process that makes the dump was killed by signal %d; the "
				 "target runs on",
				 WTERMSIG(status));
	return error_set(err, CORESNAP_E_FAILED, EINTR,
			 "the process that makes the dump ended early; the target runs on");
}

static int start(struct dumper *dumper, uint8_t *stack, const struct tls *tls,
		 struct coresnap_error *err)
{
	uint64_t mask = 0;
	const int saved_errno = errno;

	// D must not run the program's signal handlers, so it is born with everything blocked.
	dumper->caller = (int)sys_call(SYS_getpid);
	dumper->caller_tid = (int)sys_call(SYS_gettid);
	set_mask(~0ull, &mask);
	const int pid = clone(dumper_main, stack + STACK_SIZE,
			      CLONE_VM | (tls->clone_arg ? CLONE_SETTLS : 0), dumper, NULL,
			      tls->clone_arg, NULL);
	const int why = errno;

	// Before D is let go: it shall see C's own mask.
	set_mask(mask, NULL);
	if (pid > 0) {
		dumper->pid = pid;
		// Where Yama is present only the tracer that the program names may attach.
		if (dumper->own_process)
			sys_call(SYS_prctl, PR_SET_PTRACER, pid, 0, 0, 0);
		__atomic_store_n(&dumper->go, 1, __ATOMIC_RELEASE);
		sys_call(SYS_futex, &dumper->go, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
	errno = saved_errno;
	if (pid > 0)
		return pid;
	error_remedy(err, "Raise the limit of processes (ulimit -u, pids.max)");
	return error_set(err, CORESNAP_E_FAILED, why, "cannot make a process for the dump: %s",
			 error_errno_name(why));
}

// After unshare(CLONE_NEWPID) D would be the init process of the new namespace; its end would leave
// the caller unable to make any child.
static bool children_elsewhere(void)
{
	static const char path[] = "/proc/thread-self/ns/pid_for_children";
	struct statx own, children;

	if (sys_statx(AT_FDCWD, "/proc/thread-self/ns/pid", 0, &own) < 0 ||
	    sys_statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &children) < 0)
		return false;
	// The link leads nowhere before the new namespace has its first process
	// (pidns_for_children_get() in kernel/pid_namespace.c).
	return sys_statx(AT_FDCWD, path, 0, &children) < 0 || own.stx_ino != children.stx_ino;
}

int dumper_run(struct dumper *dumper, struct arena *arena, struct coresnap_error *err)
{
	uint8_t *stack = arena_alloc(arena, STACK_SIZE);

	if (children_elsewhere()) {
		error_remedy(err, "Dump from a process that has not called unshare(CLONE_NEWPID)");
		return error_set(
			err, CORESNAP_E_FAILED, EINVAL,
			"the children of this process belong to another pid namespace: the "
			"process that makes the dump could not see the target");
	}
	struct tls tls = { 0 };

	dumper->arena = arena;
	if (!stack || (dumper->ready_fd >= 0 && tls_make(&tls, arena) < 0))
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory for the dump");
	// An overflow shall be D's end, not damage.
	sys_call(SYS_mprotect, stack + (-(uintptr_t)stack & 4095), 4096, PROT_NONE);
	const int pid = start(dumper, stack, &tls, err);

	if (pid < 0)
		return pid;
	const bool own_process = dumper->own_process;
	const int status = wait_end(dumper, pid);

	if (own_process)
		sys_call(SYS_prctl, PR_SET_PTRACER, 0, 0, 0, 0);
	if (status == GOES_ON)
		return DUMPER_GOES_ON;
	if (!__atomic_load_n(&dumper->done, __ATOMIC_ACQUIRE))
		return died(dumper, status, err);
	return dumper->result;
}
