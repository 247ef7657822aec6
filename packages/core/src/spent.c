/* SPDX-License-Identifier: BSD-3-Clause */
#include "spent.h"

#include "sys.h"

// A multiple of every page, and of what memory comes in where it comes in huge ones.
#define BLOCK ((uint64_t)2 << 20)

static void give_back(const struct mem *mem, bool spooled, uint64_t start, uint64_t end)
{
	// Of memory that a copy of the process has, too, only MADV_REMOVE lets go (madvise(2)).
	if (spooled)
		(void)sys_punch_hole(mem->spool_fd, start, end - start);
	else
		(void)sys_call(SYS_madvise, (uintptr_t)start, (size_t)(end - start),
			       mem->arena->private_blocks ? MADV_DONTNEED : MADV_REMOVE);
}

void spent_add(struct spent *spent, const struct mem *mem, const struct extent *extent, uint64_t start,
	       uint64_t end)
{
	const bool spooled = !extent->bytes;
	const uint64_t where = spooled ? extent->offset : (uintptr_t)extent->bytes;

	if (spooled && !extent->spooled)
		return;
	start = where + (start - extent->start);
	end = where + (end - extent->start);
	if (spent->end != start || spent->spooled != spooled)
		*spent = (struct spent){ .block = spent->block,
					 .start = start,
					 .spooled = spooled };
	spent->end = end;
	const uint64_t block = spent->block ? spent->block : BLOCK;
	const uint64_t first = (spent->start + block - 1) / block * block;
	const uint64_t last = spent->end / block * block;

	if (first >= last)
		return;
	give_back(mem, spooled, first, last);
	spent->start = last;
}
