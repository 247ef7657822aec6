// SPDX-License-Identifier: BSD-3-Clause
#include "estimate.h"

#include "check.h"
#include "survey.h"

#define MIB (1ull << 20)
#define MS  1000000.0

static struct coresnap_estimate process(unsigned int threads, uint64_t size)
{
	struct coresnap_estimate estimate = {
		.threads = threads, .kept = size, .forked = size, .budget = 4096 * MIB
	};

	estimate.regions[CORESNAP_REGION_FILE].mappings = 20 + threads;
	return estimate;
}

static void check_disks(uint64_t size, struct coresnap_options options, uint64_t path, uint64_t fd,
			uint64_t budget)
{
	struct coresnap_estimate estimate = process(1, size * MIB);

	estimate.budget = budget * MIB;
	estimate_disks(&estimate, &options);
	CHECK_EQ(estimate.beside_path, path * MIB);
	CHECK_EQ(estimate.beside_fd, fd * MIB);
}

static void test_what_precopy_takes_of_disks(void)
{
	const struct coresnap_options usual = { .size = sizeof(usual) };
	struct coresnap_options options = usual;

	check_disks(16, usual, 0, 0, 32); // memory
	check_disks(17, usual, 17, 17, 32);
	check_disks(48, usual, 0, 0, 1024);
	check_disks(49, usual, 49, 49, 1024);
	check_disks(64, usual, 0, 64, 1024); // the core's own file
	options.compression = CORESNAP_COMPRESS_LZ4;
	check_disks(64, options, 64, 64, 32);
	options = usual;
	options.max_size = 1000 * MIB;
	check_disks(64, options, 64, 64, 32);
	options = usual;
	options.core_limit = 1000 * MIB;
	check_disks(64, options, 64, 64, 32);
}

static uint64_t expected(struct coresnap_estimate estimate, int method)
{
	estimate_pauses(&estimate, 1000000000);
	return estimate.pauses[method].expected_ns;
}

// The table of docs/pausing.md.
static void test_covers_what_was_measured(void)
{
	static const struct {
		unsigned int threads, mib;
		double stop_ms, fork_ms;
	} rows[] = {
		{ 1, 4, 1.85, 1.13 },    { 50, 4, 4.88, 4.17 },	  { 1000, 4, 67.2, 69.0 },
		{ 1, 256, 66.0, 12.3 },  { 50, 256, 71.0, 15.1 }, { 1, 1024, 194, 30.9 },
		{ 50, 1024, 204, 33.4 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct coresnap_estimate estimate = process(rows[i].threads, rows[i].mib * MIB);

		estimate_pauses(&estimate, 1000000000);
		const struct coresnap_pause *const stop = &estimate.pauses[CORESNAP_METHOD_STOP];
		const struct coresnap_pause *const fork = &estimate.pauses[CORESNAP_METHOD_FORK];

		CHECK((double)stop->least_ns <= rows[i].stop_ms * MS);
		CHECK((double)stop->most_ns >= rows[i].stop_ms * MS);
		CHECK((double)fork->least_ns <= rows[i].fork_ms * MS);
		CHECK((double)fork->most_ns >= rows[i].fork_ms * MS);
		CHECK(stop->least_ns < stop->expected_ns && stop->expected_ns < stop->most_ns);
	}
}

static void test_grows_with_what_a_pause_depends_on(void)
{
	const struct coresnap_estimate usual = process(10, 1024 * MIB);
	struct coresnap_estimate more[7];

	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
		more[i] = usual;
	more[0].threads = 1000;
	more[1].forked = 2048 * MIB;
	more[2].unforkable = 512 * MIB;
	more[3].kept = 2048 * MIB;
	more[4].budget = MIB;
	more[5].regions[CORESNAP_REGION_FILE].mappings = 60000;
	more[6].stuck = 1;
	const int fork = CORESNAP_METHOD_FORK, stop = CORESNAP_METHOD_STOP;

	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		if (i != 3 && i != 4)
			CHECK(expected(more[i], fork) > expected(usual, fork));
		if (i != 1 && i != 2)
			CHECK(expected(more[i], stop) > expected(usual, stop));
	}
	CHECK_EQ(expected(more[6], stop) - expected(usual, stop), 1000000000);
	more[4].copy_ns = 1; // measured: what is spilled takes as long
	CHECK(expected(more[4], stop) > 1023 * 1000000ull);
}

static void test_huge_pages_are_faster(void)
{
	struct coresnap_estimate small = process(1, 512 * MIB), huge = small;

	huge.huge = huge.kept;
	huge.forked = 0;
	CHECK(expected(huge, CORESNAP_METHOD_STOP) < expected(small, CORESNAP_METHOD_STOP));
	CHECK(expected(huge, CORESNAP_METHOD_FORK) < expected(small, CORESNAP_METHOD_FORK) / 5);
}

static void test_what_was_measured_counts(void)
{
	struct coresnap_estimate slow = process(1, 512 * MIB), fast = slow;

	slow.copy_ns = 1000000;
	fast.copy_ns = 50000;
	CHECK(expected(slow, CORESNAP_METHOD_STOP) > 512 * 1000000ull);
	CHECK(expected(fast, CORESNAP_METHOD_STOP) < 512 * 100000ull);
	CHECK_EQ(expected(slow, CORESNAP_METHOD_FORK), expected(fast, CORESNAP_METHOD_FORK));
}

static void test_a_small_process_is_stopped(void)
{
	struct coresnap_estimate small = process(1, MIB), large = process(1, 32 * MIB);
	struct coresnap_estimate huge = process(1, 64 * MIB);

	estimate_pauses(&small, 0);
	CHECK_EQ(small.method, CORESNAP_METHOD_STOP);
	estimate_pauses(&large, 0);
	CHECK_EQ(large.method, CORESNAP_METHOD_FORK);
	estimate_pauses(&huge, 0);
	CHECK_EQ(huge.method, CORESNAP_METHOD_PRECOPY);
	small.budget = MIB / 2;
	estimate_pauses(&small, 0);
	CHECK_EQ(small.method, CORESNAP_METHOD_FORK);
	CHECK_EQ(small.pauses[CORESNAP_METHOD_STOP].copied, MIB / 2);
	CHECK_EQ(small.pauses[CORESNAP_METHOD_STOP].spilled, MIB / 2);
	CHECK_EQ(small.pauses[CORESNAP_METHOD_FORK].spilled, 0);
}

// What is left is what was written during the last pass.
static void test_a_fork_when_writes_outrun_the_passes(void)
{
	const struct coresnap_estimate large = process(50, 8192 * MIB);

	CHECK(!estimate_prefers_fork(&large, 0));
	CHECK(!estimate_prefers_fork(&large, 100 * MIB));
	CHECK(estimate_prefers_fork(&large, 4096 * MIB));
}

static void test_a_method_that_is_not_known(void)
{
	const int unknown[] = { CORESNAP_METHOD_AUTO, CORESNAP_METHOD_LIVEDUMP, -1, 1000 };
	struct coresnap_estimate estimate = process(3, MIB);

	estimate_pauses(&estimate, 0);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		const struct estimate_parts parts = estimate_parts(&estimate, unknown[i]);

		CHECK_EQ(parts.memory_ns + parts.threads_ns, 0);
	}
	CHECK_EQ(estimate.pauses[CORESNAP_METHOD_LIVEDUMP].expected_ns, 0);
}

static const char smaps[] =
	"400000-402000 r-xp 00000000 08:01 7    /bin/x\nRss: 8 kB\nVmFlags: rd ex\n"
	"500000-502000 rw-p 00000000 00:00 0    [heap]\nRss: 8 kB\nAnonymous: 4 kB\nVmFlags: rd wr\n"
	"600000-a00000 rw-p 00000000 00:00 0\nRss: 4096 kB\nAnonymous: 4096 kB\n"
	"AnonHugePages: 2048 kB\nVmFlags: rd wr\n"
	"b00000-b04000 rw-s 00000000 00:05 9    /memfd:x (deleted)\nRss: 8 kB\nVmFlags: rd wr sh\n"
	"c00000-e00000 rw-p 00000000 00:0f 9    /anon_hugepage (deleted)\nRss: 0 kB\n"
	"Private_Hugetlb: 2048 kB\nVmFlags: rd wr ht\n"
	"f00000-f10000 rw-p 00000000 00:00 0\nRss: 12 kB\nAnonymous: 12 kB\nVmFlags: rd wr\n"
	"f20000-f21000 r--p 00000000 00:00 0\nRss: 0 kB\nVmFlags: rd\n";

static void test_regions(void)
{
	struct arena arena;
	struct maps maps = { .arena = &arena };
	struct coresnap_estimate found = { 0 };
	bool stacks[16] = { [5] = true };

	arena_init(&arena);
	for (const char *line = smaps; *line; line = strchr(line, '\n') + 1)
		CHECK_EQ(maps_feed(&maps, line, (size_t)(strchr(line, '\n') - line)), 0);
	survey_maps(&found, &maps, 0x33, 4096, stacks);
	const struct coresnap_region_size *const regions = found.regions;

	CHECK_EQ(regions[CORESNAP_REGION_FILE].mappings, 1);
	CHECK_EQ(regions[CORESNAP_REGION_FILE].kept, 4096); // its first page
	CHECK_EQ(regions[CORESNAP_REGION_HEAP].kept, 4096);
	CHECK_EQ(regions[CORESNAP_REGION_HEAP].resident, 8192);
	CHECK_EQ(regions[CORESNAP_REGION_SHARED].kept, 8192);
	CHECK_EQ(regions[CORESNAP_REGION_SHARED].mapped, 0x4000);
	CHECK_EQ(regions[CORESNAP_REGION_HUGETLB].kept, 2 * MIB);
	CHECK_EQ(regions[CORESNAP_REGION_STACK].kept, 12288);
	CHECK_EQ(regions[CORESNAP_REGION_ANONYMOUS].kept, 4 * MIB);
	CHECK_EQ(found.huge, 4 * MIB);
	CHECK_EQ(found.unforkable, 2 * MIB + 8192);
	CHECK_EQ(found.forked, 2 * MIB + 8192 + 12288);
	CHECK_EQ(found.kept, 6 * MIB + 4096 + 4096 + 8192 + 12288);
	arena_deinit(&arena);
}

static const struct check_case cases[] = {
	CASE(test_covers_what_was_measured),
	CASE(test_what_precopy_takes_of_disks),
	CASE(test_grows_with_what_a_pause_depends_on),
	CASE(test_huge_pages_are_faster),
	CASE(test_what_was_measured_counts),
	CASE(test_a_small_process_is_stopped),
	CASE(test_a_fork_when_writes_outrun_the_passes),
	CASE(test_a_method_that_is_not_known),
	CASE(test_regions),
};

CHECK_MAIN(cases)
