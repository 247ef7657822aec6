/* SPDX-License-Identifier: BSD-3-Clause */
// Which pages of a process exist, by its page tables, without touching one: reading a page that was
// never populated would make it.
#ifndef CORESNAP_PAGEMAP_H
#define CORESNAP_PAGEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

// Bits of an entry of the file (fs/proc/task_mmu.c, PM_*).
#define PAGEMAP_ENTRY_PRESENT    (1ull << 63)
#define PAGEMAP_ENTRY_SWAPPED    (1ull << 62)
#define PAGEMAP_ENTRY_FILE       (1ull << 61)
#define PAGEMAP_ENTRY_GUARD      (1ull << 58)
#define PAGEMAP_ENTRY_EXCLUSIVE  (1ull << 56)
#define PAGEMAP_ENTRY_SOFT_DIRTY (1ull << 55)

// Reads the entries of at most n pages, from an address on. How many, at least one; a negative errno.
ssize_t must_check pagemap_read(int fd, uint64_t address, uint64_t page_size, uint64_t *entries,
				size_t n);

// Categories of pages (include/uapi/linux/fs.h, PAGE_IS_*). Of WRITTEN: not write-protected by a
// userfaultfd, so written since it was armed, or not there at all.
enum pagemap_category {
	PAGEMAP_WRITTEN = 1 << 1,
	PAGEMAP_FILE = 1 << 2,
	PAGEMAP_PRESENT = 1 << 3,
	PAGEMAP_SWAPPED = 1 << 4,
	PAGEMAP_PFNZERO = 1 << 5, // the shared page of zeros
	PAGEMAP_SOFT_DIRTY = 1 << 7,
	PAGEMAP_GUARD = 1 << 8, // MADV_GUARD_INSTALL (v6.15): looks swapped, and nobody can read it
};

// What PAGEMAP_SCAN is asked: the pages of [start, end) that have all of mask (where inverted: do
// not have it) and any of anyof.
struct pagemap_query {
	uint64_t start, end;
	uint64_t mask, inverted, anyof;
	uint64_t tell;   // categories to be told of
	bool only_armed; // -EPERM where no userfaultfd tracks writes asynchronously
	bool protect;    // write-protect the pages that are told and WRITTEN
};

typedef int (*pagemap_category_fn)(void *arg, uint64_t start, uint64_t end, uint64_t categories);

// Calls told() for each range, ascending; a negative return ends the scan with that value. -ENOTTY
// where the kernel has no such scan, -EINVAL where it does not know a category.
int must_check pagemap_ask(int fd, const struct pagemap_query *query, pagemap_category_fn told,
			   void *arg);

// Called for each range of pages that are present or swapped, in ascending order; a negative return
// ends the scan with that value.
typedef int (*pagemap_range_fn)(void *arg, uint64_t start, uint64_t end);

// By the PAGEMAP_SCAN ioctl of /proc/PID/pagemap (Linux kernel commit 52526ca7fdb9 ("fs/proc/
// task_mmu: implement IOCTL to get and optionally clear info about PTEs") (in v6.7)); never reports
// the shared zero page. -ENOTTY or -EINVAL where the kernel has none.
int must_check pagemap_scan_ioctl(int fd, uint64_t start, uint64_t end, pagemap_range_fn range,
				  void *arg);

// By reading the file, 8 bytes a page; reports the zero page as well. Stops when `expected` bytes
// were found in pages that no other process maps, so that a huge empty tail costs nothing; where
// pages are shared after a fork the whole range is read.
int must_check pagemap_scan_read(int fd, uint64_t start, uint64_t end, uint64_t page_size,
				 uint64_t expected, pagemap_range_fn range, void *arg);

// Is there a page that was written by the process, or swapped out, so no page of a file and not that
// of zeros? 1: there is. Where the kernel has no PAGEMAP_SCAN this goes by the soft-dirty bits: written
// since they were cleared.
int must_check pagemap_find_written(int fd, uint64_t start, uint64_t end, uint64_t page_size);

#endif
