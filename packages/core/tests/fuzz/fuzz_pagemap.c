/* SPDX-License-Identifier: BSD-3-Clause */
// /proc/PID/pagemap: the ranges ascend, do not touch one another, and hold the pages that are there
// and no others, by another reading of the entries.
#include "fuzz.h"
#include "pagemap.h"

#define PAGE  4096u
#define PAGES 4096u

struct seen {
	uint64_t start, end; // what was asked for
	uint64_t last;       // where the range before ended
	uint64_t left;       // ranges to take before giving up
	uint8_t pages[PAGES];
};

static int add(void *arg, uint64_t start, uint64_t end)
{
	struct seen *const seen = arg;

	MUST(start < end && start >= seen->start && end <= seen->end);
	MUST(start % PAGE == 0 && end % PAGE == 0);
	MUST(seen->last == 0 || start > seen->last);
	seen->last = end;
	memset(seen->pages + start / PAGE, 1, (size_t)(end - start) / PAGE);
	return seen->left-- ? 0 : -ECANCELED;
}

static bool is_there(uint64_t entry)
{
	return (entry >> 62) && !(entry >> 58 & 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct seen seen;
	struct input in = { data, size };
	const uint64_t first = take_below(&in, 16);
	const uint64_t expected = take(&in, 2), ranges = take(&in, 1);
	const size_t n = in.left / 8 < PAGES ? in.left / 8 : PAGES;
	const uint64_t begin = first < n ? first : n;
	bool stopped = false;

	seen = (struct seen){ .start = begin * PAGE, .end = n * PAGE, .left = ranges };
	const int ret = pagemap_scan_read(file_of(in.at, n * 8), seen.start, seen.end, PAGE,
					  (expected ? expected : PAGES) * PAGE, add, &seen);

	MUST(ret == 0 || ret == -ECANCELED);
	for (size_t i = (size_t)begin; i < n; i++) {
		uint64_t entry;

		memcpy(&entry, in.at + i * 8, 8);
		// It may stop early, but leaves out nothing in between.
		stopped |= is_there(entry) && !seen.pages[i];
		MUST(!seen.pages[i] || (is_there(entry) && !stopped));
	}
	MUST(!stopped || ret == -ECANCELED || expected);
	return 0;
}
