/* SPDX-License-Identifier: BSD-3-Clause */
// The two ways of track.h.
#ifndef CORESNAP_TRACK_PARTS_H
#define CORESNAP_TRACK_PARTS_H

#include <fcntl.h>
#include <linux/userfaultfd.h>

#include "track.h"

// include/uapi/linux/userfaultfd.h of Linux 5.11
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#define TRACK_UFFD_FLAGS (O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)

// The first area that ends behind an address; n if there is none.
size_t track_find(const struct track *track, uint64_t address);

// What this kernel's userfaultfds are like.
struct track_traits {
	bool tells_holes;  // counts as written what is not there
	bool knows_guards; // PAGEMAP_GUARD
	bool clears_moved; // memory that mremap(2) moves loses its write-protection
};

// Asked on memory of our own. A negative errno where they cannot track writes.
int must_check track_probe(struct track_traits *traits);
// Do they track all writes? 0 or a negative errno with the reason.
int must_check track_probe_judge(const struct track_traits *traits, struct coresnap_error *err);

// Of a new userfaultfd: has it track writes asynchronously; begins to, in a range.
int must_check track_uffd_start(int fd);
int must_check track_uffd_register(int fd, uint64_t start, uint64_t end);

int must_check track_uffd_possible(struct track *track, struct coresnap_error *err);
int must_check track_uffd_open(struct track *track, struct coresnap_error *err);
int must_check track_uffd_watch(struct track *track, uint64_t start, uint64_t end);
int must_check track_uffd_take(struct track *track, uint64_t start, uint64_t end, track_fn news,
			       void *arg);
int must_check track_uffd_look(const struct track *track, uint64_t start, uint64_t end,
			       track_fn news, void *arg);
void track_uffd_close(struct track *track);

int must_check track_dirty_possible(const struct target *target, struct coresnap_error *err);
// A descriptor of its clear_refs while nobody else of our kind has one: as long as it is open nobody
// gets another; the kernel closes that of a dumper that was killed. -EBUSY: somebody has it.
int must_check track_dirty_reserve(const struct target *target, struct coresnap_error *err);
int must_check track_dirty_open(struct track *track, struct coresnap_error *err);
int must_check track_dirty_take(const struct track *track, uint64_t start, uint64_t end,
				track_fn news, void *arg);
int must_check track_dirty_look(const struct track *track, uint64_t start, uint64_t end,
				track_fn news, void *arg);

// Tells of ranges in ascending order, of what lies between them, too.
struct track_teller {
	track_fn news;
	void *arg;
	uint64_t at; // how far it was told
	bool gaps;   // are there holes in between?
};

// There is something in [start, end), with new bytes or as it was.
int must_check track_tell(struct track_teller *teller, uint64_t start, uint64_t end, bool fresh);
// Up to there follows nothing.
int must_check track_tell_end(struct track_teller *teller, uint64_t end);

#endif
