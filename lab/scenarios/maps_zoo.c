/* SPDX-License-Identifier: BSD-3-Clause */
// One mapping of each kind that the rules of vma_dump_size (fs/coredump.c) tell apart.
#include "scenario.h"

#include <sys/ipc.h>
#include <sys/shm.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define WORDS 16 // of a page that carry its pattern
#define HUGE (2UL << 20)

struct written {
	const char *why;
	volatile uint64_t *page;
	uint64_t seed;
	bool in_core;
};

static struct written written[64];
static size_t n_written;

static uint64_t word(uint64_t seed, size_t i)
{
	return (seed << 32) ^ (0x9e3779b97f4a7c15 * (i + 1));
}

static void check(const void *result, const char *what)
{
	if (result == MAP_FAILED)
		scenario_die("%s", what);
}

// Each mapping stands alone: neighbours of one kind would become one mapping, and one that was
// never written would count as written with its neighbour. Between them lies a private mapping of
// /dev/zero, which is of another kind than all others.
static char *map(const char *what, size_t pages, int prot, int flags, int fd)
{
	static char *next, *end;
	if (!next) {
		const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
		next = mmap(NULL, 32 * HUGE, PROT_NONE, MAP_PRIVATE, zero, 0);
		check(next, "room for the zoo");
		close(zero);
		end = next + 32 * HUGE;
	}
	next += PAGE;
	if (next + pages * PAGE >= end)
		scenario_die("room for %s", what);
	void *at = mmap(next, pages * PAGE, prot, flags | MAP_FIXED, fd, 0);
	check(at, what);
	next += pages * PAGE;
	return at;
}

// Writes a pattern into one page and says whether the core must have it.
static void fill(const char *why, void *page, bool in_core)
{
	struct written *w = &written[n_written];
	*w = (struct written){why, page, n_written + 1, in_core};
	n_written++;
	uint64_t bytes[WORDS];
	for (size_t i = 0; i < WORDS; i++)
		bytes[i] = word(w->seed, i);
	memcpy(page, bytes, sizeof(bytes));
	if (in_core)
		truth_memory(why, page, bytes, sizeof(bytes));
}

static int file(const char *name, size_t pages, const char *start)
{
	const int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)(pages * PAGE)) != 0)
		scenario_die("%s", name);
	char text[256];
	for (size_t i = 0; i < pages; i++) {
		const int n = snprintf(text, sizeof(text), "%s page %zu of %s", start, i, name);
		if (pwrite(fd, text, (size_t)n, (off_t)(i * PAGE)) != n)
			scenario_die("%s", name);
	}
	return fd;
}

static void advise(void *at, size_t pages, int advice, const char *what)
{
	if (madvise(at, pages * PAGE, advice) != 0)
		scenario_die("%s", what);
}

static void anonymous(void)
{
	char *at = map("written", 3, RW, ANON, -1);
	fill("private, first page", at, true);
	fill("private, last page", at + 2 * PAGE, true);
	truth_absent("private, untouched", map("untouched", 3, RW, ANON, -1), 3 * PAGE);
	at = map("only read", 2, RW, ANON, -1);
	if (*(volatile char *)at != 0) // maps the zero page
		scenario_die("zero page");
	truth_absent("private, only read", at, 2 * PAGE);

	at = map("read-only after write", 2, RW, ANON, -1);
	fill("read-only", at, true);
	mprotect(at, 2 * PAGE, PROT_READ);
	at = map("write only", 2, RW, ANON, -1);
	fill("write-only", at, true);
	mprotect(at, 2 * PAGE, PROT_WRITE);
	at = map("executable", 2, RW, ANON, -1);
	fill("executable", at, true);
	mprotect(at, 2 * PAGE, PROT_READ | PROT_EXEC);
	at = map("guard", 3, RW, ANON, -1);
	fill("PROT_NONE over data", at + PAGE, true);
	mprotect(at, 3 * PAGE, PROT_NONE);
	truth_absent("PROT_NONE", map("guard", 4, PROT_NONE, ANON, -1), 4 * PAGE);
	at = map("stack-like", 4, RW, ANON | MAP_GROWSDOWN, -1);
	fill("MAP_GROWSDOWN", at + 3 * PAGE, true);
	at = map("dropped", 3, RW, ANON, -1);
	fill("before MADV_DONTNEED", at + 2 * PAGE, true);
	*(volatile char *)at = 1;
	advise(at, 1, MADV_DONTNEED, "MADV_DONTNEED");
}

// Mappings that were written, and of which no written page is left. The kernel remembers them by
// vm_area_struct.anon_vma, of which nothing is seen from outside.
static void once_written(void)
{
	char *at = map("all dropped", 2, RW, ANON, -1);
	*(volatile char *)at = 1;
	advise(at, 2, MADV_DONTNEED, "MADV_DONTNEED");
	const uint64_t base = (uintptr_t)at;
	truth_bytes("once-written", 2 * PAGE, &base, sizeof(base));
	at = map("split from a written one", 4, RW, ANON, -1);
	fill("the written half", at, true);
	mprotect(at + 2 * PAGE, 2 * PAGE, PROT_READ);
	const uint64_t half = (uintptr_t)at + 2 * PAGE;
	truth_bytes("once-written", 2 * PAGE, &half, sizeof(half));
	const int fd = file("dropped-file", 2, "dropped");
	at = map("private file, dropped", 2, RW, MAP_PRIVATE, fd);
	*(volatile char *)at = 1;
	advise(at, 2, MADV_DONTNEED, "MADV_DONTNEED");
	const uint64_t of_file = (uintptr_t)at;
	truth_bytes("once-written", 2 * PAGE, &of_file, sizeof(of_file));
	close(fd);
}

static void advised(void)
{
	char *at = map("DONTDUMP", 2, RW, ANON, -1);
	fill("MADV_DONTDUMP", at, false);
	advise(at, 2, MADV_DONTDUMP, "MADV_DONTDUMP");
	truth_absent("MADV_DONTDUMP", at, 2 * PAGE);
	at = map("DONTFORK", 2, RW, ANON, -1);
	fill("MADV_DONTFORK", at + PAGE, true);
	advise(at, 2, MADV_DONTFORK, "MADV_DONTFORK");
	at = map("WIPEONFORK", 2, RW, ANON, -1);
	fill("MADV_WIPEONFORK", at, true);
	advise(at, 2, MADV_WIPEONFORK, "MADV_WIPEONFORK");
	at = map("guard region", 3, RW, ANON, -1);
	fill("before a guard region", at, true);
	if (madvise(at + PAGE, PAGE, MADV_GUARD_INSTALL) != 0 && errno != EINVAL)
		scenario_die("MADV_GUARD_INSTALL"); // EINVAL: before Linux 6.13
	at = map("huge", 4 * HUGE / PAGE, RW, ANON, -1);
	at = (char *)(((uintptr_t)at + HUGE - 1) & ~(HUGE - 1));
	if (madvise(at, 2 * HUGE, MADV_HUGEPAGE) != 0 && errno != EINVAL)
		scenario_die("MADV_HUGEPAGE"); // EINVAL: a kernel without them
	fill("transparent huge page", at + 5 * PAGE, true);
	fill("transparent huge page, its end", at + HUGE - PAGE, true);
}

static void shared(void)
{
	char *at = map("shared", 3, RW, MAP_SHARED | MAP_ANONYMOUS, -1);
	fill("shared anonymous", at + PAGE, true);
	int fd = memfd_create("zoo", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)(3 * PAGE)) != 0)
		scenario_die("memfd");
	fill("memfd", map("memfd", 3, RW, MAP_SHARED, fd), true);
	close(fd);
	fd = file("deleted", 3, "shared");
	fill("deleted file", map("deleted", 3, RW, MAP_SHARED, fd), true);
	unlink("deleted");
	close(fd);
	const int id = shmget(IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0600);
	at = id < 0 ? MAP_FAILED : shmat(id, NULL, 0);
	if (id >= 0)
		shmctl(id, IPC_RMID, NULL);
	check(at, "System V shared memory");
	fill("System V shared memory", at + 2 * PAGE, true);
}

static void files(void)
{
	int fd = file("shared-file", 3, "shared");
	char *at = map("shared-file", 3, RW, MAP_SHARED, fd);
	fill("shared file", at, false);
	truth_absent("shared file", at, 3 * PAGE);
	close(fd);
	fd = file("private-file", 4, "private");
	at = map("private-file", 4, RW, MAP_PRIVATE, fd);
	fill("private file, the written page", at + PAGE, true);
	truth_memory("private file, a page that was not written", at + 2 * PAGE,
		     "private page 2 of private-file", 30);
	at = map("private-file, untouched", 4, RW, MAP_PRIVATE, fd);
	truth_absent("private file, untouched", at, 4 * PAGE);
	close(fd);
	fd = file("elf-like", 3, "\177ELF like");
	at = map("elf-like", 3, PROT_READ, MAP_PRIVATE, fd);
	truth_memory("first page of what looks like ELF", at, "\177ELF like page 0", 16);
	truth_absent("the rest of what looks like ELF", at + PAGE, 2 * PAGE);
	close(fd);
	fd = file("truncated", 3, "long");
	at = map("truncated", 3, RW, MAP_PRIVATE, fd);
	fill("private file that became shorter", at, true);
	if (ftruncate(fd, (off_t)PAGE) != 0)
		scenario_die("ftruncate");
	close(fd);
	fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	at = map("/dev/zero", 2, RW, MAP_PRIVATE, fd);
	fill("/dev/zero", at, true);
	close(fd);
}

static const char *verify(void)
{
	for (size_t i = 0; i < n_written; i++) {
		uint64_t words[WORDS];
		if (!scenario_peek(written[i].page, words, sizeof(words)))
			return scenario_why("cannot read: %s", written[i].why);
		for (size_t j = 0; j < WORDS; j++) {
			if (words[j] != word(written[i].seed, j))
				return scenario_why("changed: %s", written[i].why);
		}
	}
	return NULL;
}

int main(void)
{
	scenario_begin();
	anonymous();
	advised();
	shared();
	files();
	once_written();
	scenario_hold(verify, NULL);
}
