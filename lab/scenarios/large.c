/* SPDX-License-Identifier: BSD-3-Clause */
// So much memory that the method precopy writes it to its place in the core before the stop: of
// kinds that it does so with, and of others that the stop copies to between them.
#include "scenario.h"

#define RW (PROT_READ | PROT_WRITE)
#define MIB (1UL << 20)

// Of an area each page that is a multiple of @step holds its word; the others never were there, or,
// of a file, are as they are in it.
struct area {
	const char *why;
	char *at;
	size_t pages, step;
	uint64_t seed;
};

static struct area areas[8];
static size_t n_areas;

static uint64_t word(const struct area *area, size_t page)
{
	return (area->seed << 32) ^ (0x9e3779b97f4a7c15 * (page + 1));
}

static volatile uint64_t *place(const struct area *area, size_t page)
{
	return (volatile uint64_t *)(void *)(area->at + page * PAGE);
}

static void fill(const char *why, char *at, size_t size, size_t step)
{
	struct area *area = &areas[n_areas++];
	if (at == MAP_FAILED)
		scenario_die("%s", why);
	*area = (struct area){why, at, size / PAGE, step, n_areas};
	for (size_t page = 0; page < area->pages; page += step)
		*place(area, page) = word(area, page);
	const size_t some[] = {0, area->pages / 2, area->pages - step};
	for (size_t i = 0; i < 3; i++) {
		const uint64_t value = word(area, some[i] - some[i] % step);
		truth_memory(why, place(area, some[i] - some[i] % step), &value, sizeof(value));
	}
}

// Behind each lie addresses of nobody, so many that there is room for as much in the core, or for what
// a mapping of that size may grow by.
static char *map(const char *why, size_t size, int flags, int fd, size_t apart)
{
	static char *next;
	if (!next) {
		const size_t room = 256 * MIB;
		next = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (next == MAP_FAILED || munmap(next, room) != 0)
			scenario_die("room for %s", why);
	}
	char *const at = mmap(next, size, RW, flags | MAP_FIXED, fd, 0);
	next += size + apart;
	return at;
}

static int file(size_t size)
{
	const int fd = open("large-file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size) != 0)
		scenario_die("large-file");
	for (size_t at = 0; at < size; at += 64 * PAGE)
		if (pwrite(fd, "of the file", 11, (off_t)at) != 11)
			scenario_die("large-file");
	return fd;
}

static const char *verify(void)
{
	for (size_t i = 0; i < n_areas; i++) {
		for (size_t page = 0; page < areas[i].pages; page += areas[i].step) {
			if (*place(&areas[i], page) != word(&areas[i], page))
				return scenario_why("changed: %s", areas[i].why);
		}
	}
	return NULL;
}

int main(void)
{
	scenario_begin();
	const int anon = MAP_PRIVATE | MAP_ANONYMOUS;
	fill("whole", map("whole", 40 * MIB, anon, -1, PAGE), 40 * MIB, 1);
	fill("every other page", map("every other page", 24 * MIB, anon, -1, MIB), 24 * MIB, 2);
	fill("shared", map("shared", 2 * MIB, MAP_SHARED | MAP_ANONYMOUS, -1, 3 * PAGE), 2 * MIB, 1);
	const int fd = file(4 * MIB);
	char *const of_file = map("private file", 4 * MIB, MAP_PRIVATE, fd, 64 * MIB);
	fill("private file", of_file, 4 * MIB, 16);
	close(fd);
	// A dump reads all of it, and what it has to map in for that counts as resident.
	for (size_t at = 0; at < 4 * MIB; at += PAGE)
		(void)*(volatile char *)(of_file + at);
	char *const shut = map("read-only", 8 * MIB, anon, -1, 0);
	fill("read-only", shut, 8 * MIB, 1);
	mprotect(shut, 4 * MIB, PROT_READ);
	fill("heap", sbrk((intptr_t)(4 * MIB)), 4 * MIB, 1);
	scenario_hold(verify, NULL);
}
