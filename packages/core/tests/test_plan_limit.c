/* SPDX-License-Identifier: BSD-3-Clause */
#include "plan_limit.h"

#include "check.h"
#include "hand_snapshot.h"

static struct hand h;

static struct plan build(uint64_t max_size)
{
	const struct plan_wishes wishes = { .max_size = max_size };
	struct coresnap_error err = { 0 };
	struct plan plan;

	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	return plan;
}

// A plan with so many bytes behind its head, and how many pages each segment keeps then.
static struct plan with_room(uint64_t room, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	const struct plan whole = build(0);
	const struct plan plan = build(whole.segments[0].offset + room);
	const uint64_t want[] = { a, b, c, d };

	for (size_t i = 0; i < 4; i++)
		CHECK_EQ(plan.segments[i].kept, want[i] * 4096);
	CHECK_EQ(plan.whole, whole.size);
	CHECK(plan.size <= whole.segments[0].offset + room);
	CHECK_EQ(plan.head_size, whole.head_size);
	return plan;
}

// The hand-made mappings keep 1, 3, 0 and 2 pages.
static void largest_first(void)
{
	hand_init(&h, &arch_x86_64);
	with_room(6 * 4096, 1, 3, 0, 2);
	with_room(6 * 4096 - 1, 1, 2, 0, 2);
	with_room(5 * 4096, 1, 2, 0, 2);
	with_room(4 * 4096 - 1, 1, 0, 0, 2);
	with_room(3 * 4096, 1, 0, 0, 2);
	with_room(2 * 4096, 1, 0, 0, 1);
	with_room(4096, 1, 0, 0, 0);
	with_room(4095, 0, 0, 0, 0);
	with_room(0, 0, 0, 0, 0);
}

static void equal_sizes(void)
{
	hand_init(&h, &arch_i386);
	h.maps[3] = hand_mapping(0x40000, 3, MAPPING_READ, 3 * 4096);
	with_room(6 * 4096, 1, 3, 0, 2);
	with_room(4 * 4096, 1, 3, 0, 0);
	with_room(3 * 4096, 1, 2, 0, 0);
}

static void headers_stay_and_follow(void)
{
	hand_init(&h, &arch_x86_64);
	const struct plan plan = with_room(2 * 4096, 1, 0, 0, 1);
	Elf64_Phdr load;
	uint64_t offset = plan.segments[0].offset;

	for (size_t i = 0; i < 4; i++) {
		memcpy(&load, plan.head + 64 + (i + 1) * 56, sizeof(load));
		CHECK_EQ(load.p_vaddr, h.maps[i].start);
		CHECK_EQ(load.p_memsz, h.maps[i].end - h.maps[i].start);
		CHECK_EQ(load.p_filesz, plan.segments[i].kept);
		CHECK_EQ(load.p_offset, offset);
		offset += load.p_filesz;
	}
	CHECK_EQ(plan.size, offset);
}

// Tags take a 32nd of the memory that they are of.
static void tags_count(void)
{
	hand_init(&h, &arch_aarch64);
	h.maps[1].flags |= MAPPING_TAGGED;
	const struct plan plan = with_room(6 * 4096, 1, 2, 0, 2);

	CHECK_EQ(plan.tags[0].filesz, 2 * 128);
	CHECK_EQ(plan.size, plan.segments[0].offset + 5 * 4096 + 256);
	with_room(6 * 4096 + 3 * 128, 1, 3, 0, 2);
	with_room(5 * 4096 + 2 * 128 - 1, 1, 1, 0, 2);
}

static void a_head_that_does_not_fit(void)
{
	hand_init(&h, &arch_x86_64);
	const struct plan plan = build(100);

	for (size_t i = 0; i < 4; i++)
		CHECK_EQ(plan.segments[i].kept, 0);
	CHECK(plan.size > 100); // it is cut when it is written
}

// What no file could hold fits once it is shortened.
static void more_than_a_file_holds(void)
{
	hand_init(&h, &arch_i386);
	h.maps[3] = hand_mapping(0x40000, 1 << 20, MAPPING_READ, 4ull << 30);
	struct plan plan = build(1 << 20);

	CHECK_EQ(plan.segments[1].kept, 3 * 4096);
	CHECK(plan.size <= 1 << 20 && plan.size > (1 << 20) - 4096);
	hand_init(&h, &arch_x86_64);
	h.maps[3] = hand_mapping(0x40000, 1ull << 51, MAPPING_READ, 1ull << 63);
	plan = build(1 << 20);
	CHECK_EQ(plan.whole, UINT64_MAX);
	CHECK_EQ(plan.segments[1].kept, 3 * 4096);
	CHECK(plan.size <= 1 << 20 && plan.size > (1 << 20) - 4096);
}

// All that is smaller than a shortened segment is whole, and no page more would fit.
static void any_sizes(void)
{
	static struct mapping maps[50];
	uint32_t seed = 1;

	hand_init(&h, &arch_x86_64);
	h.s.maps.list = maps;
	h.s.maps.n = 50;
	for (unsigned int round = 0; round < 200; round++) {
		uint64_t smallest_cut = UINT64_MAX, kept = 0;

		for (size_t i = 0; i < 50; i++) {
			seed = seed * 1664525 + 1013904223;
			const uint64_t pages = seed >> 24;

			maps[i] = hand_mapping(0x100000 + i * 0x200000, 256, MAPPING_READ,
					       pages * 4096);
		}
		const uint64_t data = build(0).segments[0].offset;
		const uint64_t room = (uint64_t)(seed >> 8 & 0x1fff) * 4096;
		const struct plan plan = build(data + room);

		for (size_t i = 0; i < 50; i++) {
			const struct segment *segment = &plan.segments[i];

			kept += segment->kept;
			if (segment->kept < segment->wanted && segment->wanted < smallest_cut)
				smallest_cut = segment->wanted;
		}
		CHECK(kept <= room);
		CHECK(smallest_cut == UINT64_MAX || kept == room);
		for (size_t i = 0; i < 50; i++)
			CHECK(plan.segments[i].wanted >= smallest_cut ||
			      plan.segments[i].kept == plan.segments[i].wanted);
		arena_deinit(&h.arena);
		arena_init(&h.arena);
	}
}

// Header, five program headers, then of each note its head, its name and its content.
static void where_the_kernel_stops(void)
{
	static const struct {
		uint64_t limit, end, counted;
	} want[] = {
		{ 0, 0, 0 },       { 63, 0, 0 },      { 64, 64, 64 },    { 119, 64, 64 },
		{ 120, 120, 120 }, { 343, 288, 288 }, { 344, 344, 344 }, { 355, 344, 344 },
		{ 356, 356, 356 }, { 360, 356, 356 }, { 361, 361, 361 }, { 696, 361, 361 },
		{ 697, 700, 697 }, // three bytes of padding are free
	};
	uint64_t counted;

	hand_init(&h, &arch_x86_64);
	const struct plan plan = build(0);

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		CHECK_EQ(plan_limit_head(&plan, want[i].limit, &counted), want[i].end);
		CHECK_EQ(counted, want[i].counted);
	}
	CHECK_EQ(plan_limit_head(&plan, UINT64_MAX, &counted), plan.head_size);
	CHECK(counted < plan.head_size);
	const uint64_t whole = counted;

	CHECK_EQ(plan_limit_head(&plan, whole, &counted), plan.head_size);
	CHECK(plan_limit_head(&plan, whole - 1, &counted) < plan.head_size);
}

static const struct check_case cases[] = {
	CASE(largest_first),
	CASE(equal_sizes),
	CASE(headers_stay_and_follow),
	CASE(tags_count),
	CASE(a_head_that_does_not_fit),
	CASE(more_than_a_file_holds),
	CASE(any_sizes),
	CASE(where_the_kernel_stops),
};

CHECK_MAIN(cases)
