/* SPDX-License-Identifier: BSD-3-Clause */
#include "remote.h"

#include <elf.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "remote_frame.h"
#include "step.h"
#include "sys.h"

enum {
	// Stops of one call that are not its entry or exit: a group stop, a late interrupt.
	MAX_STRAY_STOPS = 64,
};

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

int remote_get_regset(pid_t tid, uint32_t type, void *buf, size_t *size)
{
	struct iovec iov = { .iov_base = buf, .iov_len = *size };
	const long ret = remote_ptrace(PTRACE_GETREGSET, tid, type, (uintptr_t)&iov);

	*size = iov.iov_len;
	return ret < 0 ? (int)ret : 0;
}

int remote_get_gregs(pid_t tid, void *gregs, size_t size, size_t *len)
{
	*len = size;
	return remote_get_regset(tid, NT_PRSTATUS, gregs, len);
}

int remote_set_gregs(pid_t tid, const void *gregs, size_t len)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)gregs, .iov_len = len };
	const long ret = remote_ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, (uintptr_t)&iov);

	return ret < 0 ? (int)ret : 0;
}

long remote_set_sigmask(pid_t tid, uint64_t mask)
{
	return remote_ptrace(PTRACE_SETSIGMASK, tid, sizeof(mask), (uintptr_t)&mask);
}

// What a dumper that was killed has left where nobody else has anything is not put back.
static void forget_left(const struct remote *remote, size_t size)
{
	const size_t mark = sizeof(REMOTE_MARK);

	if (remote->room_end && memcmp(remote->frame_bytes + size - mark, REMOTE_MARK, mark) == 0)
		memset(remote->frame_bytes, 0, size);
}

int remote_begin(struct remote *remote)
{
	const uint8_t *buf;
	int ret;

	remote->injected = remote->prepared = remote->blocked = remote->lost = false;
	remote->frame_size = 0;
	ret = remote_build_frame(remote, &buf);
	if (ret < 0)
		return ret;
	const size_t size = remote->frame_size;
	const ssize_t n = target_read(remote->target, remote->frame, remote->frame_bytes, size);

	remote->frame_size = 0;
	if (n != (ssize_t)size)
		return n < 0 ? (int)n : -EFAULT;
	forget_left(remote, size);
	remote->frame_size = size;
	STEP();
	ret = target_write(remote->target, remote->frame, buf, size);
	if (ret == 0 && remote->call_size)
		ret = remote_look_at_entry(remote);
	if (ret < 0)
		remote_end(remote);
	return ret;
}

static bool is_event(int status, int event)
{
	return status >> 16 == event;
}

int remote_run(pid_t tid, uint64_t deadline_ns, unsigned int syscall_stops, int signal, pid_t *born)
{
	for (unsigned int stop = 0; stop < MAX_STRAY_STOPS; stop++) {
		unsigned long message = 0;
		int status;
		long ret = remote_ptrace(PTRACE_SYSCALL, tid, 0, (uintptr_t)signal);

		// Out of our hands, whatever the error is: X is within the call, whose result is going
		// to be in its registers, or runs.
		if (ret < 0)
			return stop ? -ESRCH : (int)ret;
		ret = remote_wait(tid, deadline_ns, &status);
		if (ret <= 0)
			return ret == 0 ? -ETIMEDOUT : -ESRCH;
		if (!WIFSTOPPED(status))
			return -ESRCH;
		signal = 0;
		if (is_event(status, PTRACE_EVENT_CLONE)) {
			remote_ptrace(PTRACE_GETEVENTMSG, tid, 0, (uintptr_t)&message);
			if (born)
				*born = (pid_t)message;
		} else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
			if (--syscall_stops == 0)
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

int remote_run_call(pid_t tid, uint64_t deadline_ns, pid_t *born)
{
	return remote_run(tid, deadline_ns, 2, 0, born);
}

// After the first SETREGSET the frame undoes whatever follows.
static int prepare(struct remote *remote)
{
	const pid_t tid = remote->thread->tid;
	long ret;

	if (remote->blocked)
		return 0;
	remote->prepared = remote->blocked = true;
	ret = remote_set_sigmask(tid, UINT64_MAX);
	if (ret < 0)
		return (int)ret;
	ret = remote_ptrace(PTRACE_SETOPTIONS, tid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE);
	return ret < 0 ? (int)ret : 0;
}

int remote_call(struct remote *remote, int32_t nr, const uint64_t args[6], int64_t *result,
		pid_t *born)
{
	const struct arch *const arch = remote->target->arch;
	struct thread *const thread = remote->thread;
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
		ret = remote_run(thread->tid, sys_now_ns() + REMOTE_CALL_NS, 2, thread->signal,
				 born);
	thread->signal = 0;
	remote->lost = ret == -ETIMEDOUT || ret == -ESRCH;
	if (ret == 0)
		ret = remote_get_gregs(thread->tid, gregs, sizeof(gregs), &len);
	if (ret == 0)
		*result = arch_get_signed(arch, gregs, arch->ret);
	return ret;
}

// FP state that our calls have cleared. From here on the frame brings back the same.
static int set_cleared_fp(const struct remote *remote)
{
	const struct arch_remote *const facts = remote->target->arch->remote;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)remote->fp.xstate,
			     .iov_len = remote->fp.xstate_size };

	if (!remote->injected || !facts->fp_is_cleared || !facts->fp_is_cleared(&remote->fp))
		return 0;
	return (int)remote_ptrace(PTRACE_SETREGSET, remote->thread->tid, facts->xstate_regset,
				  (uintptr_t)&iov);
}

void remote_end(struct remote *remote)
{
	const struct thread *const thread = remote->thread;

	if (!thread || remote->lost)
		return;
	// A call that was made to restart by hand must be made from user mode (restart.h).
	if (remote->injected && remote->call_size && !thread->changed && remote_enter(remote) == 0)
		remote->injected = remote->blocked = false;
	if (remote->lost)
		return;
	remote->lost = set_cleared_fp(remote) < 0 ||
		       (remote->blocked && remote_set_sigmask(thread->tid, thread->sigmask) < 0);
	if (remote->lost)
		return; // only the frame can bring it back
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
	remote->prepared = remote->blocked = false;
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
