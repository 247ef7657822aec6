/* SPDX-License-Identifier: BSD-3-Clause */
// A program whose memory grows all the time where mappings of it end: upwards (the heap), downwards
// (what is mapped below), and into reserved addresses (as the arenas of malloc do). Undisturbed, each
// of the three is one mapping. See test_precopy_growth.py.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE    4096u
#define FIRST   512u   // pages that are there from the beginning
#define MOST    16384u // and in the end
#define BALLAST ((size_t)66 << 20)

enum { HEAP, BELOW, ARENA, KINDS };

// Where each begins, and how many pages it has. The page is written before that is said.
static struct {
	uint8_t *at;
	volatile unsigned long pages;
} kinds[KINDS];

static uint8_t *reserve(int prot, size_t pages)
{
	uint8_t *const at = mmap(NULL, pages * PAGE, prot,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

// The place of the next page, made writable, or NULL.
static uint8_t *next_page(int kind)
{
	const size_t done = (size_t)kinds[kind].pages * PAGE;
	uint8_t *at = kinds[kind].at + done;

	switch (kind) {
	case HEAP:
		return sbrk(PAGE) == at ? at : NULL;
	case BELOW:
		at = kinds[kind].at - done - PAGE;
		return mmap(at, PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
			    0) == at ?
			       at :
			       NULL;
	default:
		return mprotect(at, PAGE, PROT_READ | PROT_WRITE) == 0 ? at : NULL;
	}
}

static int grow(int kind)
{
	uint8_t *const at = next_page(kind);

	if (!at)
		return -1;
	*(volatile unsigned long *)at = 1 + kinds[kind].pages;
	kinds[kind].pages++;
	return 0;
}

static void *grow_all(void *arg)
{
	(void)arg;
	while (kinds[HEAP].pages < MOST) {
		for (int kind = 0; kind < KINDS; kind++)
			if (grow(kind) < 0)
				return NULL;
		usleep(500);
	}
	return NULL;
}

static int begin(void)
{
	uint8_t *const below = reserve(PROT_NONE, MOST + 64);

	kinds[ARENA].at = reserve(PROT_NONE, MOST + 64);
	if (!below || !kinds[ARENA].at)
		return -1;
	// Nothing else is mapped at either side of it.
	kinds[BELOW].at = below + (size_t)(MOST + 32) * PAGE;
	// The first page of the program's own.
	kinds[HEAP].at = sbrk(0);
	kinds[HEAP].at += -(uintptr_t)kinds[HEAP].at % PAGE;
	if (brk(kinds[HEAP].at) != 0)
		return -1;
	for (int i = 0; i < KINDS * (int)FIRST; i++)
		if (grow(i % KINDS) < 0)
			return -1;
	return 0;
}

int main(void)
{
	// What the C library allocates from now on does not move the heap on.
	void *volatile const allocated = malloc(1);
	pthread_t thread;
	char line[64];

	free(allocated);
	memset(reserve(PROT_READ | PROT_WRITE, BALLAST / PAGE), 1, BALLAST);
	setvbuf(stdin, NULL, _IONBF, 0);
	setvbuf(stdout, NULL, _IONBF, 0);
	if (begin() < 0 || pthread_create(&thread, NULL, grow_all, NULL) != 0)
		return 1;
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		for (int kind = 0; kind < KINDS; kind++)
			printf("%llu %lu ", (unsigned long long)(uintptr_t)kinds[kind].at,
			       kinds[kind].pages);
		printf("%llu\n", (unsigned long long)(uintptr_t)kinds);
	}
	return 0;
}
