/* SPDX-License-Identifier: BSD-3-Clause */
#include "blank.h"

#include <string.h>

#include "cleanup.h"
#include "pagemap.h"
#include "sys.h"

// Where there is no page, a look at the memory would make one, of zeros. 1, 0 or a negative errno.
static int has_page(int pagemap, uint64_t address, uint64_t page)
{
	uint64_t entry;
	const ssize_t n = pagemap_read(pagemap, address, page, &entry, 1);

	if (n < 0)
		return (int)n;
	return (entry & (PAGEMAP_ENTRY_PRESENT | PAGEMAP_ENTRY_SWAPPED)) != 0;
}

bool blank_has_page(const struct target *target, uint64_t address)
{
	const int pagemap guard(guard_close) = sys_openat(target->proc_fd, "pagemap", O_RDONLY, 0);

	return has_page(pagemap, address, (uint64_t)sysconf(_SC_PAGESIZE)) == 1;
}

static bool is_zero(const struct target *target, uint64_t start, uint64_t end)
{
	static const uint8_t zeros[1024];
	uint8_t bytes[sizeof(zeros)];

	for (uint64_t at = start; at < end; at += sizeof(bytes))
		if (target_read(target, at, bytes, sizeof(bytes)) != sizeof(bytes) ||
		    memcmp(bytes, zeros, sizeof(bytes)) != 0)
			return false;
	return true;
}

bool blank_range(const struct target *target, uint64_t start, uint64_t end)
{
	const int pagemap guard(guard_close) = sys_openat(target->proc_fd, "pagemap", O_RDONLY, 0);
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	for (uint64_t at = start; at < end; at += page) {
		const int there = has_page(pagemap, at, page);

		if (there < 0 || (there && !is_zero(target, at, at + page)))
			return false;
	}
	return true;
}
