/* SPDX-License-Identifier: BSD-3-Clause */
#include "remote_frame.h"

#include <string.h>

#include "sys.h"

enum {
	MAX_LEGACY_FP = 1024,
	MAX_FRAME = 2048,
	MAX_WORDS = 8, // of a return address with what precedes it
	FP_ALIGN = 64,
};

void remote_set_call(const struct arch *arch, const struct gadgets *gadgets, void *gregs,
		     int32_t nr, const uint64_t args[6], uint64_t sp)
{
	const struct arch_remote *const facts = arch->remote;

	arch_set(arch, gregs, arch->pc, gadgets->call);
	if (facts->set_code)
		facts->set_code(gregs, gadgets->call);
	arch_set(arch, gregs, arch->sp, sp);
	if (facts->link)
		arch_set(arch, gregs, facts->link, gadgets->sigreturn);
	if (arch->rewinds) {
		arch_set(arch, gregs, arch->orig_nr, (uint64_t)nr);
	} else {
		arch_set(arch, gregs, arch->ret, (uint64_t)nr);
		// Not in a system call: else the kernel's restart of an interrupted call would
		// move pc.
		arch_set(arch, gregs, arch->orig_nr, UINT64_MAX);
	}
	for (unsigned int i = 0; i < 6; i++)
		arch_set(arch, gregs, arch->args[i], args[i]);
}

// What the call gadget pops and returns to: a sequence that performs rt_sigreturn. Without a link
// register the last word is the first of the signal frame.
static size_t return_words(const struct remote *remote, uint64_t words[MAX_WORDS])
{
	const struct gadgets *const gadgets = &remote->gadgets;
	const struct arch_remote *const facts = remote->target->arch->remote;
	size_t n = 0;

	while (n < gadgets->call_code->pops)
		words[n++] = 0;
	if (facts->link && !gadgets->call_code->on_stack)
		return n;
	if (gadgets->sigreturn) {
		words[n++] = gadgets->sigreturn;
		return n;
	}
	words[n++] = gadgets->pop_nr;
	words[n++] = (uint64_t)facts->nr.rt_sigreturn;
	words[n++] = gadgets->call;
	return n;
}

static size_t words_before_frame(const struct remote *remote)
{
	const struct arch *const arch = remote->target->arch;
	uint64_t words[MAX_WORDS];

	return (return_words(remote, words) - !arch->remote->link) * arch->word;
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
	arch->remote->put_frame(buf + words_before_frame(remote), gregs, sigmask, fp);
}

// Bytes before a link by which its frame gets the alignment that the link itself was given.
static size_t link_lead(const struct remote *remote)
{
	return -words_before_frame(remote) & (remote->target->arch->remote->frame_align - 1u);
}

size_t remote_link_stride(const struct remote *remote)
{
	const size_t size = link_lead(remote) + words_before_frame(remote) +
			    remote->target->arch->remote->frame_size;

	return (size + 15) & ~(size_t)15;
}

uint64_t remote_link_at(const struct remote *remote, uint64_t page, size_t index)
{
	return page + index * remote_link_stride(remote) + link_lead(remote);
}

void remote_put_link(const struct remote *remote, uint8_t *buf, size_t index,
		     const struct remote_link *link)
{
	uint8_t gregs[sizeof(remote->thread->gregs)] __attribute__((aligned(8)));

	// Segments, modes and flags are X's, so that they are valid ones.
	memcpy(gregs, remote->thread->gregs, sizeof(gregs));
	remote_set_call(remote->target->arch, &remote->gadgets, gregs, link->nr, link->args,
			link->next);
	put_frame(remote, buf + remote_link_at(remote, 0, index), gregs, UINT64_MAX, 0);
}

// X's registers for sigreturn, which does not restart a call by itself: the restart is done by hand
// as handle_signal() in arch/x86/kernel/signal.c would, where the kernel has not put the registers
// back already. A timed call starts anew from its start, since its restart_block is gone.
static void emergency_gregs(const struct remote *remote, void *gregs)
{
	const struct thread *const thread = remote->thread;
	const struct arch *const arch = remote->target->arch;

	memcpy(gregs, thread->changed ? thread->gregs_out : thread->gregs, sizeof(thread->gregs));
	const int64_t ret = arch_get_signed(arch, gregs, arch->ret);

	if (remote->restart_nr < 0)
		return;
	if (arch->rewinds) {
		arch_set(arch, gregs, arch->orig_nr, (uint64_t)remote->restart_nr);
		return;
	}
	if (ret != -ERESTARTSYS && ret != -ERESTARTNOINTR && ret != -ERESTARTNOHAND &&
	    ret != -ERESTART_RESTARTBLOCK)
		return;
	arch_set(arch, gregs, arch->ret, (uint64_t)remote->restart_nr);
	arch_set(arch, gregs, arch->pc, arch_get(arch, gregs, arch->pc) - arch->remote->call_size);
}

static int read_fp(struct remote *remote)
{
	const struct arch_remote *const facts = remote->target->arch->remote;
	uint8_t *const bytes = arena_alloc(remote->arena, MAX_LEGACY_FP + REMOTE_MAX_FP);
	struct arch_fp *const fp = &remote->fp;
	int ret = 0;

	if (!bytes)
		return -ENOMEM;
	*fp = (struct arch_fp){ .xstate = bytes + MAX_LEGACY_FP };
	if (facts->fp_regset) {
		fp->legacy_size = MAX_LEGACY_FP;
		ret = remote_get_regset(remote->thread->tid, facts->fp_regset, bytes,
					&fp->legacy_size);
		fp->legacy = bytes;
	}
	if (ret == 0 && facts->xstate_regset) {
		fp->xstate_size = REMOTE_MAX_FP;
		ret = remote_get_regset(remote->thread->tid, facts->xstate_regset,
					bytes + MAX_LEGACY_FP, &fp->xstate_size);
		if (ret < 0 && !facts->fp_size) {
			fp->xstate_size = 0;
			ret = 0;
		}
	}
	return ret;
}

// Places the words, the frame and the FP state, in this order, where X has room for them.
static uint8_t *build(struct remote *remote, const struct arch_fp *fp, size_t fp_bytes)
{
	const struct arch *const arch = remote->target->arch;
	const struct arch_remote *const facts = arch->remote;
	const struct thread *const thread = remote->thread;
	const uint64_t top = remote->room_end ?
				     remote->room_end - sizeof(REMOTE_MARK) :
				     arch_get(arch, thread->gregs, arch->sp) - facts->red_zone;
	const uint64_t aligned = (top - fp_bytes + facts->fp_lead) & ~(uint64_t)(FP_ALIGN - 1);
	const uint64_t fp_at = aligned - facts->fp_lead;
	const uint64_t frame = (fp_at - facts->frame_size) & ~(uint64_t)(facts->frame_align - 1);
	const size_t before = words_before_frame(remote);
	uint8_t gregs[sizeof(thread->gregs)] __attribute__((aligned(8)));

	remote->sp = remote->frame = frame - before;
	remote->frame_size =
		(size_t)((remote->room_end ? remote->room_end : fp_at + fp_bytes) - remote->frame);
	uint8_t *const buf = arena_alloc(remote->arena, remote->frame_size);

	remote->frame_bytes = arena_alloc(remote->arena, remote->frame_size);
	if (!buf || !remote->frame_bytes || top < fp_bytes + MAX_FRAME)
		return NULL;
	emergency_gregs(remote, gregs);
	put_frame(remote, buf, gregs, thread->sigmask, fp_at);
	if (facts->put_fp)
		facts->put_fp(buf + (fp_at - remote->frame), fp);
	else
		facts->put_fp_inside(buf + before, fp);
	if (remote->room_end)
		memcpy(buf + remote->frame_size - sizeof(REMOTE_MARK), REMOTE_MARK,
		       sizeof(REMOTE_MARK));
	return buf;
}

// Bytes behind the frame for FP state; 0 also where it is all inside. -1: it cannot be kept.
static int32_t fp_size(const struct arch_remote *facts, const struct arch_fp *fp)
{
	if (!facts->fp_size)
		return facts->frame_growth(fp);
	const size_t size = facts->fp_size(fp);

	return size ? (int32_t)size : -1;
}

int remote_build_frame(struct remote *remote, const uint8_t **image)
{
	const struct arch_remote *const facts = remote->target->arch->remote;
	const int ret = read_fp(remote);

	if (ret < 0)
		return ret;
	const int32_t size = fp_size(facts, &remote->fp);

	if (size < 0)
		return -EOPNOTSUPP;
	*image = build(remote, &remote->fp, (size_t)size);
	return *image ? 0 : -ENOMEM;
}
