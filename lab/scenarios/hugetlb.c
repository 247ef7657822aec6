/* SPDX-License-Identifier: BSD-3-Clause */
// Pages of hugetlbfs: private ones are in a core by default, shared ones are not (core(5)).
#include "scenario.h"

#define HUGE (2UL << 20)

static volatile uint64_t *private_page, *shared_page;

static const char *verify(void)
{
	if (private_page[8] != 0x1111 || shared_page[8] != 0x2222)
		return "a huge page changed";
	return NULL;
}

static void *map(int flags)
{
	void *at = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_HUGETLB, -1,
			0);
	if (at == MAP_FAILED && errno == ENOMEM)
		scenario_impossible("no huge pages are free: see vm.nr_hugepages");
	// mm/mmap.c: ksys_mmap_pgoff finds no size of huge pages
	if (at == MAP_FAILED && errno == EINVAL)
		scenario_impossible("this kernel has no huge pages");
	if (at == MAP_FAILED)
		scenario_die("MAP_HUGETLB");
	return at;
}

int main(void)
{
	scenario_begin();
	private_page = map(MAP_PRIVATE);
	shared_page = map(MAP_SHARED);
	private_page[8] = 0x1111;
	shared_page[8] = 0x2222;
	const uint64_t value = 0x1111;
	truth_memory("private hugetlb", &private_page[8], &value, sizeof(value));
	truth_absent("shared hugetlb", shared_page, HUGE);
	scenario_hold(verify, NULL);
}
