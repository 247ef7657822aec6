/* SPDX-License-Identifier: BSD-3-Clause */
// Memory of one dump, taken from mmap and given back in one go.
//
// malloc is barred: the dumper may run in a signal handler, or beside stopped threads that hold
// its lock. The blocks are shared anonymous mappings, so that they never merge with a private
// mapping of a program that dumps itself; arena_owns() lets the snapshot leave them out. Where that
// is not needed private ones are better: they may be huge pages, which are made and freed faster.
#ifndef CORESNAP_ARENA_H
#define CORESNAP_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARENA_MAX_BLOCKS 64

struct arena {
	struct {
		uint8_t *base;
		size_t size;
	} blocks[ARENA_MAX_BLOCKS];
	unsigned int n_blocks;
	size_t used; // of the block that small allocations come from
	unsigned int current;
	bool private_blocks; // set after arena_init() when no process dumps itself
};

void arena_init(struct arena *arena);

// Unmaps everything. Fine on an arena that was only zeroed or already deinited.
void arena_deinit(struct arena *arena);

// Unmaps everything and ends the process, whose stack is in the arena.
void arena_leave(const struct arena *arena) __attribute__((noreturn));

// Zeroed bytes aligned to 64, or NULL when memory is short. Freed only by arena_deinit().
void *arena_alloc(struct arena *arena, size_t size);

// As arena_alloc() for a large block, with its pages made at once (where the kernel can,
// MADV_POPULATE_WRITE), so that writing it later takes no page faults.
void *arena_alloc_populated(struct arena *arena, size_t size);

// Makes room for at least @need items of @item_size in *array, whose capacity is *cap (items);
// doubles, so that the abandoned copies cost at most as much again. 0 or -ENOMEM.
int arena_grow(struct arena *arena, void *array, size_t *cap, size_t need, size_t item_size);

// Does [start, end) lie in one of the arena's blocks?
bool arena_owns(const struct arena *arena, uint64_t start, uint64_t end);

#endif
