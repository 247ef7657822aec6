/* SPDX-License-Identifier: BSD-3-Clause */
#include "pagemap.h"

#include <sys/ioctl.h>

#include "sys.h"

// include/uapi/linux/fs.h
struct pm_scan_arg_ {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

struct page_region_ {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

#define PAGEMAP_SCAN_ _IOWR('f', 16, struct pm_scan_arg_)

#define SCAN_WP_MATCHING   (1u << 0)
#define SCAN_CHECK_WPASYNC (1u << 1)

// Bits of an entry of the file (fs/proc/task_mmu.c, PM_*).
#define ENTRY_PRESENT   (1ull << 63)
#define ENTRY_SWAPPED   (1ull << 62)
#define ENTRY_GUARD     (1ull << 58)
#define ENTRY_EXCLUSIVE (1ull << 56)

int pagemap_ask(int fd, const struct pagemap_query *query, pagemap_category_fn told, void *arg)
{
	struct page_region_ regions[512];
	struct pm_scan_arg_ scan = {
		.size = sizeof(scan),
		.flags = (query->protect ? SCAN_WP_MATCHING : 0) |
			 (query->only_armed ? SCAN_CHECK_WPASYNC : 0),
		.start = query->start,
		.end = query->end,
		.vec = (uint64_t)(uintptr_t)regions,
		.vec_len = sizeof(regions) / sizeof(regions[0]),
		.category_mask = query->mask,
		.category_inverted = query->inverted,
		.category_anyof_mask = query->anyof,
		.return_mask = query->tell,
	};

	while (scan.start < scan.end) {
		const long n = sys_retry(SYS_ioctl, fd, PAGEMAP_SCAN_, &scan);

		if (n < 0)
			return (int)n;
		for (long i = 0; i < n; i++) {
			const int ret = told(arg, regions[i].start, regions[i].end,
					     regions[i].categories);

			if (ret < 0)
				return ret;
		}
		if (scan.walk_end <= scan.start)
			return -EIO;
		scan.start = scan.walk_end;
	}
	return 0;
}

struct listener {
	pagemap_range_fn range;
	void *arg;
};

static int pass_on(void *arg, uint64_t start, uint64_t end, uint64_t categories)
{
	const struct listener *const listener = arg;

	(void)categories;
	return listener->range(listener->arg, start, end);
}

int pagemap_scan_ioctl(int fd, uint64_t start, uint64_t end, pagemap_range_fn range, void *arg)
{
	struct listener listener = { range, arg };
	struct pagemap_query query = {
		.start = start,
		.end = end,
		.mask = PAGEMAP_PFNZERO | PAGEMAP_GUARD,
		.inverted = PAGEMAP_PFNZERO | PAGEMAP_GUARD,
		.anyof = PAGEMAP_PRESENT | PAGEMAP_SWAPPED,
		.tell = PAGEMAP_PRESENT | PAGEMAP_SWAPPED,
	};
	const int ret = pagemap_ask(fd, &query, pass_on, &listener);

	if (ret != -EINVAL)
		return ret;
	// Before the kernel knew guards (v6.15): nothing was reported yet.
	query.mask = query.inverted = PAGEMAP_PFNZERO;
	return pagemap_ask(fd, &query, pass_on, &listener);
}

int pagemap_scan_read(int fd, uint64_t start, uint64_t end, uint64_t page_size, uint64_t expected,
		      pagemap_range_fn range, void *arg)
{
	uint64_t entries[2048];
	uint64_t at = start, found = 0, run = 0;

	while (at < end && found < expected) {
		const uint64_t pages = (end - at) / page_size;
		const size_t want = pages < 2048 ? (size_t)pages : 2048;
		const ssize_t n = sys_pread(fd, entries, want * sizeof(entries[0]),
					    at / page_size * sizeof(entries[0]));

		if (n < (ssize_t)sizeof(entries[0]))
			return n < 0 ? (int)n : -EIO;
		for (size_t i = 0; i < (size_t)n / sizeof(entries[0]); i++, at += page_size) {
			if ((entries[i] & (ENTRY_PRESENT | ENTRY_SWAPPED)) &&
			    !(entries[i] & ENTRY_GUARD)) {
				run += page_size;
				// The zero page is present, too, but never mapped once, and not
				// among the expected ones.
				if (entries[i] & (ENTRY_SWAPPED | ENTRY_EXCLUSIVE))
					found += page_size;
			} else if (run) {
				const int ret = range(arg, at - run, at);

				if (ret < 0)
					return ret;
				run = 0;
			}
		}
	}
	return run ? range(arg, at - run, at) : 0;
}
