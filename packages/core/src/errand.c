/* SPDX-License-Identifier: BSD-3-Clause */
#include "errand.h"

#include <linux/ptrace.h>
#include <string.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "procfs.h"
#include "restart.h"
#include "step.h"

#define STOP_NS 500000000u

enum { MAX_TRIES = 16 }; // threads

int64_t errand_call(struct remote *remote, int32_t nr, const uint64_t args[6])
{
	int64_t result;
	const int ret = remote_call(remote, nr, args, &result, NULL);

	return ret < 0 ? ret : result;
}

// Stops one thread, and only that. 0: it is in freeze as the only one.
static int stop_one(struct freeze *freeze, struct thread *thread, pid_t tid)
{
	const uint64_t deadline = sys_now_ns() + STOP_NS;
	int ret = (int)remote_ptrace(PTRACE_SEIZE, tid, 0, 0);

	*thread = (struct thread){ .tid = tid, .state = THREAD_SEIZED };
	if (ret < 0)
		return ret;
	freeze->threads = thread;
	freeze->n_threads = 1;
	freeze->ended_ns = 0;
	restart_look(freeze);
	thread->state = THREAD_MISSED; // until it has stopped
	remote_ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	for (;;) {
		int status;
		size_t len;

		ret = remote_wait(tid, deadline, &status);
		if (ret <= 0)
			return ret == 0 ? -ETIMEDOUT : ret;
		if (!WIFSTOPPED(status)) {
			thread->state = THREAD_GONE;
			return -ESRCH;
		}
		if (status >> 16 != PTRACE_EVENT_STOP) {
			freeze_hand_over(tid, status);
			continue;
		}
		thread->state = THREAD_STOPPED;
		ret = remote_get_gregs(tid, thread->gregs, sizeof(thread->gregs), &len);
		if (ret == 0)
			ret = (int)remote_ptrace(PTRACE_GETSIGMASK, tid, sizeof(thread->sigmask),
						 (uintptr_t)&thread->sigmask);
		if (ret < 0)
			return ret;
		thread->gregs_len = (uint16_t)len;
		memcpy(thread->gregs_out, thread->gregs, sizeof(thread->gregs));
		return 0;
	}
}

static int fail(const struct errand *errand, int ret, const char *what, struct coresnap_error *err)
{
	return error_set(err, CORESNAP_E_FAILED, -ret,
			 "no system call can be made in a thread of process %d: %s: %s",
			 errand->target->pid, what, error_errno_name(-ret));
}

// The target, or this thread of it, may have gone into its sandbox since it was last looked at.
static int ask_filter(const struct errand *errand, struct arena *arena, const struct victim *victim,
		      struct coresnap_error *err)
{
	const struct arch_remote *const facts = errand->target->arch->remote;
	struct seccomp_call calls[ERRAND_MAX_CALLS + 1];
	size_t denied = 0;

	if (!victim->seccomp)
		return 0;
	memcpy(calls, errand->calls, errand->n_calls * sizeof(calls[0]));
	calls[errand->n_calls] = (struct seccomp_call){ .nr = facts->nr.rt_sigreturn };
	const int ret = seccomp_allows(victim->thread->tid, arena, facts->audit,
				       gadget_behind_call(&errand->gadgets, facts), calls,
				       errand->n_calls + 1, &denied);

	if (ret == 0)
		return 0;
	if (ret != -EACCES)
		return seccomp_unread(victim->thread->tid, ret, err);
	error_remedy(err, "Allow it in the filter, or use the method fork or stop");
	return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
			 "the seccomp filter of thread %d forbids system call %d, which is needed",
			 victim->thread->tid, calls[denied].nr);
}

static int inject(struct errand *errand, struct freeze *freeze, struct victim *victim, bool *lost,
		  struct coresnap_error *err)
{
	const struct arch *const arch = errand->target->arch;
	struct remote remote = { .target = errand->target,
				 .arena = freeze->arena,
				 .gadgets = errand->gadgets,
				 .thread = victim->thread,
				 .restart_nr = victim->restart_nr,
				 .call_size = victim->call_size,
				 .timed = victim->timed,
				 .room_end = victim->room_end };
	int ret = remote_begin(&remote);

	if (ret < 0)
		return fail(errand, ret, "preparing it", err);
	errand->memory =
		(struct victim_memory){ .tid = victim->thread->tid,
					.pc = arch_get(arch, victim->thread->gregs, arch->pc),
					.nr = victim->restart_nr };
	ret = errand->work(errand->arg, &remote);
	remote_end(&remote);
	if (remote.lost)
		victim->thread->state = THREAD_MISSED; // it comes back by its frame, when it can
	*lost = remote.lost;
	return ret < 0 ? fail(errand, ret, "the call", err) : 0;
}

// 0: done. *lost: the thread may still make the calls: no other one shall.
static int call_in(struct errand *errand, struct freeze *freeze, const struct maps *maps,
		   bool *lost, struct coresnap_error *err)
{
	struct victim victim;
	int ret;

	restart_calls(freeze);
	freeze_write_registers(freeze);
	ret = errand->reopen ? target_open_mem(errand->target, err) : 0;
	if (ret == 0)
		ret = victim_choose(&victim, freeze, maps, &errand->memory, err);
	if (ret < 0)
		return ret;
	if (errand->needed && !errand->needed(errand->arg))
		return 0;
	const uint64_t avoid = victim_pc(errand->target->arch, &victim);

	if (!gadget_check(&errand->gadgets, errand->target, avoid)) {
		ret = gadget_find(&errand->gadgets, errand->target, maps, avoid);
		if (ret < 0)
			return fail(errand, ret, "no instruction for it was found", err);
	}
	ret = ask_filter(errand, freeze->arena, &victim, err);
	if (ret < 0)
		return ret;
	return inject(errand, freeze, &victim, lost, err);
}

static int try_thread(struct errand *errand, struct arena *arena, const struct maps *maps,
		      pid_t tid, bool *lost, struct coresnap_error *err)
{
	struct freeze freeze;
	struct thread thread;

	freeze_init(&freeze, errand->target, arena);
	freeze.strict_timeouts = errand->strict_timeouts;
	int ret = stop_one(&freeze, &thread, tid);

	if (ret == 0)
		ret = call_in(errand, &freeze, maps, lost, err);
	else if (ret == -EPERM)
		ret = target_refused(errand->target, tid, err);
	else if (ret == -ETIMEDOUT)
		ret = freeze_too_late(errand->target, err);
	else
		fail(errand, ret, "stopping it", err);
	STEP();
	freeze_thaw(&freeze);
	return ret;
}

static int try_threads(struct errand *errand, struct arena *arena, const struct maps *maps,
		       struct coresnap_error *err)
{
	struct procfs_dir dir guard(procfs_closedir) = { .fd = -1 };
	const pid_t first = errand->memory.tid;
	const char *name;
	unsigned int tries = 0;
	bool lost = false;
	int ret = -ESRCH;

	if (first) {
		ret = try_thread(errand, arena, maps, first, &lost, err);
		if (ret == 0 || lost)
			return ret;
	}
	if (procfs_opendir(&dir, errand->target->proc_fd, "task") < 0)
		return fail(errand, -ESRCH, "it has exited", err);
	while (tries < MAX_TRIES && (name = procfs_readdir(&dir))) {
		const pid_t tid = (pid_t)procfs_number(name, 10, NULL);

		if (tid == first)
			continue;
		tries++;
		struct coresnap_error why = { 0 };

		ret = try_thread(errand, arena, maps, tid, &lost, &why);
		// The first thread that stood still and cannot bear it says more than one that did
		// not stop.
		if (ret == 0 || lost || err->os_errno != EOPNOTSUPP)
			*err = why;
		if (ret == 0 || lost)
			return ret;
	}
	return ret;
}

int errand_run(struct errand *errand, struct coresnap_error *err)
{
	struct arena arena;
	struct maps maps = { .arena = &arena };
	int ret;

	arena_init(&arena);
	if (target_exited(errand->target))
		ret = fail(errand, -ESRCH, "it has exited", err);
	else
		ret = maps_read(&maps, errand->target->proc_fd, "maps", err);
	if (ret == 0) {
		// Another program by now, perhaps, in which they lie elsewhere.
		ret = gadget_find(&errand->gadgets, errand->target, &maps, 0);
		ret = ret < 0 ? fail(errand, ret, "no instruction for it was found", err) :
				try_threads(errand, &arena, &maps, err);
	}
	arena_deinit(&arena);
	return ret;
}
