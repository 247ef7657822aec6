/* SPDX-License-Identifier: BSD-3-Clause */
#include "spent.h"

#include "sys.h"

// A multiple of every page, and of what memory comes in where it comes in huge ones.
#define BLOCK (2u << 20)

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
		*spent = (struct spent){ .start = start, .spooled = spooled };
	spent->end = end;
	// Other bytes may lie in what is not a whole block.
	const uint64_t first = (spent->start + BLOCK - 1) / BLOCK * BLOCK;
	const uint64_t last = spent->end / BLOCK * BLOCK;

	if (first >= last)
		return;
	give_back(mem, spooled, first, last);
	spent->start = last;
}
