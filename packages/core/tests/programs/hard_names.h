/* SPDX-License-Identifier: BSD-3-Clause */
// Names that mislead, for hard.c, in the middle of which it is included.
#ifndef HARD_NAMES_H
#define HARD_NAMES_H

// Programs of 32-bit x86 make their system calls through the vdso.
#ifdef __i386__
#define CALLS_BY_VDSO 1
#else
#define CALLS_BY_VDSO 0
#endif

// The kernel lets nobody cut a part out of it.
static size_t size_of_vdso(void)
{
	FILE *const maps = fopen("/proc/self/maps", "re");
	unsigned long start, end, size = 0;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps))
		if (strstr(line, "[vdso]") && sscanf(line, "%lx-%lx", &start, &end) == 2)
			size = end - start;
	if (maps)
		fclose(maps);
	return size;
}

// Names that parsers stumble over, an executable that is gone, and something else where the vdso
// was.
static void confuse(const char *more)
{
	uint8_t *const vdso = (uint8_t *)getauxval(AT_SYSINFO_EHDR);
	const size_t size = size_of_vdso();
	char file[] = "/tmp/hard (deleted)\n7f00-7fff rwxp XXXXXX";
	const int fd = mkstemp(file);

	(void)more;
	unlink(name_of_this);
	if (fd < 0 || unlink(file) < 0 || ftruncate(fd, PAGE) < 0 ||
	    mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) == MAP_FAILED)
		_exit(8);
	prctl(PR_SET_NAME, ") R 1\nPid:\t1", 0, 0, 0);
	memset(name_of_this, '\n', strlen(name_of_this));
	if (size == 0 || CALLS_BY_VDSO)
		return;
	if (mmap(vdso, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) == MAP_FAILED)
		_exit(9);
	guard(vdso, size);
}

#endif
