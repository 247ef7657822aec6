/* SPDX-License-Identifier: BSD-3-Clause */
// Which pages of a running process were written since we looked last.
//
// By a userfaultfd of the target in asynchronous write-protect mode, which resolves its own faults
// and tells of them by PAGEMAP_SCAN (Linux kernel commits 52526ca7fdb9 and d61ea1cb0095, in v6.7); or
// by the soft-dirty bits of its page tables (Documentation/admin-guide/mm/soft-dirty.rst), of which
// a process has one set: who clears them disturbs all others who use them. Features are probed on memory
// of our own before the target is touched.
//
// While it lasts the first write to each page is a fault, which the kernel handles by itself. The
// target cannot register the same memory with a userfaultfd of its own; one that has any is left
// alone. Dies D, the kernel closes the descriptor and with it all is as before.
#ifndef CORESNAP_TRACK_H
#define CORESNAP_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "error.h"
#include "target.h"
#include "victim.h"

enum track_kind { TRACK_NONE, TRACK_UFFD, TRACK_SOFT_DIRTY };

struct track_area {
	uint64_t start, end;
	bool lost; // not to be relied on
};

struct track {
	enum track_kind kind;
	const struct target *target;
	struct arena *arena;
	bool self;            // the target's memory is ours, too
	bool strict_timeouts; // as struct freeze has it
	int pagemap, uffd;    // or -1
	int clear_refs;       // locked while the bits are relied on; or -1
	int left;          // number in the target of a userfaultfd that a killed dumper left, or -1
	bool tells_holes;  // the kernel counts as written what is not there
	bool knows_guards; // PAGEMAP_GUARD
	struct track_area *areas; // ascending
	size_t n, cap;
	struct victim_memory memory; // of the thread that was asked for the userfaultfd
};

#define TRACK_NOTHING ((struct track){ .pagemap = -1, .uffd = -1, .clear_refs = -1, .left = -1 })

// What became of a range: it has (new) bytes, or nothing any more.
enum track_news { TRACK_BYTES, TRACK_HOLE };

// A negative return ends what calls it with that value.
typedef int (*track_fn)(void *arg, uint64_t start, uint64_t end, enum track_news news);

// Could the writes of a process be tracked, as far as it can be told without touching it? *asks: one
// of its threads must be able to help. 0 or a negative errno with the reason.
int must_check track_possible(const struct target *target, bool self, bool *asks,
			      struct coresnap_error *err);

// Likewise, if none of its threads can help.
bool track_possible_unasked(const struct target *target);

// Finds a way, and for a userfaultfd has one thread of the target make it, in a stop of about 0.1 ms
// of that thread alone. target, its memory open, arena, self and strict_timeouts are set. On failure err says why
// neither can be had; track_close() is safe.
int must_check track_open(struct track *track, struct coresnap_error *err);

// How often track_take() brings less each time. Soft-dirty bits cannot be read and cleared at once.
unsigned int track_most_passes(const struct track *track);

// Watches a mapping of private memory from now on. A negative errno where that cannot be.
int must_check track_watch(struct track *track, uint64_t start, uint64_t end);
bool track_watches(const struct track *track, uint64_t start, uint64_t end);

// Is memory watched from start on? Up to *until, at most @end, it is, or is not.
bool track_stretch(const struct track *track, uint64_t start, uint64_t end, uint64_t *until);

// Does what is watched, or was until track_close(), begin or end there?
bool track_meets(const struct track *track, uint64_t address);

// Not all of its bytes were taken: it is not relied on any more.
void track_lose(struct track *track, uint64_t start, uint64_t end);

// Of a running target: tells of all pages that are there and were written since they were taken the
// last time; they are to be copied at once, or in the call back. In pieces, so that the target's own
// mmap(2) need not wait for more than one. -EPERM: the memory is no longer what was watched.
int must_check track_take(struct track *track, uint64_t start, uint64_t end, track_fn news,
			  void *arg);

// Of a frozen target: tells what has changed since it was taken.
int must_check track_look(const struct track *track, uint64_t start, uint64_t end, track_fn news,
			  void *arg);

// Stops watching. Idempotent.
void track_close(struct track *track);

#endif
