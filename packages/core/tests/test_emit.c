/* SPDX-License-Identifier: BSD-3-Clause */
// Plan, extents and sink together: every byte of the core is where the plan says.
#include "emit.h"

#include <errno.h>
#include <sys/prctl.h>

#include "hand_snapshot.h"
#include "own_image.h"
#include "plan_limit.h"

// Where the four mappings of the hand-made snapshot lie in this process.
#define BASE ((uintptr_t)0x40000000)

static struct hand h;
static struct plan plan;
static struct plan_wishes wishes;
static struct mem mem;
static struct sink sink;
static struct emit emit;
static struct target image;
static struct coresnap_error err;
static struct extent extents[8];
static uint8_t *core;

static void begin(const struct arch *arch)
{
	const struct coresnap_output to = { .kind = CORESNAP_TO_MEMORY };

	hand_init(&h, arch);
	image = image_of(getpid());
	for (size_t i = 0; i < 4; i++) {
		h.maps[i].start += BASE;
		h.maps[i].end += BASE;
	}
	mem = (struct mem){ .arena = &h.arena, .image = &image, .list = extents };
	emit = (struct emit){ .plan = &plan, .mem = &mem, .sink = &sink,
			      .buffer = arena_alloc(&h.arena, EMIT_PIECE) };
	emit_limit(&emit, 0, 0);
	CHECK_EQ(sink_open(&sink, &to, 0, &err), 0);
}

static void add(size_t mapping, size_t first, size_t pages, const uint8_t *bytes)
{
	const uint64_t start = h.maps[mapping].start + first * PAGE;

	extents[mem.n++] = (struct extent){ .start = start, .end = start + pages * PAGE,
					    .bytes = bytes };
}

static void finish(void)
{
	int fd = -1;

	CHECK_EQ(emit_extents(&emit, mem.n, &err), 0);
	CHECK_EQ(emit_tags(&emit, &err), 0);
	CHECK_EQ(emit_tail(&emit, &err), 0);
	CHECK_EQ(sink_finish(&sink, &fd, &err), 0);
	CHECK_EQ(lseek(fd, 0, SEEK_END), plan.size);
	core = mmap(NULL, (size_t)plan.size, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(core != MAP_FAILED);
	CHECK(memcmp(core, plan.head, plan.head_size) == 0);
	for (size_t i = plan.head_size; i < plan.segments[0].offset; i++)
		CHECK_EQ(core[i], 0);
	close(fd);
}

static void check_bytes(size_t segment, size_t page, const uint8_t *want)
{
	static const uint8_t zeros[PAGE];
	const uint8_t *at = core + plan.segments[segment].offset + page * PAGE;

	CHECK((page + 1) * PAGE <= plan.segments[segment].filesz);
	CHECK(memcmp(at, want ? want : zeros, PAGE) == 0);
}

static void fill(uint8_t *bytes, size_t size, unsigned int seed)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(i * 31 + i / 251 + seed);
}

static void staged_pulled_and_holes(void)
{
	static const struct arch *const both[] = { &arch_x86_64, &arch_i386 };
	static uint8_t staged[2 * PAGE];
	uint8_t *const first = map_private(BASE + 0x10000, 2);
	uint8_t *const second = map_private(BASE + 0x20000, 3);

	fill(staged, sizeof(staged), 1);
	fill(first, 2 * PAGE, 2);
	fill(second, 3 * PAGE, 3);
	for (size_t i = 0; i < 2; i++) {
		begin(both[i]);
		CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
		CHECK_EQ(emit_head(&emit, &err), 0);
		CHECK_EQ(sink.pos, plan.head_size);
		add(0, 0, 1, NULL);
		add(1, 0, 1, NULL);
		add(1, 2, 1, NULL);
		add(3, 1, 1, staged + PAGE);
		// In two steps, as when a part is written while the target is stopped.
		CHECK_EQ(emit_extents(&emit, 2, &err), 0);
		CHECK_EQ(sink.pos, plan.segments[1].offset + PAGE);
		finish();
		check_bytes(0, 0, first);
		check_bytes(1, 0, second);
		check_bytes(1, 1, NULL);
		check_bytes(1, 2, second + 2 * PAGE);
		check_bytes(3, 0, NULL);
		check_bytes(3, 1, staged + PAGE);
		CHECK_EQ(sink.written, plan.head_size + 4 * PAGE);
		CHECK_EQ(mem.bytes_read, 3 * PAGE);
		arena_deinit(&h.arena);
	}
}

// More than the buffer holds, and not a multiple of it.
static void pulled_in_pieces(void)
{
	const size_t pages = 2 * EMIT_PIECE / PAGE + 3;
	uint8_t *const m = map_private(BASE + 0x1000000, pages);

	begin(&arch_x86_64);
	h.s.maps.n = 4;
	h.maps[3] = hand_mapping((uintptr_t)m, pages, MAPPING_READ, pages * PAGE);
	fill(m, pages * PAGE, 4);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	CHECK_EQ(emit_head(&emit, &err), 0);
	add(3, 0, pages, NULL);
	finish();
	for (size_t i = 0; i < pages; i++)
		check_bytes(3, i, m + i * PAGE);
}

// A page that cannot be read is zeros, and counted when it should have been there.
static void unreadable_page(void)
{
	uint8_t *const m = map_private(BASE + 0x20000, 3);

	begin(&arch_x86_64);
	fill(m, 3 * PAGE, 5);
	munmap(m + PAGE, PAGE);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	CHECK_EQ(emit_head(&emit, &err), 0);
	add(1, 0, 3, NULL);
	extents[0].certain = true;
	finish();
	check_bytes(1, 0, m);
	check_bytes(1, 1, NULL);
	check_bytes(1, 2, m + 2 * PAGE);
	CHECK_EQ(mem.bytes_unreadable, PAGE);
}

static void check_tags(size_t segment, size_t page, const uint8_t *want)
{
	static const uint8_t zeros[PAGE / 32];
	const size_t size = PAGE / 32;

	CHECK((page + 1) * size <= plan.tags[segment].filesz);
	CHECK(memcmp(core + plan.tags[segment].offset + page * size, want ? want : zeros, size) ==
	      0);
}

// Tags of the second and the last mapping, in this order behind all bytes.
static void staged_tags(void)
{
	static uint8_t staged[2 * PAGE], tags[3 * PAGE / 32];

	fill(staged, sizeof(staged), 6);
	fill(tags, sizeof(tags), 7);
	begin(&arch_aarch64);
	image.arch = &arch_aarch64;
	h.maps[1].flags |= MAPPING_TAGGED;
	h.maps[2].flags |= MAPPING_TAGGED;
	h.maps[3].flags |= MAPPING_TAGGED;
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	CHECK_EQ(plan.n_tags, 3);
	CHECK_EQ(emit_head(&emit, &err), 0);
	add(0, 0, 1, staged);
	add(1, 1, 2, staged);
	add(3, 1, 1, staged);
	extents[1].tags = tags;
	extents[2].tags = tags + 2 * PAGE / 32;
	// In two steps, as when all is written while the target is stopped.
	CHECK_EQ(emit_extents(&emit, 3, &err), 0);
	CHECK_EQ(emit_tags(&emit, &err), 0);
	CHECK_EQ(sink.pos, plan.tags[2].offset + 2 * PAGE / 32);
	finish();
	check_bytes(3, 1, staged);
	check_tags(0, 0, NULL);
	check_tags(0, 1, tags);
	check_tags(0, 2, tags + PAGE / 32);
	check_tags(2, 0, NULL);
	check_tags(2, 1, tags + 2 * PAGE / 32);
	CHECK_EQ(mem.bytes_untagged, 0);
}

// Nobody can be asked for them: they are zeros, and counted, and nothing else is amiss.
static void tags_that_cannot_be_read(void)
{
	uint8_t *const m = map_private(BASE + 0x20000, 3);

	begin(&arch_aarch64);
	image.arch = &arch_aarch64;
	h.maps[1].flags |= MAPPING_TAGGED;
	fill(m, 3 * PAGE, 8);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	CHECK_EQ(emit_head(&emit, &err), 0);
	add(1, 0, 1, NULL);
	add(1, 2, 1, NULL);
	finish();
	check_bytes(1, 0, m);
	check_bytes(1, 2, m + 2 * PAGE);
	for (size_t page = 0; page < 3; page++)
		check_tags(0, page, NULL);
	CHECK_EQ(mem.bytes_untagged, 2 * PAGE);
	CHECK_EQ(mem.bytes_unreadable, 0);
}

static void nothing_but_holes(void)
{
	begin(&arch_x86_64);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	CHECK_EQ(emit_head(&emit, &err), 0);
	finish();
	for (size_t i = 0; i < 4; i++)
		for (size_t page = 0; page < plan.segments[i].filesz / PAGE; page++)
			check_bytes(i, page, NULL);
}

// The section header that tells the number of program headers ends the file.
static void tail(void)
{
	const size_t n = 70000;
	static const uint8_t staged[PAGE] = { 42 };

	begin(&arch_x86_64);
	h.s.maps.list = calloc(n, sizeof(struct mapping));
	h.s.maps.n = n;
	CHECK(h.s.maps.list);
	for (size_t i = 0; i < n; i++)
		h.s.maps.list[i] = hand_mapping(BASE + i * 8192, 1, MAPPING_READ, i % 2 * PAGE);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	CHECK_EQ(emit_head(&emit, &err), 0);
	extents[mem.n++] = (struct extent){ .start = BASE + 69999 * 8192,
					    .end = BASE + 69999 * 8192 + PAGE, .bytes = staged };
	finish();
	check_bytes(69999, 0, staged);
	check_bytes(69997, 0, NULL);
	CHECK_EQ(plan.tail_size, 64);
	CHECK(memcmp(core + plan.data_end, plan.tail, 64) == 0);
	CHECK_EQ(plan.size, plan.data_end + 64);
}

static int emit_one(uint64_t start, uint64_t end)
{
	static const uint8_t staged[8 * PAGE];

	begin(&arch_x86_64);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	CHECK_EQ(emit_head(&emit, &err), 0);
	extents[mem.n++] = (struct extent){ .start = start, .end = end, .bytes = staged };
	err = (struct coresnap_error){ 0 };
	const int ret = emit_extents(&emit, 1, &err);

	CHECK_EQ(err.code, ret < 0 ? CORESNAP_E_FAILED : CORESNAP_OK);
	sink_close(&sink);
	arena_deinit(&h.arena);
	return ret;
}

// An extent that no segment has room for would overwrite another's bytes.
static void extents_outside(void)
{
	CHECK_EQ(emit_one(BASE + 0x10000, BASE + 0x10000 + PAGE), 0);
	CHECK_EQ(emit_one(BASE, BASE + PAGE), -EINVAL);                             // before
	CHECK_EQ(emit_one(BASE + 0xf000, BASE + 0x10000 + PAGE), -EINVAL);          // begins before
	CHECK_EQ(emit_one(BASE + 0x10000, BASE + 0x10000 + 2 * PAGE), -EINVAL);     // not kept
	CHECK_EQ(emit_one(BASE + 0x11000, BASE + 0x12000), -EINVAL);                // likewise
	CHECK_EQ(emit_one(BASE + 0x18000, BASE + 0x19000), -EINVAL);                // between
	CHECK_EQ(emit_one(BASE + 0x20000, BASE + 0x20000 + 4 * PAGE), -EINVAL);     // ends behind
	CHECK_EQ(emit_one(BASE + 0x30000, BASE + 0x31000), -EINVAL);                // nothing kept
	CHECK_EQ(emit_one(BASE + 0x50000, BASE + 0x51000), -EINVAL);                // behind
	CHECK_EQ(emit_one(BASE + 0x41000, BASE + 0x42000), 0);
}

static void extents_in_disorder(void)
{
	static const uint8_t staged[PAGE];

	begin(&arch_x86_64);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	CHECK_EQ(emit_head(&emit, &err), 0);
	add(1, 1, 1, staged);
	add(1, 0, 1, staged);
	CHECK_EQ(emit_extents(&emit, 2, &err), -EINVAL);
	CHECK_EQ(err.code, CORESNAP_E_FAILED);
}

static void image_that_is_gone(void)
{
	map_private(BASE + 0x20000, 3);
	begin(&arch_x86_64);

	const pid_t child = fork();

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	image = image_of(child);
	kill(child, SIGKILL);
	CHECK(waitpid(child, NULL, 0) == child);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	CHECK_EQ(emit_head(&emit, &err), 0);
	add(1, 0, 1, NULL);
	CHECK_EQ(emit_extents(&emit, 1, &err), -ESRCH);
	CHECK_EQ(err.code, CORESNAP_E_TARGET_GONE);
}

// How long the file is and how much of it is bytes, with limits; in ours the pages 0 and 2 of the
// second mapping and page 1 of the last one are there.
static void check_limited(uint64_t max_size, uint64_t core_limit, uint64_t size, uint64_t written)
{
	static const uint8_t staged[PAGE] = { 42 };
	int fd = -1;

	begin(&arch_x86_64);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	emit_limit(&emit, max_size, core_limit);
	CHECK_EQ(emit_head(&emit, &err), 0);
	add(1, 0, 1, staged);
	add(1, 2, 1, staged);
	add(3, 1, 1, staged);
	CHECK_EQ(emit_extents(&emit, mem.n, &err), 0);
	CHECK_EQ(emit_tags(&emit, &err), 0);
	CHECK_EQ(emit_tail(&emit, &err), 0);
	CHECK_EQ(sink_finish(&sink, &fd, &err), 0);
	CHECK_EQ(lseek(fd, 0, SEEK_END), size);
	CHECK_EQ(sink.written, written);
	CHECK_EQ(sink.pos, size);
	close(fd);
	arena_deinit(&h.arena);
}

static void cut_at_a_size(void)
{
	begin(&arch_x86_64);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	const uint64_t head = plan.head_size, size = plan.size;
	const uint64_t first = plan.segments[1].offset, last = plan.segments[3].offset;

	check_limited(0, 0, size, head + 3 * PAGE);
	check_limited(size + 1, 0, size, head + 3 * PAGE);
	check_limited(size, 0, size, head + 3 * PAGE);
	check_limited(size - 1, 0, size - 1, head + 3 * PAGE - 1);
	check_limited(last + PAGE, 0, last + PAGE, head + 2 * PAGE); // in a hole
	check_limited(first + 1, 0, first + 1, head + 1);
	check_limited(first, 0, first, head);
	check_limited(head + 1, 0, head + 1, head);
	check_limited(head, 0, head, head);
	check_limited(256, 0, 256, 256);
	check_limited(1, 0, 1, 1);
}

// The kernel counts bytes, not holes, and writes whole pages; where it stops the file ends.
static void stopped_as_by_the_kernel(void)
{
	uint64_t counted;

	begin(&arch_x86_64);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	CHECK_EQ(plan_limit_head(&plan, UINT64_MAX, &counted), plan.head_size);
	const uint64_t head = plan.head_size, size = plan.size;
	const uint64_t first = plan.segments[1].offset;

	check_limited(0, counted + 4 * PAGE, size, head + 3 * PAGE);
	check_limited(0, counted + 3 * PAGE, size, head + 3 * PAGE);
	check_limited(0, counted + 3 * PAGE - 1, first + 3 * PAGE, head + 2 * PAGE);
	check_limited(0, counted + PAGE, first + PAGE, head + PAGE);
	check_limited(0, counted + PAGE - 1, head, head);
	check_limited(0, 64, 64, 64);
	check_limited(first + 2 * PAGE, counted + PAGE, first + PAGE, head + PAGE);
	check_limited(first + 10, counted + PAGE, first + 10, head + 10);
}

// A hole at the very end is ended by a byte, which counts as well.
static void a_last_hole_has_a_price(void)
{
	const struct mapping hole = hand_mapping(BASE + 0x40000, 2, MAPPING_READ, 2 * PAGE);
	uint64_t counted;

	for (uint64_t more = 0; more < 2; more++) {
		int fd = -1;

		begin(&arch_x86_64);
		h.maps[0] = hole;
		h.s.maps.n = 1;
		CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
		(void)plan_limit_head(&plan, UINT64_MAX, &counted);
		emit_limit(&emit, 0, counted + more);
		CHECK_EQ(emit_head(&emit, &err), 0);
		CHECK_EQ(emit_tail(&emit, &err), 0);
		CHECK_EQ(sink_finish(&sink, &fd, &err), 0);
		CHECK_EQ(lseek(fd, 0, SEEK_END), more ? plan.size : plan.head_size);
		close(fd);
	}
}

// What a shortened segment does not keep is not read either.
static void shortened_segments(void)
{
	static const uint8_t staged[3 * PAGE] = { 42 };
	int fd = -1;

	begin(&arch_x86_64);
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	wishes.max_size = plan.segments[0].offset + 4 * PAGE;
	CHECK_EQ(plan_build(&plan, &h.s, &wishes, &err), 0);
	wishes.max_size = 0;
	CHECK_EQ(plan.segments[1].kept, PAGE);
	CHECK_EQ(emit_head(&emit, &err), 0);
	add(1, 0, 3, staged);
	add(3, 0, 2, staged);
	CHECK_EQ(emit_extents(&emit, mem.n, &err), 0);
	CHECK_EQ(emit_tail(&emit, &err), 0);
	CHECK_EQ(sink.written, plan.head_size + 3 * PAGE);
	CHECK_EQ(sink_finish(&sink, &fd, &err), 0);
	CHECK_EQ(lseek(fd, 0, SEEK_END), plan.size);
	close(fd);
}

static const struct check_case cases[] = {
	CASE(staged_pulled_and_holes),
	CASE(pulled_in_pieces),
	CASE(unreadable_page),
	CASE(staged_tags),
	CASE(tags_that_cannot_be_read),
	CASE(nothing_but_holes),
	CASE(tail),
	CASE(cut_at_a_size),
	CASE(stopped_as_by_the_kernel),
	CASE(a_last_hole_has_a_price),
	CASE(shortened_segments),
	CASE(extents_outside),
	CASE(extents_in_disorder),
	CASE(image_that_is_gone),
};

CHECK_MAIN(cases)
