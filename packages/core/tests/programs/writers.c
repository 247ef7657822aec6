/* SPDX-License-Identifier: BSD-3-Clause */
// A program that writes all the time, by laws that tell of a core whether its bytes are all of one
// instant. See test_precopy.py.
//
//   journal   step s writes s to the ledger, then to page hash(s) of one area, then of another
//   tide      fills an area with the number of the round, says so; discards it, says so
//   nomad     moves an area from place to place, unmaps it now and then, says where it is
//   parent    forks children that write to all of it, too, and end
//   stretch   lets a large area shrink and grow by mremap, which fails on two mappings
//   sprouts   maps areas anew, of which no page is there, writes to one page of each, says what
//
// and others that keep a journal, each of its own areas, in writers_areas.c:
//
//   giants    in transparent huge pages
//   mirror    in private and in shared memory
//   loan      in a private mapping of a file, to which pages are given back
//   wanderer  in an area that moves, of a size that is watched anew
//   border    in an area parts of which are made inaccessible and accessible again
#include "writers.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES   2048u
#define BALLAST ((size_t)66 << 20)
#define STRETCH ((size_t)96 << 20)

struct ledger *ledger;
static uint8_t *first, *second, *tide_area, *sprouts_area;

uint8_t *map(size_t size)
{
	uint8_t *const at =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		abort();
	return at;
}

unsigned long page_of(unsigned long step)
{
	return ((uint32_t)step * 2654435761u) >> 21;
}

void put(uint8_t *area, unsigned long page, unsigned long value)
{
	*(volatile unsigned long *)(area + page * PAGE) = value;
}

static void *journal(void *arg)
{
	(void)arg;
	for (;;) {
		const unsigned long step = ledger->step + 1;

		ledger->step = step;
		put(first, page_of(step), step);
		put(second, page_of(step), step);
		// So that passes over it come to an end.
		if (step % 64 == 0)
			usleep(500);
	}
	return NULL;
}

static void *tide(void *arg)
{
	(void)arg;
	for (unsigned long round = 1;; round++) {
		ledger->tide = 4 * round;
		for (unsigned long page = 0; page < PAGES; page++)
			put(tide_area, page, round);
		ledger->tide = 4 * round + 1;
		usleep(3000);
		ledger->tide = 4 * round + 2;
		madvise(tide_area, (size_t)PAGES * PAGE, MADV_DONTNEED);
		ledger->tide = 4 * round + 3;
		usleep(3000);
	}
	return NULL;
}

static void *nomad(void *arg)
{
	const size_t size = 64 * PAGE;
	uint8_t *at = map(size);

	(void)arg;
	for (unsigned long round = 0;; round++) {
		uint8_t *const next = map(size);

		for (unsigned long page = 0; page < 64; page++)
			put(at, page, 1000 + page);
		ledger->nomad = (unsigned long)at;
		usleep(1000);
		ledger->nomad = 0;
		at = mremap(at, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, next);
		if (at == MAP_FAILED)
			abort();
		if (round % 3)
			continue;
		munmap(at, size);
		at = map(size);
	}
	return NULL;
}

static void *parent(void *arg)
{
	(void)arg;
	for (;;) {
		const pid_t child = fork();

		if (child == 0) {
			for (unsigned long page = 0; page < PAGES; page++)
				put(first, page, 0);
			_exit(0);
		}
		if (child > 0)
			waitpid(child, NULL, 0);
		usleep(5000);
	}
	return NULL;
}

// Every other one is of a file; a page that nobody may touch lies between them.
static void *sprouts(void *arg)
{
	const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	(void)arg;
	for (unsigned long round = 1;; round++) {
		for (unsigned int i = 0; i < SPROUTS; i++) {
			const int what = MAP_PRIVATE | MAP_FIXED | (i % 2 ? 0 : MAP_ANONYMOUS);
			uint8_t *const at = sprouts_area + (size_t)i * 2 * PAGE;

			ledger->sprouts[i] = 0;
			if (mmap(at, PAGE, PROT_READ | PROT_WRITE, what, i % 2 ? file : -1, 0) !=
			    at)
				abort();
			if (i % 16 == 0)
				usleep(500);
			put(at, 0, round);
			ledger->sprouts[i] = round;
		}
	}
	return NULL;
}

static void *stretch(void *arg)
{
	uint8_t *at = map(STRETCH);

	(void)arg;
	for (size_t page = 0; page < STRETCH / PAGE; page++)
		put(at, page, page);
	for (;;) {
		if (mremap(at, STRETCH, STRETCH - PAGE, 0) != at)
			abort();
		at = mremap(at, STRETCH - PAGE, STRETCH, MREMAP_MAYMOVE);
		if (at == MAP_FAILED)
			abort();
		usleep(100);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	void *(*const works[])(void *) = { journal, tide,   nomad,  parent, sprouts, stretch,
					   giants,  mirror, loan, wanderer, border };
	const char *const idle = argc > 1 ? argv[1] : "";
	char line[64];

	// Beside what follows, which so has a written page even if nobody works.
	if (!strchr(idle, '-'))
		memset(map(BALLAST), 1, BALLAST);
	ledger = (struct ledger *)map(PAGE);
	first = map((size_t)PAGES * PAGE);
	second = map((size_t)PAGES * PAGE);
	tide_area = map((size_t)PAGES * PAGE);
	sprouts_area = mmap(NULL, (size_t)SPROUTS * 2 * PAGE, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sprouts_area == MAP_FAILED)
		abort();
	begin_areas(idle);
	for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
		pthread_t thread;

		// Named are those that shall not work.
		if (strchr(idle, "jtnpsxgmlwb"[i]))
			continue;
		if (pthread_create(&thread, NULL, works[i], NULL) != 0)
			return 1;
	}
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (strncmp(line, "layout", 6) == 0)
			printf("%llu %llu %llu %llu %llu %u\n",
			       (unsigned long long)(uintptr_t)ledger,
			       (unsigned long long)(uintptr_t)first,
			       (unsigned long long)(uintptr_t)second,
			       (unsigned long long)(uintptr_t)tide_area,
			       (unsigned long long)(uintptr_t)sprouts_area, PAGE);
		else
			puts("pong");
		fflush(stdout);
	}
	return 0;
}
