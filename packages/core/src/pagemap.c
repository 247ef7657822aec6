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

#define PAGEMAP_SCAN_    _IOWR('f', 16, struct pm_scan_arg_)
#define PAGE_IS_PRESENT_ (1u << 3)
#define PAGE_IS_SWAPPED_ (1u << 4)
#define PAGE_IS_PFNZERO_ (1u << 5)
#define PAGE_IS_GUARD_   (1u << 8) // MADV_GUARD_INSTALL: looks swapped, and nobody can read it

#define PAGEMAP_PRESENT   (1ull << 63)
#define PAGEMAP_SWAPPED   (1ull << 62)
#define PAGEMAP_GUARD     (1ull << 58)
#define PAGEMAP_EXCLUSIVE (1ull << 56)

// Pages that are present or swapped and have none of the categories in `without`.
static int scan(int fd, uint64_t start, uint64_t end, uint64_t without, pagemap_range_fn range,
		void *arg)
{
	struct page_region_ regions[256];
	struct pm_scan_arg_ query = {
		.size = sizeof(query),
		.start = start,
		.end = end,
		.vec = (uint64_t)(uintptr_t)regions,
		.vec_len = sizeof(regions) / sizeof(regions[0]),
		.category_mask = without,
		.category_inverted = without,
		.category_anyof_mask = PAGE_IS_PRESENT_ | PAGE_IS_SWAPPED_,
		.return_mask = PAGE_IS_PRESENT_ | PAGE_IS_SWAPPED_,
	};

	while (query.start < end) {
		const long n = sys_retry(SYS_ioctl, fd, PAGEMAP_SCAN_, &query);

		if (n < 0)
			return (int)n;
		for (long i = 0; i < n; i++) {
			const int ret = range(arg, regions[i].start, regions[i].end);

			if (ret < 0)
				return ret;
		}
		if (query.walk_end <= query.start)
			return -EIO;
		query.start = query.walk_end;
	}
	return 0;
}

int pagemap_scan_ioctl(int fd, uint64_t start, uint64_t end, pagemap_range_fn range, void *arg)
{
	const int ret = scan(fd, start, end, PAGE_IS_PFNZERO_ | PAGE_IS_GUARD_, range, arg);

	// EINVAL before the kernel knew that category (Linux v6.15): nothing was reported yet.
	return ret == -EINVAL ? scan(fd, start, end, PAGE_IS_PFNZERO_, range, arg) : ret;
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
			if ((entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) &&
			    !(entries[i] & PAGEMAP_GUARD)) {
				run += page_size;
				// The zero page is present, too, but never mapped once, and not
				// among the expected ones.
				if (entries[i] & (PAGEMAP_SWAPPED | PAGEMAP_EXCLUSIVE))
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
