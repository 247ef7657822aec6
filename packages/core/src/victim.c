/* SPDX-License-Identifier: BSD-3-Clause */
#include "victim.h"

#include <linux/ptrace.h>
#include <string.h>

#include "arch/arch_remote.h"
#include "gadget.h"
#include "procfs.h"
#include "remote.h"
#include "sys.h"
#include "victim_stack.h"

#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif
#ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
#endif

enum {
	STATUS_TEXT = 8192,
	LOOK_BACK = 32, // bytes of code
	LOOKED_AT = 8,  // by arch_remote.loaded_nr
	MAX_LOOKS = 64, // threads looked at closely: each look costs a few system calls
};

// How much a thread would suffer if the dumper died, ascending.
enum rank {
	RANK_USER,      // in user mode, or at the end of a finished call
	RANK_REEXECUTE, // an interrupted call that restarts as it was
	RANK_TIMED,     // a timed call: starts anew with its whole timeout
	RANK_AGAIN,     // one that has been interrupted before: its number must be found out
	RANKS,          // must not be used
};

static bool is_timed(const struct arch_remote *facts, int64_t nr)
{
	for (size_t i = 0; i < sizeof(facts->timed_calls) / sizeof(facts->timed_calls[0]); i++)
		if (facts->timed_calls[i] && facts->timed_calls[i] == nr)
			return true;
	return false;
}

// The last load of a timed call's number in the code before an address, or -1.
static int32_t loaded_nr(const struct target *target, uint64_t end)
{
	const struct arch_remote *const facts = target->arch->remote;
	const uint64_t start = end - LOOK_BACK;
	uint8_t code[LOOK_BACK + LOOKED_AT] = { 0 };

	if (target_read(target, start, code, LOOK_BACK) != LOOK_BACK)
		return -1;
	for (size_t at = LOOK_BACK; at-- > 0;) {
		// Thumb code, too: instructions of two bytes.
		if ((start + at) % (facts->code_align > 2 ? 2 : facts->code_align))
			continue;
		const int32_t nr = facts->loaded_nr(code + at);

		if (nr >= 0 && is_timed(facts, nr))
			return nr;
	}
	return -1;
}

// The number of the call behind a restart_syscall(2): as remembered, or as the code before the
// system call loads it, which may lie in the caller of the vdso. Only few calls end up there, so a
// chance match is no worry.
static int32_t original_nr(const struct target *target, const struct thread *thread,
			   const struct victim_memory *memory)
{
	const struct arch *const arch = target->arch;
	const struct arch_remote *const facts = arch->remote;
	const uint64_t pc = arch_get(arch, thread->gregs, arch->pc);
	const uint64_t sp = arch_get(arch, thread->gregs, arch->sp);
	uint8_t word[8] = { 0 };

	if (memory && memory->tid == thread->tid && memory->pc == pc)
		return memory->nr;
	const int32_t nr = loaded_nr(target, arch->rewinds ? pc : pc - facts->call_size);

	if (nr >= 0 || !facts->entry_words ||
	    target_read(target, sp + facts->entry_words * arch->word, word, arch->word) !=
		    arch->word)
		return nr;
	return loaded_nr(target, arch_get(arch, word, 0));
}

static const uint8_t *gregs_of(const struct thread *thread)
{
	return thread->changed ? thread->gregs_out : thread->gregs;
}

// Bytes of the system call instruction that the thread stands before, or 0.
static unsigned int call_size(const struct target *target, const struct thread *thread)
{
	const struct arch *const arch = target->arch;
	const uint8_t *const gregs = gregs_of(thread);
	uint8_t code[4] = { 0 };

	if (target_read(target, arch_get(arch, gregs, arch->pc), code, sizeof(code)) < 2)
		return 0;
	return arch->remote->call_at(gregs, code);
}

// Where the kernel has put the registers back, and a thread that is just about to make a call looks
// like one that was interrupted in it. For both it is right to make the call.
static enum rank rank_rewound(const struct target *target, const struct thread *thread)
{
	const struct arch *const arch = target->arch;
	const uint8_t *const gregs = gregs_of(thread);
	const int32_t nr = (int32_t)(uint32_t)arch_get(arch, gregs, arch->orig_nr);
	const int32_t ret = (int32_t)(uint32_t)arch_get(arch, gregs, arch->ret);

	// At the end of an injected call do_signal() would take such a value for its result.
	if (ret >= -516 && ret <= -512)
		return RANKS;
	if (!call_size(target, thread))
		return RANK_USER;
	if (nr == arch->remote->nr.restart_syscall)
		return RANK_AGAIN;
	return is_timed(arch->remote, nr) ? RANK_TIMED : RANK_REEXECUTE;
}

static enum rank rank_thread(const struct target *target, const struct thread *thread)
{
	const struct arch *const arch = target->arch;
	const uint8_t *const gregs = gregs_of(thread);
	const int64_t call = arch_get_signed(arch, gregs, arch->orig_nr);
	const int64_t ret = arch_get_signed(arch, gregs, arch->ret);

	if (thread->state != THREAD_STOPPED || thread->gregs_len != arch->gregs_size)
		return RANKS;
	if (arch->rewinds)
		return rank_rewound(target, thread);
	// The child of a vfork. A thread that is about to run a signal's handler has this result, too
	// (setup_rt_frame()), but does not stand behind the call.
	if (call == arch->remote->nr.vfork && ret == 0 &&
	    gadget_is_call(target, arch_get(arch, gregs, arch->pc) - arch->remote->call_size))
		return RANKS;
	// -512 to -516 are the kernel's own (include/linux/errno.h), on their way to a restart.
	if (call < 0 || ret < -516 || ret > -512)
		return RANK_USER;
	if (ret != -516)
		return RANK_REEXECUTE;
	return call == arch->remote->nr.restart_syscall ? RANK_AGAIN : RANK_TIMED;
}

// The call that must be restarted by hand in case of need; false if it cannot be known.
static bool find_restart(const struct target *target, const struct victim_memory *memory,
			 enum rank rank, struct victim *victim)
{
	const struct arch *const arch = target->arch;
	const struct thread *const thread = victim->thread;

	if (rank == RANK_USER)
		victim->restart_nr = -1;
	else if (rank == RANK_AGAIN)
		victim->restart_nr = original_nr(target, thread, memory);
	else
		victim->restart_nr =
			(int32_t)arch_get_signed(arch, gregs_of(thread), arch->orig_nr);
	if (arch->rewinds && rank != RANK_USER)
		victim->call_size = (uint8_t)call_size(target, thread);
	victim->timed = rank == RANK_TIMED;
	return rank != RANK_AGAIN || victim->restart_nr >= 0;
}

static const char stop_instead[] = "Use the method stop, which injects nothing";

static int refuse(struct coresnap_error *err, pid_t tid, const char *why, const char *remedy)
{
	err->tid = tid;
	error_remedy(err, "%s", remedy);
	return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP, "thread %d %s", tid, why);
}

static int refuse_stack(struct coresnap_error *err, pid_t tid)
{
	return refuse(err, tid,
		      "is not on a stack that is known to have room for a "
		      "signal frame (a coroutine's or alternate stack?)",
		      stop_instead);
}

// A thread that is in a restartable sequence must abort it when it was preempted, which the kernel
// sees by its pc (rseq_ip_fixup in kernel/rseq.c). With pc elsewhere it forgets the sequence.
static bool in_rseq(const struct target *target, const struct thread *thread)
{
	struct {
		uint64_t abi;
		uint32_t size, signature, flags, pad;
	} config = { 0 };
	struct {
		uint32_t version, flags;
		uint64_t start, length, abort;
	} section;
	uint64_t descriptor = 0;
	const uint64_t pc = arch_get(target->arch, thread->gregs, target->arch->pc);

	if (remote_ptrace(PTRACE_GET_RSEQ_CONFIGURATION, thread->tid, sizeof(config),
			  (uintptr_t)&config) < 0 ||
	    !config.abi)
		return false;
	// struct rseq: cpu_id_start, cpu_id, then the descriptor's address
	if (target_read(target, config.abi + 8, &descriptor, sizeof(descriptor)) !=
	    sizeof(descriptor))
		return true;
	if (!descriptor)
		return false;
	if (target_read(target, descriptor, &section, sizeof(section)) != sizeof(section))
		return true;
	return pc - section.start < section.length;
}

// PR_SET_SYSCALL_USER_DISPATCH (wine) turns calls from outside a range into SIGSYS. Kernels before
// 6.4 do not tell a tracer of it; on them such a program may be killed by the injection.
static bool dispatches_calls(pid_t tid)
{
	struct {
		uint64_t mode, selector, offset, len;
	} config = { 0 };

	return remote_ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid, sizeof(config),
			     (uintptr_t)&config) >= 0 &&
	       config.mode != 0;
}

static bool line_has(const char *text, const char *line, const char *word)
{
	const char *const at = line ? strstr(text, line) : NULL;
	const char *const found = at ? strstr(at, word) : NULL;
	const char *const end = at ? strchr(at, '\n') : NULL;

	return found && end && found < end;
}

// What a regset tells against the thread, or NULL.
static const char *refusal(const struct arch_remote *facts, pid_t tid)
{
	uint8_t bytes[64] __attribute__((aligned(8)));

	for (size_t i = 0; i < sizeof(facts->refusals) / sizeof(facts->refusals[0]); i++) {
		const struct arch_refusal *const row = &facts->refusals[i];
		struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };

		if (row->regset &&
		    remote_ptrace(PTRACE_GETREGSET, tid, row->regset, (uintptr_t)&iov) == 0 &&
		    row->refuses(bytes, iov.iov_len))
			return row->why;
	}
	return NULL;
}

// What the text of its status tells against a thread.
static int check_status(const struct arch_remote *facts, pid_t tid, const char *text,
			const struct procfs_status *status, struct coresnap_error *err)
{
	if (status->seccomp == 1)
		return refuse(err, tid,
			      "is in strict seccomp mode: a system call that is "
			      "injected into it would kill the process",
			      stop_instead);
	if (facts && line_has(text, facts->features_line, facts->shadow_stack))
		return refuse(err, tid,
			      "has a shadow stack: it would fault on a return address "
			      "that it did not push",
			      stop_instead);
	return 0;
}

// Reads its status into a text of STATUS_TEXT bytes.
static int read_status(const struct target *target, pid_t tid, char *text,
		       struct procfs_status *status, struct coresnap_error *err)
{
	char path[32];

	error_format(path, sizeof(path), "task/%d/status", tid);
	const ssize_t n = procfs_read(target->proc_fd, path, text, STATUS_TEXT);

	if (n <= 0)
		return refuse(err, tid, "is exiting", stop_instead);
	// Thousands of groups come before what is asked here.
	if (n == STATUS_TEXT - 1)
		return refuse(err, tid,
			      "has a status too long to be searched for a seccomp "
			      "filter",
			      stop_instead);
	procfs_parse_status(text, status);
	return 0;
}

static int look_closely(const struct freeze *freeze, const struct maps *maps, struct victim *victim,
			struct coresnap_error *err)
{
	const struct target *const target = freeze->target;
	const struct arch_remote *const facts = target->arch->remote;
	const struct thread *const thread = victim->thread;
	const pid_t tid = thread->tid;
	struct procfs_status status;
	char text[STATUS_TEXT];
	int ret = read_status(target, tid, text, &status, err);

	if (ret < 0)
		return ret;
	victim->seccomp = status.seccomp;
	ret = check_status(facts, tid, text, &status, err);
	if (ret < 0)
		return ret;
	const char *const why = refusal(facts, tid);

	if (why)
		return refuse(err, tid, why, stop_instead);
	if (dispatches_calls(tid))
		return refuse(err, tid,
			      "has its system calls dispatched to user space "
			      "(PR_SET_SYSCALL_USER_DISPATCH)",
			      stop_instead);
	if (in_rseq(target, thread))
		return refuse(err, tid, "is in a restartable sequence", "Try again");
	return victim_find_room(victim, freeze, maps, &status) ? 0 : refuse_stack(err, tid);
}

// "running", or the number of a call (or -1), its arguments, the stack pointer and the pc.
bool victim_stack_pointer(const struct target *target, pid_t tid, uint64_t *sp)
{
	char path[32], text[256];
	const char *at = text;

	error_format(path, sizeof(path), "task/%d/syscall", tid);
	if (procfs_read(target->proc_fd, path, text, sizeof(text)) <= 0 || *text == 'r')
		return false;
	for (unsigned int left = *text == '-' ? 1 : 7; left > 0; left--) {
		at = strchr(at, ' ');
		if (!at)
			return false;
		at++;
	}
	if (memcmp(at, "0x", 2) != 0)
		return false;
	*sp = procfs_number(at + 2, 16, NULL);
	return true;
}

int victim_look(const struct target *target, const struct maps *maps, pid_t tid, int *seccomp,
		struct coresnap_error *err)
{
	const struct arch *const arch = target_arch_of_exe(target);
	struct procfs_status status;
	char text[STATUS_TEXT];
	uint64_t sp;
	int ret = read_status(target, tid, text, &status, err);

	if (ret == 0)
		ret = check_status(arch ? arch->remote : NULL, tid, text, &status, err);
	if (ret < 0)
		return ret;
	*seccomp = status.seccomp;
	if (!victim_stack_pointer(target, tid, &sp) || victim_may_have_room(target, maps, tid, sp))
		return 0;
	return refuse_stack(err, tid);
}

uint64_t victim_pc(const struct arch *arch, const struct victim *victim)
{
	return victim->call_size ? arch_get(arch, gregs_of(victim->thread), arch->pc) : 0;
}

// Not one thread was worth a close look: so many of them for want of a call's number.
static int refuse_all(const struct freeze *freeze, size_t numberless, struct coresnap_error *err)
{
	static const char timed[] = "in a timed system call that was interrupted before, and would "
				    "see it fail if the dumper were killed now";
	static const char other[] = "has not stopped, runs 32-bit code, or is between two states "
				    "(it begins, ends, or comes from vfork)";
	const pid_t pid = freeze->target->pid;

	error_remedy(err, "%s", stop_instead);
	if (numberless == freeze->n_threads)
		return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
				 "every thread of process %d is %s", pid, timed);
	if (!numberless)
		return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
				 "no thread of process %d can make a call: each one %s", pid,
				 other);
	return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
			 "no thread of process %d can make a call: each one %s, or is %s", pid,
			 other, timed);
}

int victim_choose(struct victim *victim, struct freeze *freeze, const struct maps *maps,
		  const struct victim_memory *memory, struct coresnap_error *err)
{
	struct coresnap_error first = { 0 };
	size_t numberless = 0;
	unsigned int looks = 0;

	for (enum rank rank = 0; rank < RANKS; rank++) {
		for (size_t i = 0; i < freeze->n_threads && looks < MAX_LOOKS; i++) {
			struct victim found = { .thread = &freeze->threads[i] };

			if (rank_thread(freeze->target, found.thread) != rank)
				continue;
			if (!find_restart(freeze->target, memory, rank, &found)) {
				numberless++;
				continue;
			}
			looks++;
			if (look_closely(freeze, maps, &found, &first) == 0) {
				*victim = found;
				return 0;
			}
		}
	}
	if (first.code) {
		*err = err->code ? *err : first;
		return -EOPNOTSUPP;
	}
	return refuse_all(freeze, numberless, err);
}
