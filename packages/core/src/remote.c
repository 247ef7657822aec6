/* SPDX-License-Identifier: BSD-3-Clause */
#include "remote.h"

#include <elf.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "step.h"
#include "sys.h"

enum {
	MAX_FP = 16384, // an XSAVE area with AMX tiles has 11 KiB
	MAX_LEGACY_FP = 512,
	MAX_FRAME = 512,
	MAX_WORDS = 8, // of a return address with what precedes it
	FP_ALIGN = 64,
	// Stops of one call that are not its entry or exit: a group stop, a late interrupt.
	MAX_STRAY_STOPS = 64,
};

#define CALL_NS 5000000000u // the calls injected into X take microseconds

// include/linux/errno.h: results of an interrupted call that the kernel is going to restart.
#define ERESTARTSYS           512
#define ERESTARTNOINTR        513
#define ERESTARTNOHAND        514
#define ERESTART_RESTARTBLOCK 516

long remote_ptrace(long request, pid_t tid, uintptr_t addr, uintptr_t data)
{
	STEP();
	return sys_call(SYS_ptrace, request, tid, addr, data);
}

int remote_wait(pid_t tid, uint64_t deadline_ns, int *status)
{
	STEP();
	return freeze_wait(tid, deadline_ns, status);
}

static int get_regset(pid_t tid, uint32_t type, void *buf, size_t *size)
{
	struct iovec iov = { .iov_base = buf, .iov_len = *size };
	const long ret = remote_ptrace(PTRACE_GETREGSET, tid, type, (uintptr_t)&iov);

	*size = iov.iov_len;
	return ret < 0 ? (int)ret : 0;
}

int remote_get_gregs(pid_t tid, void *gregs, size_t size, size_t *len)
{
	*len = size;
	return get_regset(tid, NT_PRSTATUS, gregs, len);
}

int remote_set_gregs(pid_t tid, const void *gregs, size_t len)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)gregs, .iov_len = len };
	const long ret = remote_ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, (uintptr_t)&iov);

	return ret < 0 ? (int)ret : 0;
}

static long set_sigmask(pid_t tid, uint64_t mask)
{
	return remote_ptrace(PTRACE_SETSIGMASK, tid, sizeof(mask), (uintptr_t)&mask);
}

void remote_set_call(const struct arch *arch, const struct gadgets *gadgets, void *gregs,
		     int32_t nr, const uint64_t args[6], uint64_t sp)
{
	arch_set(arch, gregs, arch->pc, gadgets->call);
	arch_set(arch, gregs, arch->sp, sp);
	arch_set(arch, gregs, arch->ret, (uint64_t)nr);
	// Not in a system call: else the kernel's restart of an interrupted call would move pc.
	arch_set(arch, gregs, arch->orig_nr, UINT64_MAX);
	for (unsigned int i = 0; i < 6; i++)
		arch_set(arch, gregs, arch->args[i], args[i]);
}

// What the call gadget pops and returns to: a sequence that performs rt_sigreturn. The last word is
// the first of the signal frame.
static size_t return_words(const struct remote *remote, uint64_t words[MAX_WORDS])
{
	const struct gadgets *const gadgets = &remote->gadgets;
	size_t n = 0;

	while (n < gadgets->pops)
		words[n++] = 0;
	if (gadgets->sigreturn) {
		words[n++] = gadgets->sigreturn;
		return n;
	}
	words[n++] = gadgets->pop_nr;
	words[n++] = (uint64_t)remote->target->arch->remote->nr.rt_sigreturn;
	words[n++] = gadgets->call;
	return n;
}

static size_t words_before_frame(const struct remote *remote)
{
	uint64_t words[MAX_WORDS];

	return (return_words(remote, words) - 1) * remote->target->arch->word;
}

// The words and the frame behind them, into zeroed bytes.
static void put_frame(const struct remote *remote, uint8_t *buf, const void *gregs,
		      uint64_t sigmask, uint64_t fp)
{
	const struct arch *const arch = remote->target->arch;
	uint64_t words[MAX_WORDS];
	const size_t n = return_words(remote, words);

	for (size_t i = 0; i < n; i++)
		arch_set(arch, buf, (uint16_t)(i * arch->word), words[i]);
	arch->remote->put_frame(buf + (n - 1) * arch->word, gregs, sigmask, fp);
}

size_t remote_link_size(const struct remote *remote)
{
	return words_before_frame(remote) + remote->target->arch->remote->frame_size;
}

void remote_put_link(const struct remote *remote, uint8_t *buf, const struct remote_link *link)
{
	uint8_t gregs[sizeof(remote->thread->gregs)] __attribute__((aligned(8)));

	// Segments and flags are X's, so that they are valid ones.
	memcpy(gregs, remote->thread->gregs, sizeof(gregs));
	remote_set_call(remote->target->arch, &remote->gadgets, gregs, link->nr, link->args,
			link->next);
	put_frame(remote, buf, gregs, UINT64_MAX, 0);
}

// X's registers for sigreturn, which does not restart a call by itself: the restart is done by hand
// as handle_signal() in arch/x86/kernel/signal.c would. A timed call starts anew from its start,
// since its restart_block is gone.
static void emergency_gregs(const struct remote *remote, void *gregs)
{
	const struct thread *const thread = remote->thread;
	const struct arch *const arch = remote->target->arch;

	memcpy(gregs, thread->changed ? thread->gregs_out : thread->gregs, sizeof(thread->gregs));
	const int64_t ret = arch_get_signed(arch, gregs, arch->ret);

	if (remote->restart_nr < 0 || (ret != -ERESTARTSYS && ret != -ERESTARTNOINTR &&
				       ret != -ERESTARTNOHAND && ret != -ERESTART_RESTARTBLOCK))
		return;
	arch_set(arch, gregs, arch->ret, (uint64_t)remote->restart_nr);
	arch_set(arch, gregs, arch->pc, arch_get(arch, gregs, arch->pc) - arch->remote->call_size);
}

static int read_fp(const struct remote *remote, struct arch_fp *fp)
{
	const struct arch_remote *const facts = remote->target->arch->remote;
	uint8_t *const bytes = arena_alloc(remote->arena, MAX_LEGACY_FP + MAX_FP);
	size_t size = MAX_LEGACY_FP;
	int ret = 0;

	if (!bytes)
		return -ENOMEM;
	*fp = (struct arch_fp){ .xstate = bytes + MAX_LEGACY_FP, .xstate_size = MAX_FP };
	if (facts->fp_regset) {
		ret = get_regset(remote->thread->tid, facts->fp_regset, bytes, &size);
		fp->legacy = bytes;
	}
	if (ret == 0)
		ret = get_regset(remote->thread->tid, facts->xstate_regset, bytes + MAX_LEGACY_FP,
				 &fp->xstate_size);
	return ret;
}

// Places the words, the frame and the FP state, in this order, below X's stack pointer.
static uint8_t *build(struct remote *remote, const struct arch_fp *fp, size_t fp_size)
{
	const struct arch *const arch = remote->target->arch;
	const struct arch_remote *const facts = arch->remote;
	const struct thread *const thread = remote->thread;
	const uint64_t top = arch_get(arch, thread->gregs, arch->sp) - facts->red_zone;
	const uint64_t aligned = (top - fp_size + facts->fp_lead) & ~(uint64_t)(FP_ALIGN - 1);
	const uint64_t fp_at = aligned - facts->fp_lead;
	const uint64_t frame = (fp_at - facts->frame_size) & ~(uint64_t)(facts->frame_align - 1);
	uint8_t gregs[sizeof(thread->gregs)] __attribute__((aligned(8)));

	remote->sp = remote->frame = frame - words_before_frame(remote);
	remote->frame_size = (size_t)(fp_at + fp_size - remote->frame);
	uint8_t *const buf = arena_alloc(remote->arena, remote->frame_size);

	remote->frame_bytes = arena_alloc(remote->arena, remote->frame_size);
	if (!buf || !remote->frame_bytes || top < fp_size + MAX_FRAME)
		return NULL;
	emergency_gregs(remote, gregs);
	put_frame(remote, buf, gregs, thread->sigmask, fp_at);
	facts->put_fp(buf + (fp_at - remote->frame), fp);
	return buf;
}

int remote_begin(struct remote *remote)
{
	struct arch_fp fp;
	int ret = read_fp(remote, &fp);

	remote->injected = remote->prepared = remote->lost = false;
	remote->frame_size = 0;
	if (ret < 0)
		return ret;
	const size_t fp_size = remote->target->arch->remote->fp_size(&fp);

	if (!fp_size)
		return -EOPNOTSUPP;
	const uint8_t *const buf = build(remote, &fp, fp_size);

	if (!buf)
		return -ENOMEM;
	const size_t size = remote->frame_size;
	const ssize_t n = target_read(remote->target, remote->frame, remote->frame_bytes, size);

	remote->frame_size = 0;
	if (n != (ssize_t)size)
		return n < 0 ? (int)n : -EFAULT;
	remote->frame_size = size;
	STEP();
	ret = target_write(remote->target, remote->frame, buf, size);
	if (ret < 0)
		remote_end(remote);
	return ret;
}

static bool is_event(int status, int event)
{
	return status >> 16 == event;
}

int remote_run_call(pid_t tid, uint64_t deadline_ns, pid_t *born)
{
	unsigned int syscall_stops = 0;
	uintptr_t signal = 0;

	for (unsigned int stop = 0; stop < MAX_STRAY_STOPS; stop++) {
		unsigned long message = 0;
		int status;
		long ret = remote_ptrace(PTRACE_SYSCALL, tid, 0, signal);

		if (ret < 0)
			return (int)ret;
		ret = remote_wait(tid, deadline_ns, &status);
		if (ret <= 0)
			return ret == 0 ? -ETIMEDOUT : (int)ret;
		if (!WIFSTOPPED(status))
			return -ESRCH;
		signal = 0;
		if (is_event(status, PTRACE_EVENT_CLONE)) {
			remote_ptrace(PTRACE_GETEVENTMSG, tid, 0, (uintptr_t)&message);
			if (born)
				*born = (pid_t)message;
		} else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
			if (++syscall_stops == 2)
				return 0;
		} else if (!is_event(status, PTRACE_EVENT_STOP)) {
			// All signals that can be blocked are. SIGSTOP begins a group stop, which a
			// tracee that is made to run takes part in when it is detached. All else is
			// a fault, and not for the program to see.
			if (WSTOPSIG(status) != SIGSTOP)
				return -EFAULT;
			signal = SIGSTOP;
		}
	}
	return -EBUSY;
}

// After the first SETREGSET the frame undoes whatever follows.
static int prepare(struct remote *remote)
{
	const pid_t tid = remote->thread->tid;
	long ret;

	if (remote->prepared)
		return 0;
	remote->prepared = true;
	ret = set_sigmask(tid, UINT64_MAX);
	if (ret < 0)
		return (int)ret;
	ret = remote_ptrace(PTRACE_SETOPTIONS, tid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE);
	return ret < 0 ? (int)ret : 0;
}

int remote_call(struct remote *remote, int32_t nr, const uint64_t args[6], int64_t *result,
		pid_t *born)
{
	const struct arch *const arch = remote->target->arch;
	const struct thread *const thread = remote->thread;
	uint8_t gregs[sizeof(thread->gregs)] __attribute__((aligned(8)));
	size_t len;
	int ret;

	if (remote->lost)
		return -ESRCH;
	memcpy(gregs, thread->gregs, sizeof(gregs));
	remote_set_call(arch, &remote->gadgets, gregs, nr, args, remote->sp);
	ret = remote_set_gregs(thread->tid, gregs, thread->gregs_len);
	if (ret < 0)
		return ret;
	remote->injected = true;
	ret = prepare(remote);
	if (ret == 0)
		ret = remote_run_call(thread->tid, sys_now_ns() + CALL_NS, born);
	remote->lost = ret == -ETIMEDOUT || ret == -ESRCH;
	if (ret == 0)
		ret = remote_get_gregs(thread->tid, gregs, sizeof(gregs), &len);
	if (ret == 0)
		*result = arch_get_signed(arch, gregs, arch->ret);
	return ret;
}

void remote_end(struct remote *remote)
{
	const struct thread *const thread = remote->thread;

	if (!thread || remote->lost)
		return;
	if (remote->prepared)
		set_sigmask(thread->tid, thread->sigmask);
	// Those with which it is going to be detached anyway, should D die before that.
	if (remote->injected &&
	    remote_set_gregs(thread->tid, thread->changed ? thread->gregs_out : thread->gregs,
			     thread->gregs_len) < 0)
		return; // it is gone, or the frame must stay
	remote->injected = false;
	STEP();
	if (remote->frame_size &&
	    target_write(remote->target, remote->frame, remote->frame_bytes, remote->frame_size))
		return;
	if (remote->prepared)
		remote_ptrace(PTRACE_SETOPTIONS, thread->tid, 0, 0);
	remote->prepared = false;
}

int remote_wait_birth(pid_t tid, uint64_t deadline_ns)
{
	for (unsigned int stop = 0; stop < MAX_STRAY_STOPS; stop++) {
		int status;
		const int ret = remote_wait(tid, deadline_ns, &status);

		if (ret <= 0)
			return ret == 0 ? -ETIMEDOUT : ret;
		if (!WIFSTOPPED(status))
			return -ESRCH;
		if (is_event(status, PTRACE_EVENT_STOP))
			return 0;
		remote_ptrace(PTRACE_CONT, tid, 0, 0);
	}
	return -EBUSY;
}
