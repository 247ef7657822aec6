/* SPDX-License-Identifier: BSD-3-Clause */
// Copying memory before the stop, so that the pause hardly grows with it.
//
// T: the target   D: the dumper
//
//   D: has the writes of T's private memory tracked                       (track.h)
//   D: copies what is there: to where it will be in the core, or, if that cannot be foreseen or is not
//      a file of our own, into a file without a name           (places.h, spool.h)     T: runs
//   D: copies what was written meanwhile, behind it, again and again, while that becomes less  T: runs
//   D: stops T
//   D: takes registers and mappings; copies what was written since, and what cannot be tracked
//   D: thaws T, ends the tracking
//   D: writes the core from both copies
//
// The core is of the instant of the stop, as with every method. Dies D, the kernel ends the
// tracking; T notices nothing.
#ifndef CORESNAP_PRECOPY_H
#define CORESNAP_PRECOPY_H

#include "extents.h"
#include "places.h"
#include "snapshot.h"
#include "spool.h"
#include "track.h"

struct job;

struct precopy {
	struct track track;
	struct spool spool;
	struct extents pages; // in the spool, each with its newest bytes
	struct extents spare; // an older list, whose memory the next one takes
	struct maps before;   // the mappings that there were when the watching began
	struct extents holes; // of these, what the pause found gone
	uint64_t rest;        // bytes that the last pass brought
	uint64_t unwatched;   // bytes that cannot be watched, which the stop copies
	uint64_t most;        // size that the spool may have
	unsigned int passes;
	unsigned int stalled; // passes in a row that brought no less than the one before
	bool enough;          // one more would not bring much less
	bool full;            // there was no room for new pages in the spool
	bool in_memory;       // where the spool is; it counts for the stage budget
	bool in_places;       // the first pass writes the core's file, at the places below
	struct places places;
	bool ready;           // the passes were made
};

#define PRECOPY_NONE ((struct precopy){ .track = TRACK_NOTHING, .spool = SPOOL_NONE })

// Has the writes of the running target tracked and copies its memory. On failure the target and
// job->error are as before, and err says why.
int must_check precopy_begin(struct job *job, struct coresnap_error *err);

// One pass more, as short before the stop as can be.
int must_check precopy_once_more(struct job *job, struct coresnap_error *err);

// What the stop would copy, if the target goes on as it did in the last pass.
uint64_t precopy_left(const struct precopy *precopy);

// Of the stopped target: fills the snapshot's mappings, and copies into memory what has changed.
// Fails, with -ENOMEM, when that does not fit the stage budget.
int must_check precopy_end(struct job *job, struct coresnap_error *err);

// After the thaw: the extents of all of it into job->mem.
int must_check precopy_settle(struct job *job, struct coresnap_error *err);

// Mappings that only our watching keeps apart become one, as the kernel would have it: neighbours that
// are alike, of which one has come since. Of a process that was forked and called no execve(2) since,
// it would not; whose flags (PF_*) tell.
void precopy_join(const struct precopy *precopy, struct maps *maps, uint32_t flags);

// Of the stopped target: another method's turn is. Nothing that takes long is done before the thaw.
void precopy_give_up(struct job *job);

// Ends the tracking. Idempotent.
void precopy_untrack(struct precopy *precopy);

// Ends all. Idempotent.
void precopy_close(struct job *job);

#endif
