/* SPDX-License-Identifier: BSD-3-Clause */
// What the core has needs no second place; what others may still ask for stays.
#include "spent.h"

#include "check.h"
#include "sys.h"

#define PAGE  4096u
#define BLOCK ((size_t)2 << 20)
#define SIZE  (4 * BLOCK + 2 * PAGE)
#define START 0x40000000u // of the extents, somewhere

static struct arena arena;
static struct mem mem;
static struct spent spent;
static uint8_t *same;

static void begin(bool private)
{
	arena_init(&arena);
	arena.private_blocks = private;
	mem = (struct mem){ .arena = &arena, .spool_fd = -1 };
	same = malloc(SIZE);
	CHECK(same);
	for (size_t i = 0; i < SIZE; i++)
		same[i] = (uint8_t)(i * 31 + i / 251 + 1);
}

static void add_in_pieces(const struct extent *extent)
{
	const size_t piece = 1u << 20;

	for (uint64_t at = extent->start; at < extent->end; at += piece)
		spent_add(&spent, &mem, extent, at,
			  at + piece < extent->end ? at + piece : extent->end);
}

// All but the first and the last page: whole blocks of that are gone, and nothing else.
static void give_back_staged(bool private)
{
	begin(private);
	uint8_t *const staged = arena_alloc(&arena, SIZE);
	const struct extent extent = { .start = START, .end = START + SIZE - 2 * PAGE,
				       .bytes = staged + PAGE };
	const uintptr_t at = (uintptr_t)staged;
	const size_t first = (at + PAGE + BLOCK - 1) / BLOCK * BLOCK - at;
	const size_t last = (at + SIZE - PAGE) / BLOCK * BLOCK - at;

	memcpy(staged, same, SIZE);
	add_in_pieces(&extent);
	memset(same + first, 0, last - first);
	CHECK(memcmp(staged, same, SIZE) == 0);
}

static void staged_in_shared_memory(void)
{
	give_back_staged(false);
}

static void staged_in_private_memory(void)
{
	give_back_staged(true);
}

static off_t size_of_spool(void)
{
	struct stat st;

	CHECK_EQ(fstat(mem.spool_fd, &st), 0);
	return st.st_blocks * 512;
}

static void make_spool(void)
{
	begin(false);
	mem.spool_fd = (int)syscall(SYS_memfd_create, "spool", 1);
	CHECK_EQ(pwrite(mem.spool_fd, same, SIZE, 0), SIZE);
	CHECK_EQ(size_of_spool(), SIZE);
}

static void expect_spool(size_t first, size_t last)
{
	uint8_t *const left = malloc(SIZE);

	CHECK(left);
	memset(same + first, 0, last - first);
	CHECK_EQ(pread(mem.spool_fd, left, SIZE, 0), SIZE);
	CHECK(memcmp(left, same, SIZE) == 0);
	CHECK_EQ(size_of_spool(), SIZE - (last - first));
}

// Two extents may be one run of the spool.
static void spooled(void)
{
	make_spool();
	const struct extent first = { .start = START, .end = START + BLOCK, .offset = PAGE,
				      .spooled = true };
	const struct extent second = { .start = START + 2 * BLOCK,
				       .end = START + 5 * BLOCK,
				       .offset = PAGE + BLOCK,
				       .spooled = true };

	add_in_pieces(&first);
	add_in_pieces(&second);
	expect_spool(BLOCK, 4 * BLOCK);
}

// Not from the start of one run to the end of another one.
static void what_lies_between_two_runs_stays(void)
{
	make_spool();
	const struct extent first = { .start = START, .end = START + PAGE, .spooled = true };
	const struct extent second = { .start = START + BLOCK,
				       .end = START + BLOCK + PAGE,
				       .offset = 3 * BLOCK,
				       .spooled = true };

	add_in_pieces(&first);
	add_in_pieces(&second);
	expect_spool(0, 0);
}

// Those are the target's.
static void what_is_pulled_is_left_alone(void)
{
	begin(true);
	uint8_t *const theirs = arena_alloc(&arena, SIZE);
	const struct extent extent = { .start = (uintptr_t)theirs, .end = (uintptr_t)theirs + SIZE };

	memcpy(theirs, same, SIZE);
	add_in_pieces(&extent);
	CHECK(memcmp(theirs, same, SIZE) == 0);
}

static const struct check_case cases[] = {
	CASE(staged_in_shared_memory),
	CASE(staged_in_private_memory),
	CASE(spooled),
	CASE(what_lies_between_two_runs_stays),
	CASE(what_is_pulled_is_left_alone),
};

CHECK_MAIN(cases)
