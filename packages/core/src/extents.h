/* SPDX-License-Identifier: BSD-3-Clause */
// Lists of the ranges of memory that have bytes, and where the bytes are.
#ifndef CORESNAP_EXTENTS_H
#define CORESNAP_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "error.h"

// A range of pages that have bytes; what lies between two extents is a hole.
struct extent {
	uint64_t start, end;
	const uint8_t *bytes; // staged in memory; NULL: in the spool, or to be pulled from the image
	const uint8_t *tags;  // likewise, where the mapping has tags (tags.h)
	uint64_t offset;      // in the spool's file, which may be the core's
	bool spooled;         // is it there?
	bool certain;         // pages known to be there: failing to read them is worth telling
};

struct extents {
	struct arena *arena;
	struct extent *list; // ascending, none overlaps another
	size_t n, cap;
};

// Appends one behind the last, or makes that longer where both are of one piece. 0 or -ENOMEM.
int must_check extents_add(struct extents *extents, const struct extent *extent);

// The first that ends behind an address, or NULL. *at is 0 at first, and moves on with ascending
// addresses. Pure.
const struct extent *extents_at(const struct extents *extents, size_t *at, uint64_t address);

// Makes out, an empty list: the old extents, but where there is one in over, that; nothing where
// there is one in holes. Of neither bytes nor files is anything touched. 0 or -ENOMEM. Pure.
int must_check extents_overlay(const struct extents *old, const struct extents *over,
			       const struct extents *holes, struct extents *out);

// Appends to out the parts that lie in [start, end). *at is 0 at first, and moves on with ascending
// ranges. 0 or -ENOMEM. Pure.
int must_check extents_take(const struct extents *all, size_t *at, uint64_t start, uint64_t end,
			    struct extents *out);

#endif
