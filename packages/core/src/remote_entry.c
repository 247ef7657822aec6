/* SPDX-License-Identifier: BSD-3-Clause */
// The entry of a system call as the place where X is found and left, where the kernel puts an
// interrupted call back by moving pc (drawn in remote.h).
#include <linux/ptrace.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "remote.h"
#include "remote_frame.h"
#include "sys.h"

#ifndef PTRACE_GET_SYSCALL_INFO
#define PTRACE_GET_SYSCALL_INFO 0x420e
#endif

#define INFO_ENTRY 1 // PTRACE_SYSCALL_INFO_ENTRY

// Refused as an address, as a length, and as flags. wait4(2) looks at its flags first (kernel_wait4
// in kernel/exit.c), and is among the calls that a filter was asked about.
#define REFUSED ((uint64_t)-4096)

// Is a tracee at the entry of a call, and of which? On 32-bit ARM no register tells the number: a
// call is restarted there without going back to user mode (ret_fast_syscall in
// arch/arm/kernel/entry-common.S). -ENOSYS where the kernel does not tell (before Linux 5.3).
static int at_entry(pid_t tid, int32_t *nr)
{
	struct {
		uint8_t op, pad[3];
		uint32_t arch;
		uint64_t ip, sp, nr, args[6];
	} info = { 0 };
	const long ret =
		remote_ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), (uintptr_t)&info);

	if (ret <= 0)
		return -ENOSYS;
	*nr = (int32_t)info.nr;
	return info.op == INFO_ENTRY;
}

static int set_entry_nr(const struct arch_remote *facts, pid_t tid, int32_t nr)
{
	struct iovec iov = { .iov_base = &nr, .iov_len = sizeof(nr) };
	long ret = facts->nr_regset ?
			   remote_ptrace(PTRACE_SETREGSET, tid, facts->nr_regset, (uintptr_t)&iov) :
			   -EIO;

	if (ret < 0 && facts->nr_request)
		ret = remote_ptrace((long)facts->nr_request, tid, 0, (uintptr_t)nr);
	return ret < 0 ? (int)ret : 0;
}

// Lets X, of which nothing has been changed, run to the entry of its call. 1: it is there, 0: it
// stopped before that for another reason.
static int run_to_entry(struct remote *remote)
{
	const pid_t tid = remote->thread->tid;
	int status;
	int ret = (int)remote_ptrace(PTRACE_SETOPTIONS, tid, 0, PTRACE_O_TRACESYSGOOD);

	if (ret < 0)
		return ret;
	remote->prepared = true;
	ret = (int)remote_ptrace(PTRACE_SYSCALL, tid, 0, 0);
	if (ret < 0)
		return ret;
	ret = remote_wait(tid, sys_now_ns() + REMOTE_CALL_NS, &status);
	remote->lost = ret <= 0 || !WIFSTOPPED(status);
	if (remote->lost)
		return -ESRCH;
	if (WSTOPSIG(status) == (SIGTRAP | 0x80))
		return 1;
	// It is about to take a signal. Our first call goes before that: it blocks the signal,
	// which the kernel then puts back (ptrace_signal in kernel/signal.c).
	if (status >> 16 != PTRACE_EVENT_STOP)
		remote->thread->signal = WSTOPSIG(status);
	return 0;
}

// From the entry of X's call to the exit of another one in its place, which is refused. If D dies
// between the two writes, X's own call is made with arguments that it refuses.
static int skip(struct remote *remote)
{
	const struct arch *const arch = remote->target->arch;
	const struct thread *const thread = remote->thread;
	const uint64_t args[6] = { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED };
	uint8_t gregs[sizeof(thread->gregs)] __attribute__((aligned(8)));

	memcpy(gregs, thread->gregs, sizeof(gregs));
	remote_set_call(arch, &remote->gadgets, gregs, remote->entry_nr, args, remote->sp);
	arch_set(arch, gregs, arch->pc, gadget_behind_call(&remote->gadgets, arch->remote));
	int ret = remote_set_gregs(thread->tid, gregs, thread->gregs_len);

	if (ret < 0)
		return ret;
	remote->injected = true;
	ret = set_entry_nr(arch->remote, thread->tid, arch->remote->nr.wait4);
	if (ret == 0)
		ret = remote_run(thread->tid, sys_now_ns() + REMOTE_CALL_NS, 1, 0, NULL);
	remote->lost = ret < 0;
	return ret;
}

int remote_look_at_entry(struct remote *remote)
{
	const struct arch *const arch = remote->target->arch;
	const struct thread *const thread = remote->thread;
	uint8_t gregs[sizeof(thread->gregs)] __attribute__((aligned(8)));
	size_t len;

	remote->entry_nr_register = arch_get(arch, thread->gregs, arch->orig_nr);
	remote->entry_nr = (int32_t)(uint32_t)remote->entry_nr_register;
	if (!remote->timed)
		return 0;
	int ret = run_to_entry(remote);

	if (ret <= 0)
		return ret;
	ret = remote_get_gregs(thread->tid, gregs, sizeof(gregs), &len);
	if (ret < 0)
		return ret;
	remote->entry_nr_register = arch_get(arch, gregs, arch->orig_nr);
	if (at_entry(thread->tid, &remote->entry_nr) < 0)
		remote->entry_nr = (int32_t)(uint32_t)remote->entry_nr_register;
	return skip(remote);
}

// Puts X, at the entry of another call, to that of its own. If D dies between the first two writes,
// the other call is refused; between the last two X's own is made with arguments that it refuses.
static int change_call(const struct remote *remote)
{
	const struct arch *const arch = remote->target->arch;
	const struct thread *const thread = remote->thread;
	uint8_t gregs[sizeof(thread->gregs)] __attribute__((aligned(8)));

	if (remote->blocked)
		remote_set_sigmask(thread->tid, thread->sigmask);
	const int ret = set_entry_nr(arch->remote, thread->tid, remote->entry_nr);

	if (ret < 0)
		return ret;
	memcpy(gregs, thread->gregs, sizeof(gregs));
	arch_set(arch, gregs, arch->pc, arch_get(arch, gregs, arch->pc) + remote->call_size);
	arch_set(arch, gregs, arch->orig_nr, remote->entry_nr_register);
	if (arch->orig_arg0)
		arch_set(arch, gregs, arch->orig_arg0, arch_get(arch, gregs, arch->args[0]));
	return remote_set_gregs(thread->tid, gregs, thread->gregs_len);
}

int remote_enter(struct remote *remote)
{
	const struct arch *const arch = remote->target->arch;
	const struct thread *const thread = remote->thread;
	// The kernel keeps the first argument at the entry, to put it back if the call is
	// interrupted once more. Where that can be set, it can be refused until then.
	const uint64_t args[6] = { arch->orig_arg0 ? REFUSED :
						     arch_get(arch, thread->gregs, arch->args[0]),
				   REFUSED,
				   REFUSED,
				   REFUSED,
				   REFUSED,
				   REFUSED };
	uint8_t gregs[sizeof(thread->gregs)] __attribute__((aligned(8)));
	const int32_t other = arch->remote->nr.wait4;
	int32_t nr = other;

	memcpy(gregs, thread->gregs, sizeof(gregs));
	remote_set_call(arch, &remote->gadgets, gregs, other, args, remote->sp);
	int ret = remote_set_gregs(thread->tid, gregs, thread->gregs_len);

	if (ret == 0)
		ret = remote_run(thread->tid, sys_now_ns() + REMOTE_CALL_NS, 1, 0, NULL);
	if (ret == 0 && (at_entry(thread->tid, &nr) == 0 || nr != other))
		ret = -EIO;
	if (ret == 0)
		ret = change_call(remote);
	// Where it stands now, nothing but its frame brings it back.
	remote->lost = ret < 0;
	return ret;
}
