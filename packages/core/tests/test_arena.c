// SPDX-License-Identifier: BSD-3-Clause
#include "arena.h"

#include <errno.h>
#include <sys/mman.h>

#include "check.h"

#define BLOCK ((size_t)256 * 1024)

static bool all_zero(const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (bytes[i])
			return false;
	}
	return true;
}

static void test_small_allocations(void)
{
	struct arena arena;
	uint8_t *last = NULL;

	arena_init(&arena);
	for (size_t i = 0; i < 20000; i++) {
		size_t size = i % 100;
		uint8_t *bytes = arena_alloc(&arena, size);

		CHECK(bytes && bytes != last);
		CHECK_EQ((uintptr_t)bytes % 64, 0);
		CHECK(all_zero(bytes, size));
		memset(bytes, 0xff, size);
		last = bytes;
	}
	// 20000 times at most 128 bytes: blocks of 256 KiB, 512 KiB, 1 MiB, 2 MiB.
	CHECK(arena.n_blocks <= 4);
	arena_deinit(&arena);
}

static void test_large_allocation_has_its_own_block(void)
{
	struct arena arena;

	arena_init(&arena);

	uint8_t *before = arena_alloc(&arena, 64);
	uint8_t *large = arena_alloc(&arena, 10 * BLOCK + 1);
	uint8_t *after = arena_alloc(&arena, 64);

	CHECK(before && large && after);
	CHECK_EQ(after - before, 64);
	CHECK_EQ(arena.n_blocks, 2);
	memset(large, 1, 10 * BLOCK + 1);
	CHECK(arena_owns(&arena, (uintptr_t)large, (uintptr_t)large + 10 * BLOCK));
	arena_deinit(&arena);
}

static void test_first_allocation_large(void)
{
	struct arena arena;

	arena_init(&arena);
	CHECK(arena_alloc(&arena, BLOCK / 2));
	CHECK(arena_alloc(&arena, 1));
	CHECK_EQ(arena.n_blocks, 2);
	CHECK(arena_alloc(&arena, 1));
	CHECK_EQ(arena.n_blocks, 2);
	arena_deinit(&arena);
}

static void test_blocks_used_up(void)
{
	struct arena arena;

	arena_init(&arena);
	for (unsigned int i = 0; i < ARENA_MAX_BLOCKS; i++)
		CHECK(arena_alloc(&arena, BLOCK));
	CHECK(!arena_alloc(&arena, BLOCK));
	CHECK(!arena_alloc(&arena, 1));
	arena_deinit(&arena);
	CHECK(arena_alloc(&arena, 1));
	arena_deinit(&arena);
}

static void test_impossible_sizes(void)
{
	struct arena arena;
	long *items = NULL;
	size_t cap = 0;

	arena_init(&arena);
	CHECK(!arena_alloc(&arena, SIZE_MAX));
	CHECK(!arena_alloc(&arena, SIZE_MAX - 64));
	CHECK(!arena_alloc(&arena, SIZE_MAX - BLOCK));
	CHECK_EQ(arena_grow(&arena, &items, &cap, SIZE_MAX / 4, sizeof(*items)), -ENOMEM);
	CHECK(!items && cap == 0);
	cap = SIZE_MAX / 2 + 2;
	CHECK_EQ(arena_grow(&arena, &items, &cap, SIZE_MAX, sizeof(*items)), -ENOMEM);
	CHECK_EQ(arena.n_blocks, 0);
	arena_deinit(&arena);
}

static void test_grow_keeps_items(void)
{
	struct arena arena;
	uint32_t *items = NULL;
	size_t cap = 0;

	arena_init(&arena);
	for (size_t n = 0; n < 300000; n++) {
		CHECK_EQ(arena_grow(&arena, &items, &cap, n + 1, sizeof(*items)), 0);
		CHECK(cap > n);
		items[n] = (uint32_t)n;
	}
	for (size_t n = 0; n < 300000; n++)
		CHECK(items[n] == n);
	CHECK(all_zero((uint8_t *)&items[300000], (cap - 300000) * sizeof(*items)));
	CHECK(arena.n_blocks < 12);
	arena_deinit(&arena);
}

static void test_owns(void)
{
	struct arena arena;
	int outside;

	arena_init(&arena);

	uint64_t start = (uintptr_t)arena_alloc(&arena, 100);

	CHECK(arena_owns(&arena, start, start + 100));
	CHECK(arena_owns(&arena, start, start + BLOCK));
	CHECK(!arena_owns(&arena, start, start + BLOCK + 1));
	CHECK(!arena_owns(&arena, start - 1, start + 100));
	CHECK(!arena_owns(&arena, start + 100, start));
	CHECK(!arena_owns(&arena, (uintptr_t)&outside, (uintptr_t)(&outside + 1)));
	arena_deinit(&arena);
	CHECK(!arena_owns(&arena, start, start + 100));
}

// Everything is unmapped: the same pages can be asked about no more.
static void test_deinit_unmaps(void)
{
	struct arena arena = { 0 };
	unsigned char resident;

	arena_deinit(&arena); // of a zeroed arena
	arena_init(&arena);

	uint8_t *bytes = arena_alloc(&arena, 100);

	CHECK_EQ(mincore(bytes, 100, &resident), 0);
	arena_deinit(&arena);
	CHECK_EQ(mincore(bytes, 100, &resident), -1);
	CHECK_EQ(errno, ENOMEM);
	arena_deinit(&arena);
}

// "dd" among VmFlags is MADV_DONTDUMP, "sh" a shared mapping.
static void test_mapping_kind(void)
{
	struct arena arena;
	unsigned long long start, end, wanted;
	char line[512];
	bool found = false;

	arena_init(&arena);
	wanted = (uintptr_t)arena_alloc(&arena, 1);

	FILE *smaps = fopen("/proc/self/smaps", "re");

	CHECK(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%llx-%llx ", &start, &end) == 2)
			found = start <= wanted && wanted < end;
		if (found && strncmp(line, "VmFlags:", 8) == 0) {
			CHECK_HAS(line, " dd");
			CHECK_HAS(line, " sh");
			break;
		}
	}
	CHECK(found);
	fclose(smaps);
	arena_deinit(&arena);
}

static const struct check_case cases[] = {
	CASE(test_small_allocations),
	CASE(test_large_allocation_has_its_own_block),
	CASE(test_first_allocation_large),
	CASE(test_blocks_used_up),
	CASE(test_impossible_sizes),
	CASE(test_grow_keeps_items),
	CASE(test_owns),
	CASE(test_deinit_unmaps),
	CASE(test_mapping_kind),
};

CHECK_MAIN(cases)
