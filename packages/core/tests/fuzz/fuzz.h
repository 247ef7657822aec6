/* SPDX-License-Identifier: BSD-3-Clause */
// What the fuzz targets share. Each is one function over bytes, which asserts what must hold for
// whatever they are; libFuzzer calls it, or replay.c with the saved inputs.
#ifndef CORESNAP_TESTS_FUZZ_H
#define CORESNAP_TESTS_FUZZ_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                   \
	do {                                                                              \
		if (!(condition)) {                                                       \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, \
				#condition);                                              \
			abort();                                                          \
		}                                                                         \
	} while (0)

// A copy of just that size, for AddressSanitizer to see what is read outside of it; with a NUL
// behind it if it is a text. The caller frees it.
static inline void *exact_copy(const void *bytes, size_t size)
{
	char *const copy = malloc(size ? size : 1);

	MUST(copy);
	if (size)
		memcpy(copy, bytes, size);
	return copy;
}

static inline char *exact_text(const void *bytes, size_t size)
{
	char *const copy = malloc(size + 1);

	MUST(copy);
	if (size)
		memcpy(copy, bytes, size);
	copy[size] = '\0';
	return copy;
}

// A file with these bytes, the same descriptor each time; read from its beginning.
static inline int file_of(const void *bytes, size_t size)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("input", MFD_CLOEXEC);
	MUST(fd >= 0 && ftruncate(fd, 0) == 0);
	MUST(pwrite(fd, bytes, size, 0) == (ssize_t)size);
	return fd;
}

// Its path, for those who open it themselves.
static inline const char *path_of(int fd)
{
	static char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return path;
}

// Numbers out of the input, zeros when it is used up.
struct input {
	const uint8_t *at;
	size_t left;
};

static inline uint64_t take(struct input *in, size_t width)
{
	uint64_t value = 0;
	const size_t n = in->left < width ? in->left : width;

	if (n)
		memcpy(&value, in->at, n);
	in->at += n;
	in->left -= n;
	return value;
}

static inline uint64_t take_below(struct input *in, uint64_t limit)
{
	return take(in, limit <= 256 ? 1 : limit <= 65536 ? 2 : 8) % limit;
}

#endif
