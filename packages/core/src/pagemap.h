/* SPDX-License-Identifier: BSD-3-Clause */
// Which pages of a process exist, by its page tables, without touching one: reading a page that was
// never populated would make it.
#ifndef CORESNAP_PAGEMAP_H
#define CORESNAP_PAGEMAP_H

#include <stdint.h>

#include "error.h"

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

#endif
