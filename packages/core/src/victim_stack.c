/* SPDX-License-Identifier: BSD-3-Clause */
// Where the signal frame is put that brings an injected thread back.
#include "victim_stack.h"

#include <linux/ptrace.h>
#include <string.h>

#include "arch/arch_remote.h"
#include "blank.h"
#include "remote.h"
#include "sys.h"

enum {
	// The frame has 3 KiB, with AMX tiles 11 KiB. A main stack can grow no further while
	// everything is stopped; a thread's stack ends in somebody else's memory.
	MAIN_ROOM = 16384,
	THREAD_ROOM = 65536,
};

static uint64_t thread_pointer(const struct target *target, const struct thread *thread)
{
	const struct arch_remote *const facts = target->arch->remote;
	uint8_t tls[64] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { .iov_base = tls, .iov_len = sizeof(tls) };

	if (!facts->tls_regset)
		return facts->thread_pointer(thread->gregs, tls, 0);
	if (remote_ptrace(PTRACE_GETREGSET, thread->tid, facts->tls_regset, (uintptr_t)&iov) < 0) {
		iov.iov_len = target->arch->word;
		if (!facts->tls_request ||
		    remote_ptrace((long)facts->tls_request, thread->tid, 0, (uintptr_t)tls) < 0)
			return 0;
	}
	return facts->thread_pointer(thread->gregs, tls, iov.iov_len);
}

// Is the thread's id, as the thread itself sees it, in the C library's block below an address?
static bool has_id_below(const struct target *target, const struct mapping *m, uint64_t address,
			 const struct procfs_status *status)
{
	const size_t most = target->arch->remote->tls_below;
	const size_t size = address - m->start < most ? (size_t)(address - m->start) : most;
	const pid_t id = status->ns_depth ? status->ns_pid[status->ns_depth - 1] : 0;
	uint8_t bytes[4096];

	if (address % 4 || most > sizeof(bytes) ||
	    target_read(target, address - size, bytes, size) != (ssize_t)size)
		return false;
	for (size_t at = size % 4; at < size; at += 4)
		if (memcmp(bytes + at, &id, sizeof(id)) == 0)
			return id != 0;
	return false;
}

// What can be told of a stack pointer by the mapping that it points into.
enum stack { STACK_NO_ROOM, STACK_ROOM, STACK_OF_THREAD };

static enum stack stack_at(const struct mapping *m, uint64_t sp, bool leader)
{
	const uint32_t want = MAPPING_READ | MAPPING_WRITE;

	if (!m || (m->flags & (want | MAPPING_SHARED)) != want || mapping_has_file(m))
		return STACK_NO_ROOM;
	if (mapping_named(m, "[stack]"))
		return sp - m->start >= MAIN_ROOM ? STACK_ROOM : STACK_NO_ROOM;
	// The loader maps the main thread's block, and whatever is mapped below it merges with it.
	if (leader || sp - m->start < THREAD_ROOM || mapping_named(m, "[heap]"))
		return STACK_NO_ROOM;
	return STACK_OF_THREAD;
}

// Is the stack pointer in a stack that has room? The main stack is known by name. A thread's is
// known by the block that the C library puts at its top: its first word is its own address (the x86
// ABIs ask for that), or the thread's id is in it. What lies below the pointer of a goroutine or a
// coroutine, or on an alternate stack, may be in use. (A program may carve a coroutine's stack out
// of a thread's own; then the bytes below are put back all the same, unless the dumper dies
// meanwhile.)
static bool has_own_room(const struct target *target, const struct maps *maps,
			 const struct thread *thread, const struct procfs_status *status)
{
	const struct arch *const arch = target->arch;
	const uint64_t sp = arch_get(arch, thread->gregs, arch->sp);
	const struct mapping *const m = maps_at(maps, sp - 1);
	const enum stack stack = stack_at(m, sp, thread->tid == target->pid);
	uint8_t word[8] = { 0 };

	if (stack != STACK_OF_THREAD)
		return stack == STACK_ROOM;
	const uint64_t tp = thread_pointer(target, thread);

	if (tp < sp || tp >= m->end)
		return false;
	if (arch->remote->tls_below)
		return has_id_below(target, m, tp, status);
	return target_read(target, tp, word, arch->word) == arch->word &&
	       arch_get(arch, word, 0) == tp;
}

// The far end of the main stack, or NULL. The kernel maps 128 KiB of it beforehand (setup_arg_pages()
// in fs/exec.c), which few programs use up.
static const struct mapping *main_stack(const struct maps *maps)
{
	const uint32_t want = MAPPING_READ | MAPPING_WRITE;

	for (size_t i = maps->n; i-- > 0;) {
		const struct mapping *const m = &maps->list[i];

		if (mapping_named(m, "[stack]"))
			return (m->flags & (want | MAPPING_SHARED)) == want &&
					       m->end - m->start >= MAIN_ROOM + THREAD_ROOM ?
				       m :
				       NULL;
	}
	return NULL;
}

// Has nobody ever been there? What was would be seen, for nothing takes pages away again, or makes
// them zeros. But for the frame of a dumper that was killed, which has returned by it.
static bool is_unused(const struct target *target, const struct mapping *stack)
{
	const uint64_t end = stack->start + MAIN_ROOM;
	char mark[sizeof(REMOTE_MARK)];

	return blank_range(target, stack->start, end) ||
	       (blank_has_page(target, end - sizeof(mark)) &&
		target_read(target, end - sizeof(mark), mark, sizeof(mark)) == sizeof(mark) &&
		memcmp(mark, REMOTE_MARK, sizeof(mark)) == 0);
}

// The main thread does not come down there by itself so soon. Where it is on another stack, as in a
// coroutine, this one may be in use down to any depth.
static bool is_far_end_free(const struct target *target, const struct mapping *stack, uint64_t sp)
{
	if (sp - stack->start <= stack->end - stack->start)
		return sp - stack->start >= MAIN_ROOM + THREAD_ROOM;
	return is_unused(target, stack);
}

// Somebody may come down there meanwhile unless the main thread is stopped, or has exited.
static bool is_owner_still(const struct freeze *freeze, uint64_t *sp)
{
	const struct target *const target = freeze->target;
	const struct arch *const arch = target->arch;

	*sp = 0;
	for (size_t i = 0; i < freeze->n_threads; i++) {
		const struct thread *const thread = &freeze->threads[i];

		if (thread->tid != target->pid || thread->state != THREAD_STOPPED)
			continue;
		*sp = arch_get(arch, thread->gregs, arch->sp);
		return true;
	}
	return target->stand_in != 0;
}

bool victim_find_room(struct victim *victim, const struct freeze *freeze, const struct maps *maps,
		      const struct procfs_status *status)
{
	uint64_t sp;

	if (has_own_room(freeze->target, maps, victim->thread, status))
		return true;
	const struct mapping *const stack = main_stack(maps);

	if (!stack || !is_owner_still(freeze, &sp) || !is_far_end_free(freeze->target, stack, sp))
		return false;
	victim->room_end = stack->start + MAIN_ROOM;
	return true;
}

bool victim_may_have_room(const struct target *target, const struct maps *maps, pid_t tid,
			  uint64_t sp)
{
	const struct mapping *const stack = main_stack(maps);
	uint64_t main_sp = 0;

	if (stack_at(maps_at(maps, sp - 1), sp, tid == target->pid) != STACK_NO_ROOM)
		return true;
	if (!stack)
		return false;
	return (!target->stand_in && !victim_stack_pointer(target, target->pid, &main_sp)) ||
	       is_far_end_free(target, stack, main_sp);
}
