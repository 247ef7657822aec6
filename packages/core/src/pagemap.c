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

enum { ENTRIES = 2048 };

ssize_t pagemap_read(int fd, uint64_t address, uint64_t page_size, uint64_t *entries, size_t n)
{
	const ssize_t size = sys_pread(fd, entries, n * sizeof(*entries),
				       address / page_size * sizeof(*entries));

	if (size < (ssize_t)sizeof(*entries))
		return size < 0 ? size : -EIO;
	return size / (ssize_t)sizeof(*entries);
}

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
			const int ret =
				told(arg, regions[i].start, regions[i].end, regions[i].categories);

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

// The pages that are there and have none of these categories, but for the page of zeros and guards.
static int scan_without(int fd, uint64_t start, uint64_t end, uint64_t without,
			pagemap_range_fn range, void *arg)
{
	struct listener listener = { range, arg };
	struct pagemap_query query = {
		.start = start,
		.end = end,
		.mask = without | PAGEMAP_PFNZERO | PAGEMAP_GUARD,
		.anyof = PAGEMAP_PRESENT | PAGEMAP_SWAPPED,
		.tell = PAGEMAP_PRESENT | PAGEMAP_SWAPPED,
	};

	query.inverted = query.mask;
	const int ret = pagemap_ask(fd, &query, pass_on, &listener);

	if (ret != -EINVAL)
		return ret;
	// Before the kernel knew guards (v6.15): nothing was reported yet.
	query.mask = query.inverted = without | PAGEMAP_PFNZERO;
	return pagemap_ask(fd, &query, pass_on, &listener);
}

int pagemap_scan_ioctl(int fd, uint64_t start, uint64_t end, pagemap_range_fn range, void *arg)
{
	return scan_without(fd, start, end, 0, range, arg);
}

int pagemap_scan_read(int fd, uint64_t start, uint64_t end, uint64_t page_size, uint64_t expected,
		      pagemap_range_fn range, void *arg)
{
	uint64_t entries[ENTRIES];
	uint64_t at = start, found = 0, run = 0;

	while (at < end && found < expected) {
		const uint64_t pages = (end - at) / page_size;
		const ssize_t n = pagemap_read(fd, at, page_size, entries,
					       pages < ENTRIES ? (size_t)pages : ENTRIES);

		if (n < 0)
			return (int)n;
		for (ssize_t i = 0; i < n; i++, at += page_size) {
			if ((entries[i] & (PAGEMAP_ENTRY_PRESENT | PAGEMAP_ENTRY_SWAPPED)) &&
			    !(entries[i] & PAGEMAP_ENTRY_GUARD)) {
				run += page_size;
				// The zero page is present, too, but never mapped once, and not
				// among the expected ones.
				if (entries[i] & (PAGEMAP_ENTRY_SWAPPED | PAGEMAP_ENTRY_EXCLUSIVE))
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

static int stop_at_once(void *arg, uint64_t start, uint64_t end)
{
	(void)arg, (void)start, (void)end;
	return -EEXIST;
}

int pagemap_find_written(int fd, uint64_t start, uint64_t end, uint64_t page_size)
{
	const int ret = scan_without(fd, start, end, PAGEMAP_FILE, stop_at_once, NULL);
	uint64_t entries[ENTRIES], at = start;

	if (ret != -ENOTTY && ret != -EINVAL)
		return ret == -EEXIST ? 1 : ret;
	while (at < end) {
		const uint64_t pages = (end - at) / page_size;
		const ssize_t n = pagemap_read(fd, at, page_size, entries,
					       pages < ENTRIES ? (size_t)pages : ENTRIES);

		if (n < 0)
			return (int)n;
		for (ssize_t i = 0; i < n; i++)
			if ((entries[i] & (PAGEMAP_ENTRY_PRESENT | PAGEMAP_ENTRY_SWAPPED)) &&
			    (entries[i] & PAGEMAP_ENTRY_SOFT_DIRTY) &&
			    !(entries[i] & (PAGEMAP_ENTRY_FILE | PAGEMAP_ENTRY_GUARD)))
				return 1;
		at += (uint64_t)n * page_size;
	}
	return 0;
}
