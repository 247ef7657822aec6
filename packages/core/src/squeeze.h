/* SPDX-License-Identifier: BSD-3-Clause */
// Compresses a core on its way to the sink: frames in order, made by several threads.
//
//   the caller fills a slot; threads take full slots and make frames of them; the caller writes the
//   frames in the order of the slots, and fills again
//
// The threads are the dumper's own, made without the C library, whose memory and locks belong to the
// program that is dumped; so they take no memory but what is theirs from the beginning.
#ifndef CORESNAP_SQUEEZE_H
#define CORESNAP_SQUEEZE_H

#include "arena.h"
#include "codec.h"
#include "error.h"
#include "sink.h"

#define SQUEEZE_MAX_THREADS 8

enum slot_state {
	SLOT_EMPTY,
	SLOT_FULL,
	SLOT_TAKEN,
	SLOT_DONE, // packed tells the size of the frame; 0: it could not be made
	SLOT_OVER, // no more work
};

struct slot {
	int state; // enum slot_state; a futex
	uint8_t *plain, *packed;
	size_t n_plain, n_packed;
};

struct squeeze;

struct squeezer {
	struct squeeze *squeeze;
	uint8_t *stack, *work;
	int tid; // a futex: 0 once it has ended
};

struct squeeze {
	const struct codec *codec;
	int level;
	struct sink *sink;
	struct arena *arena;
	size_t room, work_size; // of a frame, and of the memory to make one
	struct slot slots[SQUEEZE_MAX_THREADS + 2];
	struct squeezer squeezers[SQUEEZE_MAX_THREADS];
	unsigned int n_slots, n_squeezers;
	unsigned int ticket;           // of the next full slot to take
	unsigned int filling, writing; // slots, counted on without end
	bool started;
	struct codec_entry *entries;
	size_t n_entries, cap_entries;
	uint8_t *zeros; // a frame of CODEC_FRAME zeros, once it was needed
	size_t n_zeros;
};

// Takes all memory that will be needed but that of the index. The level must be one of the codec's.
int must_check squeeze_open(struct squeeze *squeeze, struct arena *arena, struct sink *sink,
			    const struct codec *codec, int level, struct coresnap_error *err);

int must_check squeeze_emit(struct squeeze *squeeze, const void *bytes, size_t size,
			    struct coresnap_error *err);

// Bytes that are 0.
int must_check squeeze_skip(struct squeeze *squeeze, uint64_t size, struct coresnap_error *err);

// Writes what is left, and the index.
int must_check squeeze_finish(struct squeeze *squeeze, struct coresnap_error *err);

// Ends the threads. Idempotent, and fine on a zeroed one. Must be called by whoever emitted.
void squeeze_close(struct squeeze *squeeze);

#endif
