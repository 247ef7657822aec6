/* SPDX-License-Identifier: BSD-3-Clause */
// Writes of this very process are tracked, by each way that the kernel has.
#include "track.h"

#include <sys/mman.h>

#include "check.h"
#include "sys.h"
#include "track_parts.h"

#define PAGES 1024u // more than one page table has
#define PAGE  4096u

static struct arena arena;
static struct coresnap_error err;
static struct target target = TARGET_NONE;
static struct track track;
static uint8_t *memory;

// What became of each page.
static char told[PAGES + 1];

static int tell(void *arg, uint64_t start, uint64_t end, enum track_news news)
{
	(void)arg;
	for (uint64_t at = start; at < end; at += PAGE)
		told[(at - (uint64_t)(uintptr_t)memory) / PAGE] = news == TRACK_HOLE ? 'h' : 'b';
	return 0;
}

static uint64_t address(unsigned int page)
{
	return (uint64_t)(uintptr_t)memory + (uint64_t)page * PAGE;
}

static int look(void)
{
	memset(told, '-', PAGES);
	return track_look(&track, address(0), address(PAGES), tell, NULL);
}

static void write_page(unsigned int page)
{
	*(volatile uint8_t *)&memory[(size_t)page * PAGE] = 1;
}

static bool track_with(enum track_kind kind)
{
	arena_init(&arena);
	CHECK_EQ(target_open(&target, getpid(), 0, &err), 0);
	CHECK_EQ(target_open_mem(&target, &err), 0);
	track = TRACK_NOTHING;
	track.arena = &arena;
	track.target = &target;
	track.self = true;
	track.pagemap = sys_openat(target.proc_fd, "pagemap", O_RDONLY, 0);
	CHECK(track.pagemap >= 0);
	memory = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	CHECK_EQ(madvise(memory, (size_t)PAGES * PAGE, MADV_NOHUGEPAGE), 0);
	for (unsigned int page = 0; page < PAGES; page += 2)
		write_page(page);
	const int ret = kind == TRACK_UFFD ? track_uffd_open(&track, &err) :
					     track_dirty_open(&track, &err);

	return ret == 0;
}

static void take(void)
{
	CHECK_EQ(track_watch(&track, address(0), address(PAGES)), 0);
	CHECK(track_watches(&track, address(1), address(PAGES)));
	memset(told, '-', PAGES);
	CHECK_EQ(track_take(&track, address(0), address(PAGES), tell, NULL), 0);
	for (unsigned int page = 0; page < PAGES; page++)
		CHECK_EQ(told[page], page % 2 ? '-' : 'b');
}

static void check_changes(void)
{
	take();
	write_page(2);   // there before
	write_page(5);   // was not
	CHECK_EQ(madvise(memory + 8 * PAGE, PAGE, MADV_DONTNEED), 0);
	CHECK_EQ(madvise(memory + 10 * PAGE, PAGE, MADV_DONTNEED), 0);
	CHECK_EQ(*(volatile uint8_t *)(memory + 10 * PAGE), 0); // the page of zeros
	// Whole page tables.
	CHECK_EQ(madvise(memory + (size_t)PAGES / 2 * PAGE, (size_t)PAGES / 2 * PAGE, MADV_DONTNEED),
		 0);
	CHECK_EQ(look(), 0);
	CHECK_EQ(told[0], '-');
	CHECK_EQ(told[2], 'b');
	CHECK_EQ(told[4], '-');
	CHECK_EQ(told[5], 'b');
	CHECK_EQ(told[8], 'h');
	CHECK(told[10] != '-');
	for (unsigned int page = PAGES / 2; page < PAGES; page += 2)
		CHECK_EQ(told[page], 'h');
}

static void by_userfaultfd(void)
{
	if (!track_with(TRACK_UFFD))
		SKIP(err.what);
	check_changes();
	// The next pass brings what is there, and no more.
	memset(told, '-', PAGES);
	CHECK_EQ(track_take(&track, address(0), address(PAGES), tell, NULL), 0);
	CHECK_EQ(told[2], 'b');
	CHECK_EQ(told[4], '-');
	CHECK_EQ(look(), 0);
	CHECK_EQ(told[2], '-');
	track_close(&track);
}

// A kernel that does not count as written what is not there must be asked for everything.
static void by_userfaultfd_that_tells_no_holes(void)
{
	if (!track_with(TRACK_UFFD))
		SKIP(err.what);
	track.tells_holes = false;
	check_changes();
	track_close(&track);
}

static void by_soft_dirty_bits(void)
{
	if (!track_with(TRACK_SOFT_DIRTY))
		SKIP(err.what);
	check_changes();
	track_close(&track);
}

// The first error wins, so one of the way that was not taken would hide all that come after it.
static void a_way_that_was_found_leaves_no_error(void)
{
	bool asks;

	(void)track_with(TRACK_SOFT_DIRTY);
	track_close(&track);
	err = (struct coresnap_error){ 0 };
	if (track_possible(&target, true, &asks, &err) < 0)
		SKIP(err.what);
	CHECK_EQ(err.code, 0);
	track = TRACK_NOTHING;
	track.arena = &arena;
	track.target = &target;
	track.self = true;
	CHECK_EQ(track_open(&track, &err), 0);
	CHECK_EQ(err.code, 0);
	track_close(&track);
}

static void bits_that_are_relied_on_stay_uncleared(void)
{
	struct track other = TRACK_NOTHING;
	struct coresnap_error why = { 0 };

	if (!track_with(TRACK_SOFT_DIRTY))
		SKIP(err.what);
	take();
	write_page(2);
	other.target = &target;
	CHECK_EQ(track_dirty_open(&other, &why), -EBUSY);
	CHECK_HAS(why.what, "another dump");
	CHECK_HAS(why.remedy, "fork");
	CHECK_EQ(look(), 0);
	CHECK_EQ(told[2], 'b');
	track_close(&track);
	why = (struct coresnap_error){ 0 };
	CHECK_EQ(track_dirty_open(&other, &why), 0);
	track_close(&other);
}

static void bits_are_reserved_until_their_user_dies(void)
{
	struct coresnap_error why = { 0 };
	int ready[2];
	char byte;

	SKIP_EMULATED();
	CHECK_EQ(target_open(&target, getpid(), 0, &err), 0);
	CHECK_EQ(pipe(ready), 0);
	const pid_t child = fork();

	if (child == 0) {
		if (track_dirty_reserve(&target, &why) >= 0 && write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	CHECK_EQ(track_dirty_reserve(&target, &why), -EBUSY);
	CHECK_HAS(why.what, "another dump");
	CHECK_EQ(kill(child, SIGKILL), 0);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	CHECK(track_dirty_reserve(&target, &why) >= 0);
}

static void a_kernel_that_loses_moved_memory_is_refused(void)
{
	struct track_traits traits = { .tells_holes = true, .knows_guards = true };

	CHECK_EQ(track_probe_judge(&traits, &err), -EOPNOTSUPP);
	CHECK_HAS(err.what, "moved");
	CHECK_HAS(err.remedy, "fork");
	err = (struct coresnap_error){ 0 };
	traits = (struct track_traits){ .clears_moved = true };
	CHECK_EQ(track_probe_judge(&traits, &err), 0);
	CHECK_EQ(err.code, 0);
}

static uint64_t mapped_pages(void)
{
	char text[64] = "";
	unsigned long pages = 0;
	FILE *const file = fopen("/proc/self/statm", "re");

	CHECK(file && fgets(text, sizeof(text), file));
	fclose(file);
	CHECK_EQ(sscanf(text, "%lu", &pages), 1);
	return pages;
}

static void a_probe_leaves_nothing_mapped(void)
{
	struct track_traits traits;

	(void)mapped_pages(); // which may let the heap grow
	const uint64_t before = mapped_pages();

	if (track_probe(&traits) < 0)
		SKIP("the kernel cannot track writes by a userfaultfd");
	CHECK_EQ(mapped_pages(), before);
}

// As the probe sees it: what was moved while it was watched is copied again where it is now.
static void moved_memory_is_told_once_more(void)
{
	if (!track_with(TRACK_UFFD))
		SKIP(err.what);
	take();
	uint8_t *const to = mmap(NULL, (size_t)PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
				 -1, 0);

	CHECK(to != MAP_FAILED);
	CHECK(mremap(memory, (size_t)PAGES * PAGE, (size_t)PAGES * PAGE,
		     MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	memory = to;
	take();
	track_close(&track);
}

static void another_mapping_is_not_what_was_watched(void)
{
	if (!track_with(TRACK_UFFD))
		SKIP(err.what);
	take();
	CHECK(mmap(memory, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		   0) == memory);
	CHECK_EQ(look(), -EPERM);
	track_lose(&track, address(3), address(4));
	CHECK(!track_watches(&track, address(0), address(PAGES)));
	track_close(&track);
}

static void nothing_is_left_behind(void)
{
	if (!track_with(TRACK_UFFD))
		SKIP(err.what);
	take();
	track_close(&track);
	track.pagemap = sys_openat(target.proc_fd, "pagemap", O_RDONLY, 0);
	track.kind = TRACK_UFFD;
	CHECK_EQ(look(), -EPERM); // nobody tracks it any more
}

static const struct check_case cases[] = {
	CASE(by_userfaultfd),
	CASE(by_userfaultfd_that_tells_no_holes),
	CASE(by_soft_dirty_bits),
	CASE(a_way_that_was_found_leaves_no_error),
	CASE(bits_that_are_relied_on_stay_uncleared),
	CASE(bits_are_reserved_until_their_user_dies),
	CASE(a_kernel_that_loses_moved_memory_is_refused),
	CASE(a_probe_leaves_nothing_mapped),
	CASE(moved_memory_is_told_once_more),
	CASE(another_mapping_is_not_what_was_watched),
	CASE(nothing_is_left_behind),
};

CHECK_MAIN(cases)
