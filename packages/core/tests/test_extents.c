/* SPDX-License-Identifier: BSD-3-Clause */
#include "extents.h"

#include "check.h"

#define PAGES 64
#define PAGE  4096u

static struct arena arena;
static uint32_t seed = 1;

static uint32_t chance(uint32_t most)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % most;
}

static struct extents new_list(void)
{
	return (struct extents){ .arena = &arena };
}

static void add(struct extents *list, uint64_t start, uint64_t end, uint64_t offset)
{
	const struct extent extent = {
		.start = start * PAGE, .end = end * PAGE, .offset = offset, .spooled = true
	};

	CHECK_EQ(extents_add(list, &extent), 0);
}

// Random extents, and what each page has by them: an offset, or 0.
static struct extents draw(uint64_t *offset, uint64_t pages[PAGES])
{
	struct extents list = new_list();

	for (uint64_t at = chance(4); at < PAGES; at += 1 + chance(6)) {
		const uint64_t end = at + 1 + chance((uint32_t)(PAGES - at));

		add(&list, at, end, *offset);
		for (; at < end; at++, *offset += PAGE)
			pages[at] = *offset;
	}
	return list;
}

static void check_pages(const struct extents *list, const uint64_t pages[PAGES])
{
	uint64_t found[PAGES] = { 0 };
	uint64_t last = 0;

	for (size_t i = 0; i < list->n; i++) {
		const struct extent *const extent = &list->list[i];

		CHECK(extent->start >= last && extent->start < extent->end);
		last = extent->end;
		for (uint64_t at = extent->start; at < extent->end; at += PAGE)
			found[at / PAGE] = extent->offset + (at - extent->start);
	}
	for (size_t i = 0; i < PAGES; i++)
		CHECK_EQ(found[i], pages[i]);
}

// Against what a reader of single pages would say.
static void overlays_are_right(void)
{
	for (int round = 0; round < 2000; round++) {
		uint64_t offset = PAGE, pages[PAGES] = { 0 }, newer[PAGES] = { 0 };
		uint64_t gone[PAGES] = { 0 };

		arena_init(&arena);
		const struct extents old = draw(&offset, pages), over = draw(&offset, newer);
		const struct extents holes = round % 2 ? draw(&offset, gone) : new_list();
		struct extents out = new_list();

		CHECK_EQ(extents_overlay(&old, &over, &holes, &out), 0);
		for (size_t i = 0; i < PAGES; i++)
			pages[i] = newer[i] ? newer[i] : gone[i] ? 0 : pages[i];
		check_pages(&out, pages);
		arena_deinit(&arena);
	}
}

static void only_what_is_of_one_piece_is_joined(void)
{
	struct extents list = new_list();
	const struct extent staged = { .start = 3 * PAGE, .end = 4 * PAGE, .bytes = (void *)1 };

	arena_init(&arena);
	add(&list, 0, 1, 0);
	add(&list, 1, 2, PAGE);
	CHECK_EQ(list.n, 1);
	add(&list, 2, 3, 7 * PAGE);
	CHECK_EQ(list.n, 2);
	CHECK_EQ(extents_add(&list, &staged), 0);
	CHECK_EQ(list.n, 3);
	arena_deinit(&arena);
}

// A segment ends where a mapping does, also if the bytes of both lie side by side.
static void parts_of_two_mappings_stay_apart(void)
{
	struct extents all = new_list(), out = new_list();
	size_t at = 0;

	arena_init(&arena);
	add(&all, 0, 8, 0);
	CHECK_EQ(extents_take(&all, &at, 2 * PAGE, 4 * PAGE, &out), 0);
	CHECK_EQ(extents_take(&all, &at, 4 * PAGE, 5 * PAGE, &out), 0);
	CHECK_EQ(extents_take(&all, &at, 8 * PAGE, 9 * PAGE, &out), 0);
	CHECK_EQ(out.n, 2);
	CHECK_EQ(out.list[0].offset, 2 * PAGE);
	CHECK_EQ(out.list[1].start, 4 * PAGE);
	CHECK_EQ(out.list[1].offset, 4 * PAGE);
	arena_deinit(&arena);
}

static const struct check_case cases[] = {
	CASE(overlays_are_right),
	CASE(only_what_is_of_one_piece_is_joined),
	CASE(parts_of_two_mappings_stay_apart),
};

CHECK_MAIN(cases)
