/* SPDX-License-Identifier: BSD-3-Clause */
// Writers whose areas are of a kind, or change, so that it matters how writes to them are seen. What
// they say, and the law, is the same for all: struct steps. See writers.c.
#include "writers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE        (2u << 20)
#define GIANT_PAGES (2 * HUGE / PAGE)
#define GIANT_ROUND 4096u
#define PAGES       512u
#define SIZE        ((size_t)PAGES * PAGE)
#define OF_THE_FILE 0x10000u // page p of the file begins with this number more than p
#define MOST_APART  64u

// Far below what mmap(2) gives: nobody else's mapping comes to where the wanderer just was. A dumper
// that watches a part of an area, and not the rest, would part it, and mremap(2) fails on two mappings.
#define DESERT  ((uintptr_t)0x20000000)
#define STATION ((uintptr_t)4 << 20)

static void say_where(struct steps *steps, unsigned int area, const uint8_t *at)
{
	steps->areas[area] = (unsigned long)(uintptr_t)at;
}

static uint8_t *area_of(const struct steps *steps, unsigned int area)
{
	return (uint8_t *)(uintptr_t)steps->areas[area];
}

// Rests now and then, so that passes over what it writes come to an end.
static void step_on(struct steps *steps, unsigned long pages)
{
	const unsigned long step = steps->step + 1;

	steps->step = step;
	for (unsigned int i = 0; i < AREAS && steps->areas[i]; i++)
		put(area_of(steps, i), page_of(step) % pages, step);
	if (step % 64 == 0)
		usleep(1000);
}

// -- transparent huge pages, which are given back and made anew ------------------------------------

static void begin_giants(void)
{
	for (unsigned int i = 0; i < 2; i++) {
		uint8_t *at = map(3 * HUGE);

		at += -(uintptr_t)at % HUGE;
		// Fails where the kernel has none.
		madvise(at, 2 * HUGE + PAGE, MADV_HUGEPAGE);
		// A core has a mapping if it has a written page; this one stays.
		put(at, GIANT_PAGES, 1);
		say_where(&ledger->giants, i, at);
	}
}

void *giants(void *arg)
{
	struct steps *const steps = &ledger->giants;
	uint8_t *const first = area_of(steps, 0), *const second = area_of(steps, 1);

	for (;;) {
		step_on(steps, GIANT_PAGES);
		if (steps->step % GIANT_ROUND)
			continue;
		say_where(steps, 0, NULL);
		madvise(first, 2 * HUGE, MADV_DONTNEED);
		madvise(second, 2 * HUGE, MADV_DONTNEED);
		steps->base = steps->step;
		say_where(steps, 0, first);
	}
	return arg;
}

// -- private memory, and shared memory without a name and with one ---------------------------------

static void begin_mirror(void)
{
	const int flags[] = { MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS, MAP_SHARED };
	const int memory = memfd_create("mirror", MFD_CLOEXEC);

	if (memory < 0 || ftruncate(memory, SIZE) < 0)
		abort();
	for (unsigned int i = 0; i < 3; i++) {
		uint8_t *const at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags[i],
					 flags[i] & MAP_ANONYMOUS ? -1 : memory, 0);

		if (at == MAP_FAILED)
			abort();
		// Of what nobody wrote to there is nothing in a core.
		memset(at, 0, SIZE);
		say_where(&ledger->mirror, i, at);
	}
	close(memory);
}

void *mirror(void *arg)
{
	for (;;)
		step_on(&ledger->mirror, PAGES);
	return arg;
}

// -- a private mapping of a file: each third step gives the page back to it -------------------------

static void begin_loan(void)
{
	FILE *const file = tmpfile();

	if (!file)
		abort();
	for (unsigned long page = 0; page <= PAGES; page++) {
		const unsigned long text[PAGE / sizeof(long)] = { OF_THE_FILE + page };

		if (fwrite(text, sizeof(text), 1, file) != 1)
			abort();
	}
	if (fflush(file) != 0)
		abort();
	uint8_t *const at =
		mmap(NULL, SIZE + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fileno(file), 0);

	if (at == MAP_FAILED)
		abort();
	fclose(file);
	// Stays written, for the same reason.
	put(at, PAGES, 1);
	say_where(&ledger->loan, 0, at);
}

void *loan(void *arg)
{
	struct steps *const steps = &ledger->loan;
	uint8_t *const at = area_of(steps, 0);

	for (;;) {
		while ((steps->step + 1) % 3)
			step_on(steps, PAGES);
		steps->step++;
		madvise(at + page_of(steps->step) % PAGES * PAGE, PAGE, MADV_DONTNEED);
	}
	return arg;
}

// -- an area that moves, and is large enough to be watched anew where it comes to -------------------

static void begin_wanderer(void)
{
	uint8_t *const at = mmap((void *)DESERT, SIZE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at != (uint8_t *)DESERT)
		abort();
	memset(at, 0, SIZE);
	say_where(&ledger->wanderer, 0, at);
}

void *wanderer(void *arg)
{
	struct steps *const steps = &ledger->wanderer;
	uint8_t *at = area_of(steps, 0);

	for (;;) {
		step_on(steps, PAGES);
		if (steps->step % 32)
			continue;
		uint8_t *const next =
			(uint8_t *)(DESERT + (page_of(steps->step) + 1) % 3 * STATION);

		if (next == at)
			continue;
		say_where(steps, 0, NULL);
		at = mremap(at, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, next);
		if (at == MAP_FAILED)
			abort();
		say_where(steps, 0, at);
	}
	return arg;
}

// -- neighbours that part and become one again ------------------------------------------------------

static void begin_border(void)
{
	uint8_t *const at = map(SIZE);

	memset(at, 0, SIZE);
	say_where(&ledger->border, 0, at);
}

void *border(void *arg)
{
	struct steps *const steps = &ledger->border;
	uint8_t *const at = area_of(steps, 0);

	for (;;) {
		for (unsigned int i = 0; i < 32; i++)
			step_on(steps, PAGES);
		const unsigned long some = page_of(steps->step);
		uint8_t *const from = at + some % (PAGES - MOST_APART) * PAGE;
		const size_t size = (1 + some % MOST_APART) * PAGE;

		if (mprotect(from, size, some % 2 ? PROT_READ : PROT_NONE) < 0)
			abort();
		usleep(100);
		if (mprotect(from, size, PROT_READ | PROT_WRITE) < 0)
			abort();
	}
	return arg;
}

void begin_areas(const char *idle)
{
	static const struct {
		char letter;
		void (*begin)(void);
	} kinds[] = {
		{ 'g', begin_giants },   { 'm', begin_mirror }, { 'l', begin_loan },
		{ 'w', begin_wanderer }, { 'b', begin_border },
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strchr(idle, kinds[i].letter))
			kinds[i].begin();
}
