/* SPDX-License-Identifier: BSD-3-Clause */
// argv[1] GiB of address space of which three pages were ever touched.
#include "scenario.h"

static volatile uint64_t *pages[3];

static const char *verify(void)
{
	for (size_t i = 0; i < 3; i++) {
		if (*pages[i] != 0x5ba45e + i)
			return "a page changed";
	}
	return NULL;
}

int main(int argc, char **argv)
{
	scenario_begin();
	const uint64_t size = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1) << 30;
	char *at = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		scenario_impossible("this address space cannot be mapped");
	const uint64_t where[3] = {0, (size / 2) & ~(PAGE - 1), size - PAGE};
	for (size_t i = 0; i < 3; i++) {
		pages[i] = (volatile uint64_t *)(void *)(at + where[i]);
		const uint64_t value = *pages[i] = 0x5ba45e + i;
		truth_memory("sparse", pages[i], &value, sizeof(value));
	}
	const uint64_t zeros[2] = {0, 0};
	truth_memory("a hole", at + size / 4, zeros, sizeof(zeros));
	scenario_hold(verify, NULL);
}
