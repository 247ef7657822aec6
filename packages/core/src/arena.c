// SPDX-License-Identifier: BSD-3-Clause
#include "arena.h"

#include <string.h>

#include "sys.h"

#define BLOCK_MIN ((size_t)256 * 1024)
#define BLOCK_MAX ((size_t)64 * 1024 * 1024) // where the doubling of small blocks ends
#define LARGE     (BLOCK_MIN / 2)            // from here on a request has a block of its own
#define ALIGNMENT ((size_t)64)
#define PAGE_MAX  ((size_t)65536) // a multiple of every page size of our architectures
#define POPULATE_WRITE \
	23 // MADV_POPULATE_WRITE of include/uapi/asm-generic/mman-common.h (Linux 5.14)

static bool round_up(size_t size, size_t to, size_t *ret)
{
	size_t sum;

	if (__builtin_add_overflow(size, to - 1, &sum))
		return false;
	*ret = sum & ~(to - 1);
	return true;
}

static uint8_t *add_block(struct arena *arena, size_t size)
{
	if (arena->n_blocks == ARENA_MAX_BLOCKS)
		return NULL;

	void *base =
		sys_mmap(size, PROT_READ | PROT_WRITE,
			 (arena->private_blocks ? MAP_PRIVATE : MAP_SHARED) | MAP_ANONYMOUS, -1, 0);

	if (sys_map_failed(base))
		return NULL;
	// Advice: a core that the kernel writes of the dumper need not hold the dumper's buffers.
	(void)sys_call(SYS_madvise, base, size, MADV_DONTDUMP);
	// A child that another thread forks meanwhile would hold it after us. (Of a process that
	// dumps itself the copy is such a child, and runs on a stack in here.)
	if (arena->private_blocks)
		(void)sys_call(SYS_madvise, base, size, MADV_DONTFORK);
	arena->blocks[arena->n_blocks].base = base;
	arena->blocks[arena->n_blocks].size = size;
	arena->n_blocks++;
	return base;
}

void arena_init(struct arena *arena)
{
	*arena = (struct arena){ 0 };
}

void arena_deinit(struct arena *arena)
{
	for (unsigned int i = 0; i < arena->n_blocks; i++)
		(void)sys_call(SYS_munmap, arena->blocks[i].base, arena->blocks[i].size);
	arena_init(arena);
}

static size_t small_left(const struct arena *arena)
{
	return arena->used ? arena->blocks[arena->current].size - arena->used : 0;
}

// The next block of small requests, twice the one before. used is never 0 afterwards, since the
// request that asked for the block is taken from it: 0 means that there is no such block yet.
static void *alloc_from_new(struct arena *arena, size_t size)
{
	size_t block = arena->used ? arena->blocks[arena->current].size * 2 : BLOCK_MIN;
	uint8_t *base = add_block(arena, block < BLOCK_MAX ? block : BLOCK_MAX);

	if (!base)
		return NULL;
	arena->current = arena->n_blocks - 1;
	arena->used = size;
	return base;
}

void arena_leave(const struct arena *arena)
{
	const struct arena copy = *arena; // which is in the arena itself, as a rule
	const uint8_t *const here = __builtin_frame_address(0);
	unsigned int last = 0;

	for (unsigned int i = 0; i < copy.n_blocks; i++) {
		if (here >= copy.blocks[i].base && here < copy.blocks[i].base + copy.blocks[i].size)
			last = i;
		else
			sys_call(SYS_munmap, copy.blocks[i].base, copy.blocks[i].size);
	}
	sys_unmap_and_exit(copy.blocks[last].base, copy.blocks[last].size, 0);
}

void *arena_alloc(struct arena *arena, size_t size)
{
	size_t rounded;

	if (!round_up(size ? size : 1, ALIGNMENT, &rounded))
		return NULL;
	if (rounded <= small_left(arena)) {
		uint8_t *base = arena->blocks[arena->current].base + arena->used;

		arena->used += rounded;
		return base;
	}
	if (rounded < LARGE)
		return alloc_from_new(arena, rounded);
	if (!round_up(rounded, PAGE_MAX, &rounded))
		return NULL;
	return add_block(arena, rounded < BLOCK_MIN ? BLOCK_MIN : rounded);
}

void *arena_alloc_populated(struct arena *arena, size_t size)
{
	void *base = arena_alloc(arena, size > LARGE ? size : LARGE);

	if (base && size > LARGE) {
		sys_call(SYS_madvise, base, size, MADV_HUGEPAGE);
		sys_call(SYS_madvise, base, size, POPULATE_WRITE);
	}
	return base;
}

int arena_grow(struct arena *arena, void *array, size_t *cap, size_t need, size_t item_size)
{
	size_t new_cap, bytes;
	void *old, *new;

	if (need <= *cap)
		return 0;
	if (__builtin_mul_overflow(*cap, 2, &new_cap))
		return -ENOMEM;
	if (new_cap < need)
		new_cap = need;
	if (new_cap < 16)
		new_cap = 16;
	if (__builtin_mul_overflow(new_cap, item_size, &bytes))
		return -ENOMEM;
	new = arena_alloc(arena, bytes);
	if (!new)
		return -ENOMEM;
	// @array is the address of the caller's pointer, whatever it points to.
	memcpy(&old, array, sizeof(old));
	if (*cap)
		memcpy(new, old, *cap * item_size);
	memcpy(array, &new, sizeof(new));
	*cap = new_cap;
	return 0;
}

bool arena_owns(const struct arena *arena, uint64_t start, uint64_t end)
{
	for (unsigned int i = 0; i < arena->n_blocks; i++) {
		uint64_t base = (uintptr_t)arena->blocks[i].base;

		if (start >= base && start <= end && end <= base + arena->blocks[i].size)
			return true;
	}
	return false;
}
