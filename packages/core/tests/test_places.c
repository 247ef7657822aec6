/* SPDX-License-Identifier: BSD-3-Clause */
// A core of which bytes were written to their places before it was planned: every byte is where the plan
// says, whatever has become of the mappings since.
#include "places.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "emit.h"
#include "hand_snapshot.h"

#define PAGE 4096
#define ROOM 16 // pages that the smallest room has

enum { MOST = 6 };

// Of pages; no mapping is the end.
struct range {
	uint64_t start, pages;
};

static struct hand h;
static struct mapping maps[MOST];
static struct places places;
static struct extents spooled;
static struct sink sink;
static struct plan plan;
static struct coresnap_error err;
static const char path[] = "core";

static struct maps maps_of(const struct range *ranges)
{
	struct maps ret = { .arena = &h.arena, .list = maps };

	for (; ret.n < MOST && ranges[ret.n].pages; ret.n++)
		maps[ret.n] = hand_mapping(ranges[ret.n].start * PAGE, ranges[ret.n].pages,
					   MAPPING_READ, ranges[ret.n].pages * PAGE);
	return ret;
}

static void fill(uint8_t *bytes, uint64_t page, unsigned int version)
{
	for (size_t i = 0; i < PAGE; i++)
		bytes[i] = (uint8_t)(page * 7 + version * 101 + i);
}

static void write_page(uint64_t offset, uint64_t page, unsigned int version)
{
	uint8_t bytes[PAGE];

	fill(bytes, page, version);
	CHECK_EQ(pwrite(sink.fd, bytes, PAGE, (off_t)offset), PAGE);
}

// What is in a page at last: nothing, what the first pass has copied, or what a later one has.
static unsigned int version_of(uint64_t page)
{
	size_t at = 0;
	const struct extent *const place = extents_at(&places.list, &at, page * PAGE);
	const bool copied = place && place->start <= page * PAGE;

	return page % 7 == 3 ? 0 : copied && page % 5 != 1 ? 1 : 2;
}

// The first pass.
static void begin(const struct range *before)
{
	const struct coresnap_output to = { .kind = CORESNAP_TO_PATH, .path = path };
	const struct maps list = maps_of(before);

	places = (struct places){ .list = { .arena = &h.arena } };
	CHECK_EQ(places_foresee(&places, &list, 32768, PAGE, 1u << 30), 0);
	CHECK_EQ(sink_open(&sink, &to, CORESNAP_FORCE, &err), 0);
	CHECK(sink_takes_places(&sink));
	for (size_t i = 0; i < places.list.n; i++) {
		const struct extent *const place = &places.list.list[i];

		for (uint64_t at = place->start; at < place->end; at += PAGE)
			write_page(place->offset + (at - place->start), at / PAGE, 1);
	}
	places.beyond = places.end;
}

static void add(uint64_t page, bool first_of_mapping)
{
	const unsigned int version = version_of(page);
	struct extent extent = { .start = page * PAGE, .end = (page + 1) * PAGE, .spooled = true };
	size_t at = 0;

	if (version == 0)
		return;
	if (version == 1) {
		const struct extent *const place = extents_at(&places.list, &at, extent.start);

		extent.offset = place->offset + (extent.start - place->start);
	} else {
		extent.offset = places.beyond;
		places.beyond += PAGE;
		write_page(extent.offset, page, version);
	}
	if (!first_of_mapping) {
		CHECK_EQ(extents_add(&spooled, &extent), 0);
		return;
	}
	CHECK_EQ(arena_grow(&h.arena, &spooled.list, &spooled.cap, spooled.n + 1, sizeof(extent)), 0);
	spooled.list[spooled.n++] = extent;
}

// Later passes and the core.
static void finish(const struct range *after)
{
	const struct plan_wishes wishes = { .places = &places };
	struct target image = { .pid = getpid() };

	h.s.maps = maps_of(after);
	spooled = (struct extents){ .arena = &h.arena };
	for (size_t i = 0; i < h.s.maps.n; i++)
		for (uint64_t page = 0; page < after[i].pages; page++)
			add(after[i].start + page, page == 0);
	sink.prior_size = places.beyond;
	struct mem mem = { .arena = &h.arena,
			   .image = &image,
			   .list = spooled.list,
			   .n = spooled.n,
			   .spool_fd = sink.fd };
	struct emit emit = { .plan = &plan,
			     .mem = &mem,
			     .sink = &sink,
			     .in_places = true,
			     .buffer = arena_alloc(&h.arena, EMIT_PIECE) };
	emit_limit(&emit, 0, 0);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	CHECK_EQ(emit_head(&emit, &err), 0);
	CHECK_EQ(emit_extents(&emit, mem.n, &err), 0);
	CHECK_EQ(emit_tags(&emit, &err), 0);
	CHECK_EQ(emit_tail(&emit, &err), 0);
	CHECK_EQ(sink_finish(&sink, NULL, &err), 0);
	sink_close(&sink);
}

// Each byte, and that the disk holds no more than these.
static void check_core(void)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t want[PAGE], bytes[PAGE];
	uint64_t pages = (plan.head_size + PAGE - 1) / PAGE, end = places.data;
	struct stat st;

	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	CHECK_EQ(st.st_size, plan.size);
	for (size_t i = 0; i < plan.n_segments; i++) {
		const struct segment *const segment = &plan.segments[i];

		CHECK(segment->offset >= end);
		end = segment->offset + segment->filesz;
		for (uint64_t at = 0; at < segment->filesz; at += PAGE) {
			const uint64_t page = (segment->vaddr + at) / PAGE;

			memset(want, 0, PAGE);
			if (version_of(page))
				fill(want, page, version_of(page));
			pages += version_of(page) != 0;
			CHECK_EQ(pread(fd, bytes, PAGE, (off_t)(segment->offset + at)), PAGE);
			CHECK(memcmp(bytes, want, PAGE) == 0);
		}
	}
	CHECK((uint64_t)st.st_blocks * 512 <= (pages + 2) * PAGE);
	close(fd);
	unlink(path);
}

static void core_of(const struct range *before, const struct range *after, size_t in_places)
{
	hand_init(&h, &arch_x86_64);
	begin(before);
	finish(after);
	check_core();
	CHECK_EQ(plan.n_in_places, in_places);
	arena_deinit(&h.arena);
}

static const struct range four[] = { { 100, 40 }, { 200, 300 }, { 500, 20 }, { 9000, 50 }, { 0, 0 } };

static void as_foreseen(void)
{
	core_of(four, four, 4);
}

static void with_what_has_come_and_gone(void)
{
	static const struct range gone[] = { { 100, 40 }, { 500, 20 }, { 9000, 50 }, { 0, 0 } };
	static const struct range came[] = { { 100, 40 }, { 160, 10 },  { 200, 300 },
					     { 500, 20 }, { 8900, 50 }, { 9000, 50 } };
	static const struct range smaller[] = { { 110, 20 }, { 200, 50 }, { 300, 100 }, { 9010, 7 },
						{ 0, 0 } };

	core_of(four, gone, 3);
	core_of(four, came, 6);
	core_of(four, smaller, 4);
}

static void grown(void)
{
	static const struct range up[] = { { 100, 40 + ROOM }, { 200, 300 }, { 500, 60 }, { 9000, 50 },
					   { 0, 0 } };
	static const struct range down[] = { { 100, 40 }, { 190, 310 }, { 500, 20 }, { 8950, 100 },
					     { 0, 0 } };

	core_of(four, up, 4);
	core_of(four, down, 4);
}

// From there on all are behind what was written.
static void without_room(void)
{
	static const struct range too_large[] = { { 100, 41 + ROOM }, { 200, 300 }, { 500, 20 },
						  { 9000, 50 },	       { 0, 0 } };
	static const struct range between[] = { { 100, 40 }, { 150, ROOM + 1 }, { 200, 300 },
						{ 500, 20 }, { 9000, 50 },	{ 0, 0 } };
	static const struct range late[] = { { 100, 40 }, { 200, 300 }, { 500, 20 }, { 8000, 1050 },
					     { 0, 0 } };

	core_of(four, too_large, 0);
	core_of(four, between, 1);
	core_of(four, late, 3);
}

static void two_that_became_one(void)
{
	static const struct range joined[] = { { 100, 40 }, { 200, 320 }, { 9000, 50 }, { 0, 0 } };

	core_of(four, joined, 1);
}

static void of_more_threads_than_there_is_room_for(void)
{
	const struct plan_wishes wishes = { .places = &places };

	hand_init(&h, &arch_x86_64);
	h.s.maps = maps_of(four);
	places = (struct places){ .data = 0 };
	CHECK(plan_build(&plan, &h.s, &wishes, &err) < 0);
	CHECK_EQ(err.code, CORESNAP_E_FAILED);
	arena_deinit(&h.arena);
}

static void too_large_for_its_class(void)
{
	static const struct range large[] = { { 1, 600000 }, { 0, 0 } };
	const struct maps list = maps_of(large);

	hand_init(&h, &arch_i386);
	places = (struct places){ .list = { .arena = &h.arena } };
	CHECK_EQ(places_foresee(&places, &list, 0, PAGE, 1u << 31), -EFBIG);
	places = (struct places){ .list = { .arena = &h.arena } };
	CHECK_EQ(places_foresee(&places, &list, 0, PAGE, 1ull << 32), 0);
	arena_deinit(&h.arena);
}

static const struct check_case cases[] = {
	CASE(as_foreseen),
	CASE(with_what_has_come_and_gone),
	CASE(grown),
	CASE(without_room),
	CASE(two_that_became_one),
	CASE(of_more_threads_than_there_is_room_for),
	CASE(too_large_for_its_class),
};

CHECK_MAIN(cases)
