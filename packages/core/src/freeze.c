/* SPDX-License-Identifier: BSD-3-Clause */
#include "freeze.h"

#include <elf.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "procfs.h"
#include "restart.h"
#include "step.h"

#ifndef __WALL
#define __WALL 0x40000000
#endif
#ifndef __WNOTHREAD
#define __WNOTHREAD 0x20000000
#endif

// A program that makes threads faster than we find them ends here.
#define MAX_PASSES 64

// Fewer than this are listed as fast as they are counted.
#define MANY_THREADS 32

// How often is looked what those do that have not stopped, and whether the caller gives up.
#define ROUND_NS 10000000u

// For how long those that were given up are waited for when the others run again.
#define RELEASE_NS 20000000u

void freeze_init(struct freeze *freeze, struct target *target, struct arena *arena)
{
	*freeze = (struct freeze){ .target = target, .arena = arena };
}

static bool cancelled(const struct freeze *freeze)
{
	return freeze->cancel && __atomic_load_n(freeze->cancel, __ATOMIC_RELAXED);
}

// No event tells a tracer thread of another thread's stop with a time limit: waitpid has none, and
// SIGCHLD may be taken by anyone. So: look, give way, look again, waiting longer each time. Threads
// that run or sleep interruptibly stop within microseconds, before the first wait.
int freeze_wait(pid_t tid, uint64_t deadline_ns, int *status)
{
	struct timespec pause = { .tv_nsec = 20000 };

	for (unsigned int look = 0;; look++) {
		const long ret =
			sys_call(SYS_wait4, tid, status, __WALL | __WNOTHREAD | WNOHANG, NULL);
		if (ret == tid)
			return 1;
		if (ret < 0 && ret != -EINTR)
			return (int)ret;
		if (sys_now_ns() >= deadline_ns)
			return 0;
		if (look < 64) {
			sys_call(SYS_sched_yield);
			continue;
		}
		sys_call(SYS_ppoll, NULL, 0, &(struct timespec){ .tv_nsec = pause.tv_nsec }, NULL,
			 0);
		if (pause.tv_nsec < 1000000)
			pause.tv_nsec *= 2;
	}
}

// Our own stop is asked for once more. If that came between the kernel taking a POSIX timer's signal from
// its queue, for which it lets go of the lock (dequeue_signal()), and this stop, any stop counts as it
// (ptrace_stop() in kernel/signal.c). If not, one that was asked for twice is one.
void freeze_hand_over(pid_t tid, int status)
{
	STEP();
	sys_call(SYS_ptrace, PTRACE_INTERRUPT, tid, 0, 0);
	STEP();
	sys_call(SYS_ptrace, PTRACE_CONT, tid, 0, WSTOPSIG(status));
}

static struct thread *find_thread(struct freeze *freeze, pid_t tid)
{
	for (size_t i = 0; i < freeze->n_threads; i++)
		if (freeze->threads[i].tid == tid)
			return &freeze->threads[i];
	return NULL;
}

// Known threads come back in the same order in each listing, so the search starts where the last
// one ended and 1000 threads are not a million comparisons.
static bool known_thread(struct freeze *freeze, pid_t tid, size_t *hint)
{
	if (*hint < freeze->n_threads && freeze->threads[*hint].tid == tid) {
		++*hint;
		return true;
	}
	const struct thread *found = find_thread(freeze, tid);

	if (found)
		*hint = (size_t)(found - freeze->threads) + 1;
	return found != NULL;
}

static char thread_task_state(const struct freeze *freeze, pid_t tid)
{
	char path[32], text[1024];
	struct procfs_stat stat;

	error_format(path, sizeof(path), "task/%d/stat", tid);
	if (procfs_read(freeze->target->proc_fd, path, text, sizeof(text)) <= 0 ||
	    !procfs_parse_stat(text, &stat))
		return 'X';
	return stat.state;
}

// Attaches to a thread. 1: seized, 0: it is gone, else an error.
static int seize_thread(struct freeze *freeze, pid_t tid, struct coresnap_error *err)
{
	// Room first: what is attached must be on the list, or freeze_thaw() would not release it.
	if (arena_grow(freeze->arena, &freeze->threads, &freeze->cap_threads, freeze->n_threads + 1,
		       sizeof(struct thread)) < 0)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory for the thread list");
	STEP();
	const long ret = sys_call(SYS_ptrace, PTRACE_SEIZE, tid, 0, 0);

	if (ret == -ESRCH)
		return 0;
	if (ret == -EPERM) {
		const char state = thread_task_state(freeze, tid);

		// A thread that is exiting cannot be attached to (ptrace_attach in
		// kernel/ptrace.c), and looks like a refusal.
		if (state == 'Z' || state == 'X')
			return 0;
		return target_refused(freeze->target, tid, err);
	}
	if (ret < 0) {
		err->tid = tid;
		return error_set(err, CORESNAP_E_FAILED, (int)-ret,
				 "cannot attach to thread %d of process %d: %s", tid,
				 freeze->target->pid, error_errno_name((int)-ret));
	}
	struct thread *thread = &freeze->threads[freeze->n_threads++];

	memset(thread, 0, sizeof(*thread));
	thread->tid = tid;
	thread->state = THREAD_SEIZED;
	return 1;
}

// Seizes every thread that is not known yet. Returns how many were new.
static int seize_new(struct freeze *freeze, struct coresnap_error *err)
{
	struct procfs_dir dir guard(procfs_closedir) = { .fd = -1 };
	const char *name;
	size_t hint = 0;
	int found = 0;

	if (procfs_opendir(&dir, freeze->target->proc_fd, "task") < 0)
		return error_set(err, CORESNAP_E_TARGET_GONE, ESRCH,
				 "process %d exited before it could be stopped",
				 freeze->target->pid);
	while ((name = procfs_readdir(&dir))) {
		const pid_t tid = (pid_t)procfs_number(name, 10, NULL);

		if (known_thread(freeze, tid, &hint))
			continue;
		const int ret = seize_thread(freeze, tid, err);

		if (ret < 0)
			return ret;
		found += ret;
	}
	return found;
}

static int read_registers(struct freeze *freeze, struct thread *thread)
{
	struct iovec iov = { .iov_base = thread->gregs, .iov_len = sizeof(thread->gregs) };
	STEP();
	long ret = sys_call(SYS_ptrace, PTRACE_GETREGSET, thread->tid, NT_PRSTATUS, &iov);

	if (ret < 0)
		return (int)ret;
	thread->gregs_len = (uint16_t)iov.iov_len;
	memcpy(thread->gregs_out, thread->gregs, sizeof(thread->gregs));
	if (freeze->target->arch == NULL) {
		uint8_t ident[EI_NIDENT] = { 0 };
		const int fd guard(guard_close) =
			sys_openat(freeze->target->proc_fd, "exe", O_RDONLY, 0);

		// x32 differs from x86-64 in nothing but the class of its executable, and a 64-bit
		// process shows a 32-bit tracer 32-bit registers.
		if (fd < 0 || sys_read(fd, ident, sizeof(ident)) < (ssize_t)sizeof(ident))
			ident[EI_CLASS] = ELFCLASSNONE;
		freeze->target->arch = arch_find(iov.iov_len, ident[EI_CLASS]);
	}
	ret = sys_call(SYS_ptrace, PTRACE_GETSIGMASK, thread->tid, sizeof(thread->sigmask),
		       &thread->sigmask);
	return ret < 0 ? (int)ret : 0;
}

// What a thread is that could not be waited for, or asked. An error that the kernel should never give
// does not say that the thread has ended.
static enum thread_state without_news(int err, int gone)
{
	return err == gone ? THREAD_GONE : THREAD_MISSED;
}

// Waits until one thread has stopped for us; hands over the signals that arrive meanwhile. At until
// it is left as it is.
static void collect_thread(struct freeze *freeze, struct thread *thread, uint64_t until)
{
	for (;;) {
		int status;
		const int ret = freeze_wait(thread->tid, until, &status);

		if (ret == 0)
			return;
		if (ret < 0 || !WIFSTOPPED(status)) {
			thread->state = ret < 0 ? without_news(ret, -ECHILD) : THREAD_GONE;
			return;
		}
		if (status >> 16 != PTRACE_EVENT_STOP) {
			freeze_hand_over(thread->tid, status);
			continue;
		}
		thread->group_stop = WSTOPSIG(status) != SIGTRAP;
		const int read = read_registers(freeze, thread);

		thread->state = read < 0 ? without_news(read, -ESRCH) : THREAD_STOPPED;
		return;
	}
}

// Waits for those that have not stopped, all in all until then. How many are left?
static size_t collect_seized(struct freeze *freeze, size_t from, uint64_t until)
{
	size_t left = 0;

	for (size_t i = from; i < freeze->n_threads; i++) {
		if (freeze->threads[i].state == THREAD_SEIZED)
			collect_thread(freeze, &freeze->threads[i], until);
		left += freeze->threads[i].state == THREAD_SEIZED;
	}
	return left;
}

// Has it been in one and the same uninterruptible sleep for as long as the others shall wait for it?
// One that waits for a disk comes out of it, if only to go to sleep again.
static bool hangs(const struct freeze *freeze, struct thread *thread)
{
	struct procfs_status status;
	char path[32];

	error_format(path, sizeof(path), "task/%d/status", thread->tid);
	if (procfs_read_status(freeze->target->proc_fd, path, &status) < 0 || status.state != 'D') {
		thread->seen_ns = 0;
		return false;
	}
	if (thread->seen_ns && thread->switches == status.switches)
		return sys_now_ns() - thread->seen_ns >= freeze->grace_ns;
	thread->switches = status.switches;
	thread->seen_ns = sys_now_ns();
	return false;
}

// Gives up those that hang, or all. As long as none has stopped, none waits for them.
static void give_up(struct freeze *freeze, size_t from, bool all)
{
	bool stopped = false;

	for (size_t i = 0; i < freeze->n_threads; i++)
		stopped |= freeze->threads[i].state == THREAD_STOPPED;
	for (size_t i = from; i < freeze->n_threads; i++) {
		struct thread *const thread = &freeze->threads[i];

		if (thread->state == THREAD_SEIZED && (all || (stopped && hangs(freeze, thread))))
			thread->state = THREAD_MISSED;
	}
}

static void stop_seized(struct freeze *freeze, size_t from)
{
	for (size_t i = from; i < freeze->n_threads; i++) {
		if (freeze->threads[i].state != THREAD_SEIZED)
			continue;
		if (freeze->threads[i].sleep)
			restart_look_again(freeze, &freeze->threads[i]);
		sys_call(SYS_ptrace, PTRACE_INTERRUPT, freeze->threads[i].tid, 0, 0);
	}
	for (;;) {
		const uint64_t soon = sys_now_ns() + ROUND_NS;
		const uint64_t deadline = freeze->deadline_ns;

		if (collect_seized(freeze, from, soon < deadline ? soon : deadline) == 0)
			return;
		give_up(freeze, from, sys_now_ns() >= deadline || cancelled(freeze));
	}
}

int freeze_too_late(const struct target *target, struct coresnap_error *err)
{
	error_remedy(err, "Its threads are in uninterruptible sleep (state D in ps), or "
			  "wait for a vfork child; try again or give a longer stop timeout");
	return error_set(err, CORESNAP_E_DEADLINE, ETIMEDOUT,
			 "no thread of process %d stopped in time", target->pid);
}

static int check_frozen(const struct freeze *freeze, struct coresnap_error *err)
{
	const struct target *target = freeze->target;
	size_t stopped = 0, missed = 0;

	if (cancelled(freeze))
		return error_cancelled(err);
	for (size_t i = 0; i < freeze->n_threads; i++) {
		stopped += freeze->threads[i].state == THREAD_STOPPED;
		missed += freeze->threads[i].state == THREAD_MISSED;
	}
	if (target_exited(target) || (!stopped && !missed))
		return error_set(err, CORESNAP_E_TARGET_GONE, ESRCH,
				 "process %d exited before it could be stopped", target->pid);
	if (target_execed(target))
		return error_set(err, CORESNAP_E_TARGET_GONE, ESRCH,
				 "process %d became another program (execve) before it could be "
				 "stopped",
				 target->pid);
	if (!stopped)
		return freeze_too_late(target, err);
	if (!target->arch)
		return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
				 "process %d is of an architecture that this build does not know",
				 target->pid);
	return 0;
}

int freeze_seize(struct freeze *freeze, struct coresnap_error *err)
{
	int found = 1;

	for (unsigned int pass = 0; found > 0 && pass < MAX_PASSES; pass++)
		found = seize_new(freeze, err);
	return found < 0 ? found : 0;
}

// Are the threads that have stopped all that there are? Their number tells, which a listing of many
// would take a microsecond for each to say: one that has stopped makes no others, nor does it end
// unless all are killed.
static bool no_others(const struct freeze *freeze)
{
	struct procfs_status status;

	for (size_t i = 0; i < freeze->n_threads; i++)
		if (freeze->threads[i].state != THREAD_STOPPED)
			return false;
	return freeze->n_threads >= MANY_THREADS &&
	       procfs_read_status(freeze->target->proc_fd, "status", &status) == 0 &&
	       status.threads == freeze->n_threads;
}

static int stop_all(struct freeze *freeze, struct coresnap_error *err)
{
	size_t from = 0;

	for (unsigned int pass = 0;; pass++) {
		stop_seized(freeze, from);
		from = freeze->n_threads;
		const int found = no_others(freeze) ? 0 : seize_new(freeze, err);

		if (found < 0)
			return found;
		if (found == 0)
			break;
		if (pass == MAX_PASSES)
			return error_set(err, CORESNAP_E_DEADLINE, ETIMEDOUT,
					 "process %d makes threads faster than they can be stopped",
					 freeze->target->pid);
	}
	const int ret = check_frozen(freeze, err);

	return ret < 0 ? ret : target_open_mem(freeze->target, err);
}

// Threads in code of another width than the process is of.
static void mark_other_modes(struct freeze *freeze)
{
	const struct arch *const arch = freeze->target->arch;

	for (size_t i = 0; arch && i < freeze->n_threads; i++)
		if (freeze->threads[i].state == THREAD_STOPPED)
			freeze->threads[i].other_mode =
				freeze->threads[i].gregs_len != arch->gregs_size;
}

int freeze_stop(struct freeze *freeze, uint64_t timeout_ns, struct coresnap_error *err)
{
	freeze->began_ns = sys_now_ns();
	freeze->deadline_ns = freeze->began_ns + timeout_ns;
	freeze->grace_ns = timeout_ns / FREEZE_GRACE_PART;
	const int ret = stop_all(freeze, err);

	// Also if that failed: what has stopped goes on as if it had not.
	mark_other_modes(freeze);
	return ret;
}

void freeze_write_registers(struct freeze *freeze)
{
	for (size_t i = 0; i < freeze->n_threads; i++) {
		struct thread *thread = &freeze->threads[i];
		struct iovec iov = { .iov_base = thread->gregs_out, .iov_len = thread->gregs_len };

		if (thread->state != THREAD_STOPPED || !thread->changed)
			continue;
		STEP();
		sys_call(SYS_ptrace, PTRACE_SETREGSET, thread->tid, NT_PRSTATUS, &iov);
	}
}

// The signal that a stopped thread was about to take; 0 if it stopped for another reason: by an
// interrupt or an event, or in a call that was injected.
static int signal_of(int status)
{
	return status >> 16 || WSTOPSIG(status) == (SIGTRAP | 0x80) ? 0 : WSTOPSIG(status);
}

static void release_stopped(const struct freeze *freeze, struct thread *thread)
{
	restart_reconsider(freeze->target, thread);
	STEP();
	sys_call(SYS_ptrace, PTRACE_DETACH, thread->tid, 0, thread->signal);
}

// Only a stopped thread can be detached. One that does not stop even now is let go by the kernel
// when the dumper's process ends, which follows.
static void release_missed(struct freeze *freeze, struct thread *thread, uint64_t until_ns)
{
	struct freeze late = { .target = freeze->target,
			       .threads = thread,
			       .n_threads = 1,
			       .strict_timeouts = freeze->strict_timeouts };
	// Not told again of one that has stopped, and was missed for another reason.
	int status = PTRACE_EVENT_STOP << 16 | 0x7f;

	if (freeze_wait(thread->tid, until_ns, &status) < 0 || !WIFSTOPPED(status))
		return;
	if (status >> 16 == PTRACE_EVENT_STOP && read_registers(&late, thread) == 0) {
		thread->state = THREAD_STOPPED;
		mark_other_modes(&late);
		restart_calls(&late);
		freeze_write_registers(&late);
		release_stopped(&late, thread);
		return;
	}
	STEP();
	sys_call(SYS_ptrace, PTRACE_DETACH, thread->tid, 0, signal_of(status));
}

// They have the same time, all together: each of them may hang.
static void release_all_missed(struct freeze *freeze)
{
	for (size_t i = 0; i < freeze->n_threads; i++) {
		if (freeze->threads[i].state != THREAD_MISSED)
			continue;
		STEP();
		sys_call(SYS_ptrace, PTRACE_INTERRUPT, freeze->threads[i].tid, 0, 0);
	}
	const uint64_t until_ns = sys_now_ns() + RELEASE_NS;

	for (size_t i = 0; i < freeze->n_threads; i++)
		if (freeze->threads[i].state == THREAD_MISSED)
			release_missed(freeze, &freeze->threads[i], until_ns);
}

void freeze_thaw(struct freeze *freeze)
{
	// Stopped threads first: they are the pause.
	for (size_t i = 0; i < freeze->n_threads; i++)
		if (freeze->threads[i].state == THREAD_STOPPED)
			release_stopped(freeze, &freeze->threads[i]);
	if (freeze->began_ns && !freeze->ended_ns)
		freeze->ended_ns = sys_now_ns();
	// One that was not interrupted yet is not: the kernel lets go of it unseen, at the same time.
	release_all_missed(freeze);
	freeze->n_threads = 0;
}
