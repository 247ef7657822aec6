/* SPDX-License-Identifier: BSD-3-Clause */
// argv[1] mappings of one page each: more than an ELF header can count (PN_XNUM).
#include "scenario.h"

#define EVERY 1000 // one page in so many has a pattern; even, so it is writable

static char *base;
static size_t n_pages;

static const char *verify(void)
{
	for (size_t i = 0; i < n_pages; i += EVERY) {
		if (*(volatile uint64_t *)(void *)(base + i * PAGE) != i + 1)
			return "a page changed";
	}
	return NULL;
}

int main(int argc, char **argv)
{
	scenario_begin();
	n_pages = argc > 1 ? strtoul(argv[1], NULL, 10) : 70000;
	base = mmap(NULL, n_pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (base == MAP_FAILED)
		scenario_die("mmap");
	// Neighbours with other rights are mappings of their own.
	for (size_t i = 1; i < n_pages; i += 2) {
		if (mprotect(base + i * PAGE, PAGE, PROT_READ) != 0)
			scenario_die("mprotect, for want of vm.max_map_count?");
	}
	// Written only now: what is split from a written mapping counts as written too.
	for (size_t i = 0; i < n_pages; i += EVERY) {
		const uint64_t value = i + 1;
		*(uint64_t *)(void *)(base + i * PAGE) = value;
		truth_memory("one of many", base + i * PAGE, &value, sizeof(value));
	}
	scenario_hold(verify, NULL);
}
