/* SPDX-License-Identifier: BSD-3-Clause */
// Walks the plan and gives the bytes to the sink, forward only, as far as the limits allow.
#ifndef CORESNAP_EMIT_H
#define CORESNAP_EMIT_H

#include "mem.h"
#include "plan.h"
#include "sink.h"
#include "spent.h"

struct emit {
	const struct plan *plan;
	struct mem *mem;
	struct sink *sink;
	uint8_t *buffer; // EMIT_PIECE bytes
	size_t segment;  // the one that the next extent lies in, or after
	size_t extent;   // next extent
	// The same for tags.
	size_t tag_segment, tag_extent;
	struct spent spent;
	bool in_places; // bytes of the spool may be where they belong: it is the core's file
	uint64_t end;  // offset after which nothing is written
	uint64_t left; // bytes that the kernel would still write under its limit
	bool cut;      // a limit was met: whatever would follow is not written
};

#define EMIT_PIECE (1u << 20)

// Sets the limits: max_size and core_limit of struct coresnap_options; 0: none.
void emit_limit(struct emit *emit, uint64_t max_size, uint64_t core_limit);

// Headers and notes.
int must_check emit_head(struct emit *emit, struct coresnap_error *err);

// The extents before number @until.
int must_check emit_extents(struct emit *emit, size_t until, struct coresnap_error *err);

// The tags of all extents.
int must_check emit_tags(struct emit *emit, struct coresnap_error *err);

// The hole behind the last of these, and the section header if there is one. The core ends at
// sink->pos then.
int must_check emit_tail(struct emit *emit, struct coresnap_error *err);

#endif
