/* SPDX-License-Identifier: BSD-3-Clause */
// A process with one mapping of each kind at addresses that fit 32 bits, and a hostile name, whose
// files of /proc record.sh keeps.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGE 4096u

static char *at = (char *)0x20000000;

// The next mapping, a page away from the one before.
static char *map(size_t size, int prot, int flags, int fd)
{
	char *map = mmap(at, size, prot, flags | MAP_FIXED, fd, 0);

	if (map == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	at += size + PAGE;
	return map;
}

static int make(const char *name)
{
	const int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || ftruncate(fd, 4 * PAGE) < 0) {
		perror(name);
		exit(1);
	}
	return fd;
}

int main(void)
{
	const int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS;

	map(PAGE, rw, anon, -1);                            // never touched
	map(2 * PAGE, rw, anon, -1)[0] = 1;                 // written
	map(PAGE, PROT_NONE, anon, -1);                     // a guard
	madvise(map(PAGE, rw, anon, -1), PAGE, MADV_DONTDUMP);
	madvise(map(PAGE, rw, anon, -1), PAGE, MADV_DONTFORK);
	madvise(map(PAGE, rw, anon, -1), PAGE, MADV_WIPEONFORK);
	map(2 * PAGE, rw, MAP_SHARED | MAP_ANONYMOUS, -1)[0] = 1;
	map(PAGE, PROT_READ, MAP_PRIVATE, open("/proc/self/exe", O_RDONLY));
	map(PAGE, PROT_READ, MAP_SHARED, open("/proc/self/exe", O_RDONLY));
	map(PAGE, rw, MAP_SHARED, make("shared"));
	map(2 * PAGE, rw, MAP_PRIVATE, make("written"))[PAGE] = 1;
	map(PAGE, rw, MAP_SHARED, make("gone"));
	unlink("gone");
	map(PAGE, rw, MAP_SHARED, make("looks (deleted)"));
	map(PAGE, PROT_READ, MAP_PRIVATE, make("new\nline \033[31m[red] \xff"));
	map(PAGE, PROT_READ, MAP_PRIVATE, make("back\\012slash"));
	map(PAGE, rw, MAP_SHARED, memfd_create("mem", 0));
	map(PAGE, rw, MAP_PRIVATE, open("/dev/zero", O_RDWR))[0] = 1;
	// Needs no huge page; Debian's kernel for arm knows none.
	mmap((void *)0x40000000, 2u << 20, rw, anon | MAP_HUGETLB | MAP_NORESERVE | MAP_FIXED, -1,
	     0);
	prctl(PR_SET_NAME, ") R 1 (\n\033[");
	puts("ready");
	fflush(stdout);
	pause();
	return 0;
}
