/* SPDX-License-Identifier: BSD-3-Clause */
// Walks the plan and gives the bytes to the sink, forward only.
#ifndef CORESNAP_EMIT_H
#define CORESNAP_EMIT_H

#include "mem.h"
#include "plan.h"
#include "sink.h"

struct emit {
	const struct plan *plan;
	struct mem *mem;
	struct sink *sink;
	uint8_t *buffer; // EMIT_PIECE bytes
	size_t segment;  // the one that the next extent lies in, or after
	size_t extent;   // next extent
	// The same for tags.
	size_t tag_segment, tag_extent;
};

#define EMIT_PIECE (1u << 20)

// Headers and notes.
int must_check emit_head(struct emit *emit, struct coresnap_error *err);

// The extents before number @until.
int must_check emit_extents(struct emit *emit, size_t until, struct coresnap_error *err);

// The tags of all extents.
int must_check emit_tags(struct emit *emit, struct coresnap_error *err);

// The hole behind the last of these, and the section header if there is one.
int must_check emit_tail(struct emit *emit, struct coresnap_error *err);

#endif
