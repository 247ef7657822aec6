/* SPDX-License-Identifier: BSD-3-Clause */
#include "restart.h"

#include <errno.h>
#include <string.h>

// include/linux/errno.h: restart if no handler is to be called. A handler that does run makes it
// EINTR, as it would without us; ERESTARTNOINTR (-513) would hide that one too.
#define ERESTARTNOHAND 514

#define IPC_SEMOP             1
#define IPC_SEMTIMEDOP        4
#define IORING_ENTER_EXT_ARG_ (1u << 3)

static uint64_t argument(const struct thread *thread, const struct arch *arch, unsigned int n)
{
	return arch_get(arch, thread->gregs, arch->args[n]);
}

// Does the interrupted call have a timeout that would start anew?
static bool has_timeout(const struct thread *thread, const struct arch *arch,
			const struct arch_eintr_call *call)
{
	const uint64_t value = argument(thread, arch, call->arg);

	switch (call->timeout) {
	case EINTR_NO_TIMEOUT:
		return false;
	case EINTR_TIMEOUT_MS:
		return (int32_t)(uint32_t)value >= 0;
	case EINTR_TIMEOUT_PTR:
		return value != 0;
	case EINTR_TIMEOUT_SOCKET:
		return true;
	case EINTR_TIMEOUT_IPC:
		return (value & 0xffff) == IPC_SEMTIMEDOP && argument(thread, arch, 5) != 0;
	case EINTR_TIMEOUT_URING:
		return value & IORING_ENTER_EXT_ARG_;
	}
	return true;
}

static const struct arch_eintr_call *interrupted_call(const struct thread *thread,
						      const struct arch *arch)
{
	const int64_t nr = arch_get_signed(arch, thread->gregs, arch->orig_nr);

	if (nr < 0 || arch_get_signed(arch, thread->gregs, arch->ret) != -EINTR)
		return NULL;
	const struct arch_eintr_call *const call = restart_eintr_call(arch, nr);

	if (call && call->timeout == EINTR_TIMEOUT_IPC) {
		const uint64_t which = argument(thread, arch, call->arg) & 0xffff;

		return which == IPC_SEMOP || which == IPC_SEMTIMEDOP ? call : NULL;
	}
	return call;
}

const struct arch_eintr_call *restart_eintr_call(const struct arch *arch, int64_t nr)
{
	for (size_t i = 0; i < arch->n_eintr_calls; i++)
		if (arch->eintr_calls[i].nr == nr)
			return &arch->eintr_calls[i];
	return NULL;
}

void restart_calls(struct freeze *freeze)
{
	const struct arch *arch = freeze->target->arch;

	for (size_t i = 0; arch && i < freeze->n_threads; i++) {
		struct thread *thread = &freeze->threads[i];

		if (thread->state != THREAD_STOPPED || thread->other_mode)
			continue;
		const struct arch_eintr_call *call = interrupted_call(thread, arch);

		if (!call || (freeze->strict_timeouts && has_timeout(thread, arch, call)))
			continue;
		if (arch->rewinds) {
			restart_rewind(freeze->target, thread);
			continue;
		}
		arch_set(arch, thread->gregs_out, arch->ret, (uint64_t)-ERESTARTNOHAND);
		thread->changed = true;
	}
}
