/* SPDX-License-Identifier: BSD-3-Clause */
#include "squeeze.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>

#include "sink_parts.h"
#include "sys.h"

#define STACK_SIZE (256u << 10)
#define WAIT_NS    20000000

// As struct timespec of the system calls without "time64".
struct old_timespec {
	long sec, nsec;
};

static unsigned int processors(void)
{
	unsigned long mask[128] = { 0 };
	const long bytes = sys_call(SYS_sched_getaffinity, 0, sizeof(mask), mask);
	unsigned int n = 0;

	for (size_t i = 0; i < sizeof(mask) / sizeof(mask[0]) && bytes > 0; i++)
		n += (unsigned int)__builtin_popcountl(mask[i]);
	return n ? n : 1;
}

static void wake(struct slot *slot)
{
	sys_call(SYS_futex, &slot->state, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT32_MAX, NULL, NULL,
		 0);
}

static void set_state(struct slot *slot, int state)
{
	__atomic_store_n(&slot->state, state, __ATOMIC_RELEASE);
	wake(slot);
}

static void make_frame(const struct squeeze *squeeze, struct slot *slot, uint8_t *work)
{
	const struct codec *const codec = squeeze->codec;

	slot->n_packed = codec->frame(work, squeeze->work_size, squeeze->level, slot->packed,
				      squeeze->room, slot->plain, slot->n_plain);
}

// False when there is no more work. Which thread takes which of two full slots does not matter.
static bool take_slot(struct slot *slot)
{
	for (;;) {
		int state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

		if (state == SLOT_OVER)
			return false;
		if (state == SLOT_FULL &&
		    __atomic_compare_exchange_n(&slot->state, &state, SLOT_TAKEN, false,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
		sys_call(SYS_futex, &slot->state, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, state, NULL,
			 NULL, 0);
	}
}

static int squeezer_main(void *arg)
{
	struct squeezer *const squeezer = arg;
	struct squeeze *const squeeze = squeezer->squeeze;

	for (;;) {
		const unsigned int ticket =
			__atomic_fetch_add(&squeeze->ticket, 1, __ATOMIC_RELAXED);
		struct slot *const slot = &squeeze->slots[ticket % squeeze->n_slots];

		if (!take_slot(slot))
			return 0;
		make_frame(squeeze, slot, squeezer->work);
		int taken = SLOT_TAKEN;

		// It may be over meanwhile.
		if (__atomic_compare_exchange_n(&slot->state, &taken, SLOT_DONE, false,
						__ATOMIC_RELEASE, __ATOMIC_RELAXED))
			wake(slot);
	}
}

int squeeze_open(struct squeeze *squeeze, struct arena *arena, struct sink *sink,
		 const struct codec *codec, int level, struct coresnap_error *err)
{
	const unsigned int cpus = processors();
	const unsigned int threads = cpus < SQUEEZE_MAX_THREADS ? cpus : SQUEEZE_MAX_THREADS;

	*squeeze = (struct squeeze){ .codec = codec,
				     .level = level,
				     .sink = sink,
				     .arena = arena,
				     .room = (codec->bound(CODEC_FRAME) + 63) & ~(size_t)63,
				     .work_size = (codec->work_size(level) + 63) & ~(size_t)63,
				     .n_slots = threads + 2,
				     .n_squeezers = threads };
	const size_t of_thread = STACK_SIZE + squeeze->work_size;
	const size_t of_slot = CODEC_FRAME + squeeze->room;
	uint8_t *memory = arena_alloc(arena, threads * of_thread + squeeze->n_slots * of_slot +
						     squeeze->room);

	if (!memory)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory to compress with");
	for (unsigned int i = 0; i < threads; i++, memory += of_thread)
		squeeze->squeezers[i] = (struct squeezer){ .squeeze = squeeze,
							   .stack = memory,
							   .work = memory + STACK_SIZE };
	for (unsigned int i = 0; i < squeeze->n_slots; i++, memory += of_slot)
		squeeze->slots[i] =
			(struct slot){ .plain = memory, .packed = memory + CODEC_FRAME };
	squeeze->zeros = memory;
	return 0;
}

// Made here and not by squeeze_open(): they are threads of the process that emits. A thread that
// cannot be made is done without; with none the caller makes the frames.
static void start(struct squeeze *squeeze)
{
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			  CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	const int saved_errno = errno;
	unsigned int made = 0;

	squeeze->started = true;
	for (; made < squeeze->n_squeezers; made++) {
		struct squeezer *const squeezer = &squeeze->squeezers[made];

		if (clone(squeezer_main, squeezer->stack + STACK_SIZE, flags, squeezer,
			  &squeezer->tid, NULL, &squeezer->tid) < 0)
			break;
	}
	squeeze->n_squeezers = made;
	errno = saved_errno;
}

static int failed(struct coresnap_error *err, const struct squeeze *squeeze)
{
	return error_set(err, CORESNAP_E_FAILED, EIO, "%s could not compress a part of the core",
			 squeeze->codec->name);
}

static int note_entry(struct squeeze *squeeze, size_t packed, size_t plain,
		      struct coresnap_error *err)
{
	if (!squeeze->codec->index)
		return 0;
	if (arena_grow(squeeze->arena, &squeeze->entries, &squeeze->cap_entries,
		       squeeze->n_entries + 1, sizeof(*squeeze->entries)) < 0)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM,
				 "no memory for the index of the compressed core");
	squeeze->entries[squeeze->n_entries++] =
		(struct codec_entry){ .packed = (uint32_t)packed, .plain = (uint32_t)plain };
	return 0;
}

static int write_frame(struct squeeze *squeeze, const uint8_t *packed, size_t n_packed,
		       size_t n_plain, struct coresnap_error *err)
{
	if (n_packed == 0)
		return failed(err, squeeze);
	const int ret = note_entry(squeeze, n_packed, n_plain, err);

	return ret < 0 ? ret : sink_put(squeeze->sink, packed, n_packed, err);
}

static int wait_done(struct squeeze *squeeze, struct slot *slot, struct coresnap_error *err)
{
	for (;;) {
		const int state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
		struct old_timespec timeout = { 0, WAIT_NS };

		if (state == SLOT_DONE)
			return 0;
		if (sys_call(SYS_futex, &slot->state, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, state,
			     &timeout, NULL, 0) != -ETIMEDOUT)
			continue;
		const int ret = sink_check(squeeze->sink, true, err);

		if (ret < 0)
			return ret;
	}
}

// Writes the frames of filled slots, in order, until at most @most are left.
static int drain(struct squeeze *squeeze, unsigned int most, struct coresnap_error *err)
{
	while (squeeze->filling - squeeze->writing > most) {
		struct slot *const slot = &squeeze->slots[squeeze->writing % squeeze->n_slots];
		int ret = wait_done(squeeze, slot, err);

		if (ret == 0)
			ret = write_frame(squeeze, slot->packed, slot->n_packed, slot->n_plain,
					  err);
		if (ret < 0)
			return ret;
		slot->n_plain = 0;
		set_state(slot, SLOT_EMPTY);
		squeeze->writing++;
	}
	return 0;
}

// Hands the slot that is being filled to the threads.
static int hand_over(struct squeeze *squeeze, struct coresnap_error *err)
{
	struct slot *const slot = &squeeze->slots[squeeze->filling % squeeze->n_slots];

	if (!squeeze->started)
		start(squeeze);
	squeeze->filling++;
	if (squeeze->n_squeezers == 0) {
		make_frame(squeeze, slot, squeeze->squeezers[0].work);
		set_state(slot, SLOT_DONE);
	} else {
		set_state(slot, SLOT_FULL);
	}
	return drain(squeeze, squeeze->n_slots - 1, err);
}

// Room in the slot that is being filled, and where it is.
static size_t room_left(const struct squeeze *squeeze, uint8_t **at)
{
	const struct slot *const slot = &squeeze->slots[squeeze->filling % squeeze->n_slots];

	*at = slot->plain + slot->n_plain;
	return CODEC_FRAME - slot->n_plain;
}

static int filled(struct squeeze *squeeze, size_t size, struct coresnap_error *err)
{
	struct slot *const slot = &squeeze->slots[squeeze->filling % squeeze->n_slots];

	slot->n_plain += size;
	return slot->n_plain == CODEC_FRAME ? hand_over(squeeze, err) : 0;
}

int squeeze_emit(struct squeeze *squeeze, const void *bytes, size_t size,
		 struct coresnap_error *err)
{
	const uint8_t *from = bytes;
	uint8_t *at;
	int ret = 0;

	while (size && ret == 0) {
		const size_t room = room_left(squeeze, &at);
		const size_t piece = size < room ? size : room;

		memcpy(at, from, piece);
		from += piece;
		size -= piece;
		ret = filled(squeeze, piece, err);
	}
	return ret;
}

// A frame of nothing but zeros is always the same.
static int emit_zero_frame(struct squeeze *squeeze, struct coresnap_error *err)
{
	struct slot *const slot = &squeeze->slots[squeeze->filling % squeeze->n_slots];
	int ret = drain(squeeze, 0, err);

	if (ret == 0 && squeeze->n_zeros == 0) {
		memset(slot->plain, 0, CODEC_FRAME);
		squeeze->n_zeros =
			squeeze->codec->frame(squeeze->squeezers[0].work, squeeze->work_size,
					      squeeze->level, squeeze->zeros, squeeze->room,
					      slot->plain, CODEC_FRAME);
	}
	return ret < 0 ? ret :
			 write_frame(squeeze, squeeze->zeros, squeeze->n_zeros, CODEC_FRAME, err);
}

int squeeze_skip(struct squeeze *squeeze, uint64_t size, struct coresnap_error *err)
{
	uint8_t *at;
	int ret = 0;

	while (size && ret == 0) {
		const size_t room = room_left(squeeze, &at);
		const size_t piece = size < room ? (size_t)size : room;

		size -= piece;
		if (piece == CODEC_FRAME) {
			ret = emit_zero_frame(squeeze, err);
			continue;
		}
		memset(at, 0, piece);
		ret = filled(squeeze, piece, err);
	}
	return ret;
}

static int write_index(struct squeeze *squeeze, struct coresnap_error *err)
{
	const struct codec *const codec = squeeze->codec;
	uint8_t head[CODEC_INDEX_HEAD], foot[CODEC_INDEX_FOOT];
	int ret;

	if (!codec->index)
		return 0;
	codec_index_head(codec, squeeze->n_entries, head);
	codec_index_foot(codec, squeeze->n_entries, foot);
	ret = sink_put(squeeze->sink, head, sizeof(head), err);
	if (ret == 0)
		ret = sink_put(squeeze->sink, squeeze->entries,
			       squeeze->n_entries * sizeof(*squeeze->entries), err);
	return ret < 0 ? ret : sink_put(squeeze->sink, foot, sizeof(foot), err);
}

int squeeze_finish(struct squeeze *squeeze, struct coresnap_error *err)
{
	uint8_t *at;
	int ret = 0;

	if (room_left(squeeze, &at) < CODEC_FRAME)
		ret = hand_over(squeeze, err);
	if (ret == 0)
		ret = drain(squeeze, 0, err);
	return ret < 0 ? ret : write_index(squeeze, err);
}

void squeeze_close(struct squeeze *squeeze)
{
	if (!squeeze->started)
		return;
	for (unsigned int i = 0; i < squeeze->n_slots; i++)
		set_state(&squeeze->slots[i], SLOT_OVER);
	for (unsigned int i = 0; i < squeeze->n_squeezers; i++) {
		const int *const tid = &squeeze->squeezers[i].tid;
		int left;

		// The kernel's wake-up at the end of a thread is not a private one.
		while ((left = __atomic_load_n(tid, __ATOMIC_ACQUIRE)) != 0)
			sys_call(SYS_futex, tid, FUTEX_WAIT, left, NULL, NULL, 0);
	}
	squeeze->started = false;
}
