/* SPDX-License-Identifier: BSD-3-Clause */
// Bytes that the core has are given back while the rest is written: the kernel takes their pages for
// the core's own, and memory, or a disk, need not hold them twice.
#ifndef CORESNAP_SPENT_H
#define CORESNAP_SPENT_H

#include "mem.h"

struct spent {
	uint64_t block;      // given back is a multiple of it; 0: of one with which no other bytes are lost
	uint64_t start, end; // addresses, or places in the spool: the run that was written last
	bool spooled;
};

// The bytes of [start, end) of an extent are never asked for again. Best effort.
void spent_add(struct spent *spent, const struct mem *mem, const struct extent *extent, uint64_t start,
	       uint64_t end);

#endif
