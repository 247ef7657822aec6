/* SPDX-License-Identifier: BSD-3-Clause */
#include "pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/ptrace.h>

#include "check.h"

#define PAGE 4096u

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

struct found {
	struct {
		uint64_t start, end;
	} ranges[4096];
	size_t n;
	uint64_t bytes;
	size_t stop_at; // fail with -ECANCELED at this range
};

static struct found by_ioctl, by_read;
static int fd;

static int add(void *arg, uint64_t start, uint64_t end)
{
	struct found *found = arg;

	CHECK(start < end && start % PAGE == 0 && end % PAGE == 0);
	CHECK(found->n < 4096);
	found->bytes += end - start;
	// Neighbours may come in one piece or two.
	if (found->n && found->ranges[found->n - 1].end == start) {
		found->ranges[found->n - 1].end = end;
		return 0;
	}
	CHECK(found->n == 0 || found->ranges[found->n - 1].end < start);
	found->ranges[found->n].start = start;
	found->ranges[found->n++].end = end;
	return found->stop_at && found->n == found->stop_at ? -ECANCELED : 0;
}

static char *map(size_t pages)
{
	char *map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(map != MAP_FAILED);
	madvise(map, pages * PAGE, MADV_NOHUGEPAGE);
	return map;
}

static void scan_ioctl(const char *map, size_t pages)
{
	const uint64_t start = (uintptr_t)map;
	const int ret = pagemap_scan_ioctl(fd, start, start + pages * PAGE, add, &by_ioctl);

	if (ret == -ENOTTY || ret == -EINVAL)
		SKIP("the kernel has no PAGEMAP_SCAN (before Linux 6.7)");
	CHECK_EQ(ret, 0);
}

static void scan_read(const char *map, size_t pages, uint64_t expected)
{
	const uint64_t start = (uintptr_t)map;

	CHECK_EQ(pagemap_scan_read(fd, start, start + pages * PAGE, PAGE, expected * PAGE, add,
				   &by_read), 0);
}

static void begin(void)
{
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
}

static void check_range(const struct found *found, size_t i, const char *map, size_t first,
			size_t pages)
{
	CHECK(i < found->n);
	CHECK_EQ(found->ranges[i].start, (uintptr_t)map + first * PAGE);
	CHECK_EQ(found->ranges[i].end, (uintptr_t)map + (first + pages) * PAGE);
}

static void write_pages(char *map, size_t first, size_t pages)
{
	for (size_t i = first; i < first + pages; i++)
		map[i * PAGE] = 1;
}

static void both_agree(void)
{
	begin();
	char *const m = map(64);

	write_pages(m, 0, 1);
	write_pages(m, 5, 3);
	write_pages(m, 63, 1);
	scan_read(m, 64, 5);
	CHECK_EQ(by_read.n, 3);
	check_range(&by_read, 0, m, 0, 1);
	check_range(&by_read, 1, m, 5, 3);
	check_range(&by_read, 2, m, 63, 1);
	scan_ioctl(m, 64);
	CHECK_EQ(by_ioctl.n, 3);
	CHECK(memcmp(by_ioctl.ranges, by_read.ranges, sizeof(by_read.ranges)) == 0);
}

static void nothing_there(void)
{
	begin();
	char *const m = map(64);

	scan_read(m, 64, 1);
	scan_read(m, 64, 0);
	scan_read(m, 0, 1);
	CHECK_EQ(by_read.n, 0);
	scan_ioctl(m, 64);
	scan_ioctl(m, 0);
	CHECK_EQ(by_ioctl.n, 0);
	// Nor where nothing is mapped at all.
	munmap(m, 64 * PAGE);
	scan_read(m, 64, 1);
	scan_ioctl(m, 64);
	CHECK_EQ(by_ioctl.n + by_read.n, 0);
}

// The zero page comes first, and is not among the expected bytes (Anonymous: in smaps).
static void zero_page(void)
{
	begin();
	char *const m = map(64);
	volatile char sum = 0;

	for (size_t i = 0; i < 10; i++)
		sum = (char)(sum + m[i * PAGE]);
	write_pages(m, 20, 10);
	write_pages(m, 40, 1);
	scan_read(m, 64, 11);
	CHECK_EQ(by_read.n, 3);
	check_range(&by_read, 0, m, 0, 10);
	check_range(&by_read, 1, m, 20, 10);
	check_range(&by_read, 2, m, 40, 1);
	scan_ioctl(m, 64);
	CHECK_EQ(by_ioctl.n, 2);
	check_range(&by_ioctl, 0, m, 20, 10);
	check_range(&by_ioctl, 1, m, 40, 1);
}

// Pages shared with a child are not exclusive: all are found nevertheless.
static void after_fork(void)
{
	begin();
	char *const m = map(8192);
	int pipes[2];
	char byte;

	write_pages(m, 100, 1);
	write_pages(m, 8000, 2);
	CHECK(pipe(pipes) == 0);
	const pid_t child = fork();

	if (child == 0) {
		close(pipes[1]);
		_exit(read(pipes[0], &byte, 1) == 0 ? 0 : 1);
	}
	write_pages(m, 200, 1); // exclusive, and alone of its kind
	scan_read(m, 8192, 4);
	close(pipes[1]);
	CHECK(waitpid(child, NULL, 0) == child);
	CHECK_EQ(by_read.n, 3);
	check_range(&by_read, 0, m, 100, 1);
	check_range(&by_read, 1, m, 200, 1);
	check_range(&by_read, 2, m, 8000, 2);
}

// More ranges than one call gives back, and runs across the pieces of the file.
static void many_ranges(void)
{
	begin();
	char *const m = map(8192);

	for (size_t i = 0; i < 4096; i += 2)
		write_pages(m, i, 1);
	write_pages(m, 4096, 4096);
	scan_ioctl(m, 8192);
	CHECK_EQ(by_ioctl.n, 2048 + 1);
	CHECK_EQ(by_ioctl.bytes, (2048 + 4096) * PAGE);
	check_range(&by_ioctl, 2047, m, 4094, 1);
	check_range(&by_ioctl, 2048, m, 4096, 4096);
	scan_read(m, 8192, 2048 + 4096);
	CHECK(by_read.n == by_ioctl.n && by_read.bytes == by_ioctl.bytes);
	CHECK(memcmp(by_ioctl.ranges, by_read.ranges, sizeof(by_read.ranges)) == 0);
}

static void guard_regions(void)
{
	begin();
	char *const m = map(64);

	write_pages(m, 0, 64);
	if (madvise(m + 8 * PAGE, 4 * PAGE, MADV_GUARD_INSTALL) != 0)
		SKIP("the kernel has no guard regions (before Linux 6.13)");
	scan_ioctl(m, 64);
	if (by_ioctl.n == 1)
		SKIP("the kernel does not tell guard regions (before Linux 6.15)");
	CHECK_EQ(by_ioctl.n, 2);
	check_range(&by_ioctl, 0, m, 0, 8);
	check_range(&by_ioctl, 1, m, 12, 52);
	scan_read(m, 64, 60);
	CHECK_EQ(by_read.n, 2);
	check_range(&by_read, 1, m, 12, 52);
}

static void huge_pages(void)
{
	const size_t huge = 2u << 20;

	begin();
	char *const m = map(3 * huge / PAGE);
	char *const aligned = m + (-(uintptr_t)m & (huge - 1));

	madvise(aligned, huge, MADV_HUGEPAGE);
	write_pages(aligned, 7, 1);
	scan_read(m, 3 * huge / PAGE, 1);
	scan_ioctl(m, 3 * huge / PAGE);
	CHECK_EQ(by_ioctl.n, 1);
	CHECK(by_ioctl.bytes == PAGE || by_ioctl.bytes == huge);
	// The first pages of it are enough when so much is expected; the reader stops in a piece.
	CHECK_EQ(by_read.n, 1);
	CHECK(by_read.ranges[0].start == by_ioctl.ranges[0].start);
	CHECK(by_read.ranges[0].end <= by_ioctl.ranges[0].end);
}

static void callback_ends_the_scan(void)
{
	begin();
	char *const m = map(64);
	const uint64_t start = (uintptr_t)m;

	for (size_t i = 0; i < 64; i += 2)
		write_pages(m, i, 1);
	by_read.stop_at = by_ioctl.stop_at = 3;
	CHECK_EQ(pagemap_scan_read(fd, start, start + 64 * PAGE, PAGE, 32 * PAGE, add, &by_read),
		 -ECANCELED);
	CHECK_EQ(by_read.n, 3);
	CHECK_EQ(pagemap_scan_ioctl(fd, start, start + 64 * PAGE, add, &by_ioctl), -ECANCELED);
	CHECK_EQ(by_ioctl.n, 3);
	// The last range as well, which is reported after the loop.
	by_read = (struct found){ .stop_at = 1 };
	CHECK_EQ(pagemap_scan_read(fd, start + 62 * PAGE, start + 63 * PAGE, PAGE, PAGE, add,
				   &by_read), -ECANCELED);
}

static void errors(void)
{
	const int null = open("/dev/null", O_RDONLY);

	CHECK_EQ(pagemap_scan_ioctl(-1, 0, PAGE, add, &by_ioctl), -EBADF);
	CHECK_EQ(pagemap_scan_read(-1, 0, PAGE, PAGE, PAGE, add, &by_read), -EBADF);
	CHECK_EQ(pagemap_scan_ioctl(null, 0, PAGE, add, &by_ioctl), -ENOTTY);
	CHECK_EQ(pagemap_scan_read(null, 0, PAGE, PAGE, PAGE, add, &by_read), -EIO);
}

// System calls that a child of this process makes from its getppid() on.
static int count_calls(pid_t child)
{
	int status, stops = 0;

	CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
	CHECK(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD) == 0);
	for (;;) {
		CHECK(ptrace(PTRACE_SYSCALL, child, 0, 0) == 0);
		CHECK(waitpid(child, &status, 0) == child);
		if (!WIFSTOPPED(status))
			break;
		stops += WSTOPSIG(status) == (SIGTRAP | 0x80);
	}
	CHECK(WIFEXITED(status));
	if (WEXITSTATUS(status) == CHECK_SKIP)
		SKIP("as the traced process said");
	CHECK_EQ(WEXITSTATUS(status), 0);
	return stops / 2; // entry and exit; the last call does not return
}

static void huge_empty_mapping(void)
{
	if (sizeof(void *) == 4)
		SKIP("16 TiB need a 64-bit address space");
	begin();
	const size_t pages = (size_t)1 << (4 * sizeof(size_t));
	char *const m = map(pages);
	const pid_t child = fork();

	if (child == 0) {
		write_pages(m, 3, 2);
		write_pages(m, pages / 2, 1);
		write_pages(m, pages - 1, 1);
		fd = open("/proc/self/pagemap", O_RDONLY);
		CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
		raise(SIGSTOP);
		scan_ioctl(m, pages);
		CHECK_EQ(by_ioctl.n, 3);
		check_range(&by_ioctl, 1, m, pages / 2, 1);
		check_range(&by_ioctl, 2, m, pages - 1, 1);
		_exit(0);
	}
	CHECK(child > 0);
	const int calls = count_calls(child);

	fprintf(stderr, "%d system calls for 16 TiB\n", calls);
	CHECK(calls <= 8);
}

// The other way cannot skip holes, but ends where nothing more is expected.
static void huge_empty_tail(void)
{
	if (sizeof(void *) == 4)
		SKIP("16 TiB need a 64-bit address space");
	begin();
	const size_t pages = (size_t)1 << (4 * sizeof(size_t));
	char *const m = map(pages);

	write_pages(m, 3000, 2);
	scan_read(m, pages, 2);
	CHECK_EQ(by_read.n, 1);
	check_range(&by_read, 0, m, 3000, 2);
	scan_read(m, pages, 0);
}

static const struct check_case cases[] = {
	CASE(both_agree),
	CASE(nothing_there),
	CASE(zero_page),
	CASE(after_fork),
	CASE(many_ranges),
	CASE(guard_regions),
	CASE(huge_pages),
	CASE(callback_ends_the_scan),
	CASE(errors),
	CASE(huge_empty_mapping),
	CASE(huge_empty_tail),
};

CHECK_MAIN(cases)
