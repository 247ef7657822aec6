/* SPDX-License-Identifier: BSD-3-Clause */
// The test's own process as the image that memory is read from.
#ifndef CORESNAP_TESTS_OWN_IMAGE_H
#define CORESNAP_TESTS_OWN_IMAGE_H

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "check.h"
#include "mem.h"

#define PAGE 4096u

static inline struct target image_of(pid_t pid)
{
	struct target image = { .pid = pid, .pidfd = (int)syscall(SYS_pidfd_open, pid, 0) };
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	image.proc_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	image.mem_fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(image.proc_fd >= 0 && image.mem_fd >= 0);
	return image;
}

static inline uint8_t *map_at(uintptr_t address, size_t pages, int prot, int flags, int fd)
{
	void *map = mmap((void *)address, pages * PAGE, prot,
			 flags | (address ? MAP_FIXED_NOREPLACE : 0), fd, 0);

	CHECK(map != MAP_FAILED);
	madvise(map, pages * PAGE, MADV_NOHUGEPAGE);
	return map;
}

static inline uint8_t *map_private(uintptr_t address, size_t pages)
{
	return map_at(address, pages, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
}

#endif
