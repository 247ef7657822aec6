/* SPDX-License-Identifier: BSD-3-Clause */
#include "mem.h"

#include <errno.h>
#include <sys/prctl.h>

#include "own_image.h"
#include "sys.h"

#define RW (PROT_READ | PROT_WRITE)

static struct arena arena;
static struct target image;
static struct coresnap_error err;
static uint64_t told_start, told_end;

static void unreadable(void *arg, uint64_t start, uint64_t end)
{
	CHECK(arg == &arena);
	if (told_end != start)
		told_start = start;
	told_end = end;
}

static struct mem begin(void)
{
	image = image_of(getpid());
	return (struct mem){ .arena = &arena, .image = &image, .unreadable = unreadable,
			     .skip_arg = &arena };
}

// A snapshot of the one mapping that has this address, kept whole.
static struct snapshot one_mapping(const void *address)
{
	struct snapshot s = { .arena = &arena, .page_size = PAGE, .maps = { .arena = &arena } };

	CHECK_EQ(maps_read(&s.maps, image.proc_fd, "smaps", &err), 0);
	for (size_t i = 0; i < s.maps.n; i++) {
		struct mapping *m = &s.maps.list[i];

		if (m->start > (uintptr_t)address || m->end <= (uintptr_t)address)
			continue;
		m->dump_size = m->end - m->start;
		s.maps.list = m;
		s.maps.n = 1;
		return s;
	}
	CHECK(address == NULL); // there is no such mapping
	return s;
}

static void scan(struct mem *mem, const struct snapshot *s)
{
	const int ret = mem_scan(mem, s, MEM_ALL, &err);

	if (ret < 0)
		fprintf(stderr, "%s\n", err.what);
	CHECK_EQ(ret, 0);
}

static void check_extent(const struct mem *mem, size_t i, const uint8_t *map, size_t first,
			 size_t pages, bool certain)
{
	CHECK(i < mem->n);
	CHECK_EQ(mem->list[i].start, (uintptr_t)map + first * PAGE);
	CHECK_EQ(mem->list[i].end, (uintptr_t)map + (first + pages) * PAGE);
	CHECK_EQ(mem->list[i].certain, certain);
	CHECK(mem->list[i].bytes == NULL);
}

static void anonymous(void)
{
	struct mem mem = begin();
	uint8_t *const m = map_private(0, 64);

	m[3 * PAGE] = m[5 * PAGE] = m[6 * PAGE] = m[63 * PAGE] = 1;
	struct snapshot s = one_mapping(m);

	scan(&mem, &s);
	CHECK_EQ(mem.n, 3);
	check_extent(&mem, 0, m, 3, 1, true);
	check_extent(&mem, 1, m, 5, 2, true);
	check_extent(&mem, 2, m, 63, 1, true);
	CHECK_EQ(mem_size(&mem, 0), 4 * PAGE);
	CHECK_EQ(mem_size(&mem, 1), 3 * PAGE);
	CHECK_EQ(mem_size(&mem, 3), 0);
	// Only the kept part.
	mem.n = 0;
	s.maps.list->dump_size = 6 * PAGE;
	scan(&mem, &s);
	CHECK_EQ(mem.n, 2);
	check_extent(&mem, 1, m, 5, 1, true);
}

static void what_is_never_read(void)
{
	static const uint32_t flags[] = { MAPPING_IO, MAPPING_PFN, MAPPING_LOST };
	struct mem mem = begin();
	uint8_t *const m = map_private(0, 4);

	m[0] = 1;
	struct snapshot s = one_mapping(m);

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		s.maps.list->flags |= flags[i];
		scan(&mem, &s);
		s.maps.list->flags &= ~flags[i];
	}
	s.maps.list->dump_size = 0;
	scan(&mem, &s);
	CHECK_EQ(mem.n, 0);
}

static void parts(void)
{
	static const uint32_t unforkable[] = { MAPPING_DONTFORK, MAPPING_WIPEONFORK };
	struct mem mem = begin();
	uint8_t *const m = map_private(0, 4);

	m[0] = 1;
	struct snapshot s = one_mapping(m);

	CHECK_EQ(mem_scan(&mem, &s, MEM_UNFORKABLE, &err), 0);
	CHECK_EQ(mem.n, 0);
	CHECK_EQ(mem_scan(&mem, &s, MEM_FORKED, &err), 0);
	CHECK_EQ(mem.n, 1);
	for (size_t i = 0; i < 2; i++) {
		mem.n = 0;
		s.maps.list->flags = unforkable[i];
		CHECK_EQ(mem_scan(&mem, &s, MEM_FORKED, &err), 0);
		CHECK_EQ(mem.n, 0);
		CHECK_EQ(mem_scan(&mem, &s, MEM_UNFORKABLE, &err), 0);
		CHECK_EQ(mem.n, 1);
	}
}

// A fork carries over what is shared, but was opened for reading, if it is a file of a disk.
static void forkable(void)
{
	static const struct {
		uint32_t flags, dev_major;
		bool unforkable;
	} rows[] = {
		{ 0, 8, false },
		{ MAPPING_SHARED, 8, true },
		{ MAPPING_SHARED | MAPPING_READ_SHARED, 8, false },
		{ MAPPING_SHARED | MAPPING_READ_SHARED, 0, true },
		{ MAPPING_SHARED | MAPPING_READ_SHARED | MAPPING_DONTFORK, 8, true },
		{ MAPPING_SHARED | MAPPING_READ_SHARED | MAPPING_HUGETLB, 8, true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct mapping m = { .flags = rows[i].flags, .dev_major = rows[i].dev_major };

		CHECK_EQ(mapping_unforkable(&m), rows[i].unforkable);
	}
}

// A hole of shared memory stays one.
static void shared_with_holes(void)
{
	struct mem mem = begin();
	const int fd = memfd_create("x", 0);
	struct stat before, after;

	CHECK_EQ(ftruncate(fd, 32 * PAGE), 0);
	CHECK_EQ(pwrite(fd, "a", 1, 2 * PAGE + 7), 1);
	CHECK_EQ(pwrite(fd, "b", 1, 10 * PAGE), 1);
	CHECK_EQ(pwrite(fd, "c", 1, 31 * PAGE), 1);
	fstat(fd, &before);
	uint8_t *const m = mmap(NULL, 20 * PAGE, RW, MAP_SHARED, fd, 2 * PAGE);
	struct snapshot s = one_mapping(m);

	if (access("/proc/self/map_files/.", R_OK | X_OK) != 0 || geteuid() != 0)
		SKIP("opening /proc/PID/map_files needs a capability");
	scan(&mem, &s);
	CHECK_EQ(mem.n, 2);
	check_extent(&mem, 0, m, 0, 1, false);
	check_extent(&mem, 1, m, 8, 1, false);
	CHECK_EQ(mem_stage(&mem, 0, &err), 0);
	CHECK_EQ(mem.list[0].bytes[7], 'a');
	CHECK_EQ(mem.list[1].bytes[0], 'b');
	fstat(fd, &after);
	CHECK_EQ(before.st_blocks, after.st_blocks);
	// The kept part ends inside a run of data.
	CHECK_EQ(pwrite(fd, "dddd", 4, 11 * PAGE - 2), 4);
	mem.n = 0;
	s.maps.list->dump_size = 9 * PAGE;
	scan(&mem, &s);
	CHECK_EQ(mem.n, 2);
	check_extent(&mem, 1, m, 8, 1, false);
	// A mapping that is longer than its file.
	CHECK_EQ(ftruncate(fd, 2 * PAGE), 0);
	mem.n = 0;
	scan(&mem, &s);
	CHECK_EQ(mem.n, 0);
}

// Whole, since the kernel reads in what is not there yet; what lies behind the end of the file is a
// hole that nobody need be told of.
static void private_file(void)
{
	struct mem mem = begin();
	const int fd = memfd_create("x", 0);

	CHECK_EQ(write(fd, "hello", 5), 5);
	uint8_t *const m = mmap(NULL, 3 * PAGE, RW, MAP_PRIVATE, fd, 0);
	struct snapshot s = one_mapping(m);

	scan(&mem, &s);
	CHECK_EQ(mem.n, 1);
	check_extent(&mem, 0, m, 0, 3, false);
	CHECK_EQ(mem_stage(&mem, 0, &err), 0);
	CHECK(memcmp(mem.list[0].bytes, "hello\0", 6) == 0);
	CHECK_EQ(mem.list[0].bytes[PAGE], 0);
	CHECK_EQ(mem.bytes_read, PAGE);
	CHECK_EQ(mem.bytes_unreadable, 0);
}

static void staging_ends_at_its_deadline(void)
{
	struct mem mem = begin();
	uint8_t *const m = mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	m[0] = 7;
	struct snapshot s = one_mapping(m);

	scan(&mem, &s);
	mem.deadline_ns = sys_now_ns();
	CHECK_EQ(mem_stage(&mem, 0, &err), -ETIME);
	CHECK_EQ(mem.bytes_read, 0);
	mem.deadline_ns = sys_now_ns() + 60000000000u;
	CHECK_EQ(mem_stage(&mem, 0, &err), 0);
	CHECK_EQ(mem.list[0].bytes[0], 7);
}

// Anonymous memory that has a file; by the filter it may be kept before it is written.
static void dev_zero(void)
{
	struct mem mem = begin();
	const size_t pages = sizeof(void *) == 8 ? (size_t)1 << (4 * sizeof(size_t)) : 1 << 12;
	uint8_t *const m = map_at(0, pages, RW, MAP_PRIVATE | MAP_NORESERVE,
				  open("/dev/zero", O_RDWR));

	struct snapshot s = one_mapping(m);

	CHECK(mapping_has_file(s.maps.list));
	scan(&mem, &s);
	CHECK_EQ(mem.n, 0);
	m[5 * PAGE] = 1;
	s = one_mapping(m);
	scan(&mem, &s);
	CHECK_EQ(mem.n, 1);
	check_extent(&mem, 0, m, 5, 1, true);
}

static void huge_empty_mapping(void)
{
	struct mem mem = begin();
	const size_t pages = sizeof(void *) == 8 ? (size_t)1 << (4 * sizeof(size_t)) : 1 << 12;
	uint8_t *const m = map_private(0, pages);

	m[(pages - 1) * PAGE] = 1;
	struct snapshot s = one_mapping(m);

	scan(&mem, &s);
	CHECK_EQ(mem.n, 1);
	check_extent(&mem, 0, m, pages - 1, 1, true);
}

// Huge pages that nobody touched are not taken from the pool.
static void hugetlb(void)
{
	const size_t huge = 2u << 20;
	struct mem mem = begin();
	uint8_t *const m = mmap(NULL, 3 * huge, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1,
				0);

	if (m == MAP_FAILED)
		SKIP("no huge pages in the pool (vm.nr_hugepages)");
	m[huge] = 1;
	struct snapshot s = one_mapping(m);

	CHECK(s.maps.list->flags & MAPPING_HUGETLB);
	scan(&mem, &s);
	CHECK_EQ(mem.n, 1);
	check_extent(&mem, 0, m, huge / PAGE, huge / PAGE, true);
	CHECK_EQ(mem_stage(&mem, 0, &err), 0);
	CHECK_EQ(mem.list[0].bytes[0], 1);
	// Shared, with every page made, one of them not by way of this mapping.
	const int fd = memfd_create("x", MFD_HUGETLB);

	munmap(m, 3 * huge);
	mem.n = 0;
	CHECK_EQ(ftruncate(fd, (off_t)(2 * huge)), 0);
	uint8_t *const other = mmap(NULL, 2 * huge, RW, MAP_SHARED, fd, 0);
	uint8_t *const shared = mmap(NULL, 2 * huge, RW, MAP_SHARED, fd, 0);

	CHECK(shared != MAP_FAILED);
	shared[0] = 1;
	s = one_mapping(shared);
	scan(&mem, &s);
	CHECK_EQ(mem.n, 1);
	check_extent(&mem, 0, shared, 0, huge / PAGE, true);
	other[huge] = 2;
	mem.n = 0;
	scan(&mem, &s);
	CHECK_EQ(mem.n, 1);
	CHECK_EQ(mem_size(&mem, 0), geteuid() == 0 ? 2 * huge : huge);
}

static void stage(void)
{
	struct mem mem = begin();
	const size_t pages = (3u << 20) / PAGE + 1; // more than three pieces
	uint8_t *const m = map_private(0, pages + 10);

	for (size_t i = 0; i < pages * PAGE; i++)
		m[i] = (uint8_t)(i * 7 + i / PAGE);
	m[(pages + 5) * PAGE + 1] = 9;
	struct snapshot s = one_mapping(m);

	scan(&mem, &s);
	CHECK_EQ(mem.n, 2);
	CHECK_EQ(mem_stage(&mem, 1, &err), 0);
	CHECK(mem.list[0].bytes == NULL);
	CHECK_EQ(mem.list[1].bytes[1], 9);
	CHECK_EQ(mem_stage(&mem, 0, &err), 0);
	CHECK(memcmp(mem.list[0].bytes, m, pages * PAGE) == 0);
	CHECK_EQ(mem.list[1].bytes[1], 9);
	CHECK_EQ(mem.bytes_read, (pages + 2) * PAGE);
	CHECK_EQ(mem_stage(&mem, 2, &err), 0); // nothing
	const int cancel = 1;

	mem.cancel = &cancel;
	CHECK(mem_stage(&mem, 0, &err) < 0);
	CHECK_EQ(err.code, CORESNAP_E_CANCELLED);
}

static void stage_without_memory(void)
{
	struct mem mem = begin();
	struct extent vast = { .start = PAGE, .end = (uint64_t)1 << 62 };

	mem.list = &vast;
	mem.n = 1;
	CHECK_EQ(mem_stage(&mem, 0, &err), -ENOMEM);
	CHECK_EQ(err.code, CORESNAP_E_FAILED);
}

static void unreadable_pages(void)
{
	struct mem mem = begin();
	uint8_t *const m = map_private(0, 8);
	uint8_t buf[6 * PAGE];
	struct extent extent = { .start = (uintptr_t)m, .end = (uintptr_t)m + 8 * PAGE,
				 .certain = true };

	memset(m, 1, 8 * PAGE);
	munmap(m + 3 * PAGE, 2 * PAGE);
	memset(buf, 0xff, sizeof(buf));
	// From the middle of a page to the middle of a page.
	CHECK_EQ(mem_read(&mem, &extent, (uintptr_t)m + 100, buf, 5 * PAGE), 0);
	CHECK_EQ(buf[3 * PAGE - 101], 1);
	for (size_t i = 3 * PAGE - 100; i < 5 * PAGE - 100; i++)
		CHECK_EQ(buf[i], 0);
	CHECK_EQ(buf[5 * PAGE - 100], 1);
	CHECK_EQ(buf[5 * PAGE - 1], 1);
	CHECK_EQ(buf[5 * PAGE], 0xff);
	CHECK_EQ(told_start, (uintptr_t)m + 3 * PAGE);
	CHECK_EQ(told_end, (uintptr_t)m + 5 * PAGE);
	CHECK_EQ(mem.bytes_unreadable, 2 * PAGE);
	CHECK_EQ(mem.bytes_read, 3 * PAGE);
	// The first byte, the last one, nothing else; and nobody who wants to know.
	mem.unreadable = NULL;
	CHECK_EQ(mem_read(&mem, &extent, (uintptr_t)m + 4 * PAGE - 1, buf, 2), 0);
	CHECK_EQ(buf[0] | buf[1], 0);
	CHECK_EQ(mem.bytes_unreadable, 2 * PAGE + 2);
	// Not worth telling of pages that need not be there.
	extent.certain = false;
	CHECK_EQ(mem_read(&mem, &extent, (uintptr_t)m + 3 * PAGE, buf, PAGE), 0);
	CHECK_EQ(mem.bytes_unreadable, 2 * PAGE + 2);
}

static void protected_pages(void)
{
	struct mem mem = begin();
	uint8_t *const m = map_private(0, 3);
	const struct extent extent = { .start = (uintptr_t)m, .end = (uintptr_t)m + 3 * PAGE };
	uint8_t buf[3 * PAGE];

	memset(m, 7, 3 * PAGE);
	mprotect(m + PAGE, PAGE, PROT_NONE);
	CHECK_EQ(mem_read(&mem, &extent, (uintptr_t)m, buf, sizeof(buf)), 0);
	for (size_t i = 0; i < sizeof(buf); i++)
		CHECK_EQ(buf[i], 7);
	CHECK_EQ(mem.bytes_read, sizeof(buf));
}

static void image_that_is_gone(void)
{
	struct mem mem = begin();
	uint8_t *const m = map_private(0, 1);
	struct extent extent = { .start = (uintptr_t)m, .end = (uintptr_t)m + PAGE };
	uint8_t buf[16];

	*m = 5;
	struct snapshot s = one_mapping(m);
	const pid_t child = fork();

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	image = image_of(child);
	CHECK_EQ(mem_read(&mem, &extent, (uintptr_t)m, buf, 1), 0);
	CHECK_EQ(buf[0], 5);
	scan(&mem, &s);
	CHECK_EQ(mem.n, 1);
	kill(child, SIGKILL);
	CHECK(waitpid(child, NULL, 0) == child);
	CHECK_EQ(mem_read(&mem, &extent, (uintptr_t)m, buf, 1), -ESRCH);
	CHECK_EQ(mem_stage(&mem, 0, &err), -ESRCH);
	CHECK_EQ(err.code, CORESNAP_E_TARGET_GONE);
	err = (struct coresnap_error){ 0 };
	CHECK_EQ(mem_scan(&mem, &s, MEM_ALL, &err), -ESRCH);
	CHECK_EQ(err.code, CORESNAP_E_TARGET_GONE);
}

static void sort(void)
{
	static const uint64_t runs[][6] = {
		{ 1, 2, 3, 4, 5, 6 }, { 4, 5, 6, 1, 2, 3 }, { 1, 3, 5, 2, 4, 6 },
		{ 2, 3, 4, 5, 6, 1 }, { 6, 1, 2, 3, 4, 5 }, { 1, 2, 3, 5, 6, 4 },
	};
	struct mem mem = { .arena = &arena };

	CHECK_EQ(mem_sort(&mem), 0);
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		struct extent list[6];

		for (size_t e = 0; e < 6; e++)
			list[e] = (struct extent){ .start = runs[i][e] * PAGE,
						   .end = (runs[i][e] + 1) * PAGE };
		mem.list = list;
		for (mem.n = 1; mem.n < 6; mem.n += 5)
			CHECK_EQ(mem_sort(&mem), 0);
		CHECK_EQ(mem_sort(&mem), 0);
		for (size_t e = 0; e < 6; e++) {
			CHECK_EQ(mem.list[e].start, (e + 1) * PAGE);
			CHECK_EQ(mem.list[e].end, (e + 2) * PAGE);
		}
	}
}

static const struct check_case cases[] = {
	CASE(anonymous),
	CASE(what_is_never_read),
	CASE(parts),
	CASE(forkable),
	CASE(shared_with_holes),
	CASE(private_file),
	CASE(staging_ends_at_its_deadline),
	CASE(dev_zero),
	CASE(huge_empty_mapping),
	CASE(hugetlb),
	CASE(stage),
	CASE(stage_without_memory),
	CASE(unreadable_pages),
	CASE(protected_pages),
	CASE(image_that_is_gone),
	CASE(sort),
};

CHECK_MAIN(cases)
