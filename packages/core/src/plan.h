/* SPDX-License-Identifier: BSD-3-Clause */
// The plan: where every byte of the core will lie, before the first is written. Pure.
//
// The file, as elf_core_dump() in fs/binfmt_elf.c lays it out:
//
//   1. ELF header
//   2. program headers: PT_NOTE, then a PT_LOAD for every mapping, in address order, then one for
//      the tags of every mapping that has tags (AArch64: PT_AARCH64_MEMTAG_MTE)
//   3. notes
//   4. padding to a page
//   5. the kept bytes of each mapping, one behind the other
//   6. the tags of the kept bytes likewise
//   7. with more than 65534 segments: one section header, whose sh_info is their number
//
// 1 to 3 are one buffer here ("head"), 7 is "tail". Where bytes were written to their places before
// (places.h), there are holes before and between the segments of 5.
#ifndef CORESNAP_PLAN_H
#define CORESNAP_PLAN_H

#include "error.h"
#include "note.h"
#include "places.h"
#include "snapshot.h"

struct segment {
	uint64_t vaddr, memsz; // target addresses
	uint64_t wanted;       // bytes of memory from vaddr on that the kernel's core has
	uint64_t kept;         // that this one has: fewer where segments had to be shortened
	uint64_t filesz;
	uint64_t offset; // in the core
};

// What the caller wants of the core; the zeroed one is the kernel's core.
struct plan_wishes {
	const struct coresnap_note *notes; // written behind the kernel's
	size_t n_notes;
	uint64_t
		max_size; // CORESNAP_KEEP_SMALL: segments are shortened until the core fits; 0: none
	const struct places *places; // where bytes are already, and then max_size is 0; or NULL
};

struct plan {
	const uint8_t *head;
	size_t head_size;
	struct segment *segments; // ascending addresses and offsets
	size_t n_segments;
	size_t n_in_places;   // so many of the first are where wishes->places has them
	struct segment *tags; // likewise; filesz is what the tags of the memory take
	size_t n_tags;
	uint8_t tail[64];
	size_t tail_size;
	const struct arch *arch;
	size_t page_size;
	uint64_t tags_at;  // offset where the bytes of memory end and its tags begin
	uint64_t data_end; // offset where the segments end and the tail begins
	uint64_t size;     // of the core
	uint64_t whole;    // what it would be without wishes->max_size
};

int must_check plan_build(struct plan *plan, const struct snapshot *snapshot,
			  const struct plan_wishes *wishes, struct coresnap_error *err);

#endif
