/* SPDX-License-Identifier: BSD-3-Clause */
// The tags that memory has beside its bytes (struct arch_tags; AArch64: MTE). No file of /proc shows
// them: a stopped thread of the image is asked by ptrace, for pages that are known to be there only,
// since asking for others would map them in.
//
// In a core a byte holds the tags of two neighbours, the lower one in its lower half
// (mte_save_page_tags in arch/arm64/lib/mte.S).
#ifndef CORESNAP_TAGS_H
#define CORESNAP_TAGS_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "mem.h"
#include "snapshot.h"

// Bytes that the tags of so much memory of the image take in the core.
size_t tags_packed(const struct mem *mem, uint64_t memory);

// Bytes that the tags of all extents take in the core. The list must be ascending.
uint64_t tags_size(const struct mem *mem, const struct snapshot *snapshot);

// Reads the tags of all extents into memory. -ENOMEM when there is not enough of that.
int must_check tags_stage(struct mem *mem, const struct snapshot *snapshot,
			  struct coresnap_error *err);

// Reads the tags of so many bytes of memory at address as the core has them; those that cannot be
// read become zeros and are counted. -ESRCH when the image is gone.
int must_check tags_read(struct mem *mem, const struct extent *extent, uint64_t address,
			 size_t memory, uint8_t *packed);

#endif
