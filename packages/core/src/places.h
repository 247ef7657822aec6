/* SPDX-License-Identifier: BSD-3-Clause */
// Where the bytes of memory will lie in the core, as far as that can be foreseen while the process runs:
// what is copied before the stop can then be written to where it stays. Pure.
//
// The kernel's core has one segment right behind the other. Here there is room before the first, for
// headers and notes, and behind each that may grow: holes, which take nothing of the disk.
#ifndef CORESNAP_PLACES_H
#define CORESNAP_PLACES_H

#include "extents.h"
#include "snapshot.h"

struct places {
	struct extents list; // the kept bytes of mappings, with their offsets in the core; ascending
	uint64_t data;       // offset of the first
	uint64_t end;        // offset behind the last and its room
	uint64_t beyond;     // offset behind all that was written before the core was planned
};

// Of mappings whose dump_size is known, and so many bytes of notes. 0; -EFBIG when the core would be larger
// than @most, -ENOMEM. @places->list.arena is the caller's.
int must_check places_foresee(struct places *places, const struct maps *maps, uint64_t notes,
			      uint64_t page_size, uint64_t most);

#endif
