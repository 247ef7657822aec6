/* SPDX-License-Identifier: BSD-3-Clause */
#include "corefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "sys.h"

#define MAX_NAME 4096
#define BUFFER   65536

// In a mapping of its own: this may be a signal handler on a small stack.
struct corefile {
	int fd;
	char name[MAX_NAME], temporary[MAX_NAME];
	uint8_t buffer[BUFFER];
};

int corefile_output(struct coresnap_output *output, const char *name)
{
	struct statx st;

	*output = (struct coresnap_output){ .kind = CORESNAP_TO_PATH, .path = name, .fd = -1 };
	if (sys_statx(AT_FDCWD, name, AT_SYMLINK_NOFOLLOW, &st) < 0 || S_ISREG(st.stx_mode))
		return 0;
	const int fd = sys_openat(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC | O_LARGEFILE, 0600);

	if (fd < 0)
		return fd;
	*output = (struct coresnap_output){ .kind = CORESNAP_TO_FD, .fd = fd };
	return 0;
}

void corefile_close(const struct coresnap_output *output)
{
	if (output->kind == CORESNAP_TO_FD)
		sys_close(output->fd);
}

// The name, the suffix, and of the temporary file the process's id; nothing is cut.
static bool make_names(struct corefile *file, const char *name, const char *suffix)
{
	const size_t length = strlen(name), more = strlen(suffix);
	unsigned int pid = (unsigned int)sys_call(SYS_getpid);
	char *at = file->temporary + length + more;

	if (length + more + sizeof(".4294967295.part") > MAX_NAME)
		return false;
	memcpy(file->name, name, length);
	memcpy(file->name + length, suffix, more + 1);
	memcpy(file->temporary, file->name, length + more);
	*at++ = '.';
	for (; pid; pid /= 10)
		*at++ = (char)('0' + pid % 10);
	memcpy(at, ".part", sizeof(".part"));
	return true;
}

struct corefile *corefile_create(const char *name, const char *suffix, int *ret)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_LARGEFILE;
	struct corefile *const file = mmap(NULL, sizeof(*file), PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*ret = file == MAP_FAILED ? -ENOMEM : 0;
	if (*ret < 0)
		return NULL;
	*ret = make_names(file, name, suffix) ? 0 : -ENAMETOOLONG;
	if (*ret == 0)
		*ret = file->fd = sys_openat(AT_FDCWD, file->temporary, flags, 0600);
	if (*ret >= 0)
		return file;
	munmap(file, sizeof(*file));
	return NULL;
}

static int write_all(int fd, const uint8_t *bytes, size_t size)
{
	while (size) {
		const ssize_t n = sys_retry(SYS_write, fd, bytes, size);

		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		bytes += n;
		size -= (size_t)n;
	}
	return 0;
}

int corefile_copy(struct corefile *file, int stream, uint64_t limit, bool *whole)
{
	*whole = false;
	for (;;) {
		const ssize_t n = sys_read(stream, file->buffer, BUFFER);

		*whole = n == 0;
		if (n <= 0)
			return (int)n;
		const size_t size = (uint64_t)n < limit ? (size_t)n : (size_t)limit;
		const int ret = write_all(file->fd, file->buffer, size);

		limit -= size;
		if (ret < 0 || limit == 0)
			return ret;
	}
}

int corefile_finish(struct corefile *file, bool good)
{
	int ret = sys_close(file->fd);

	if (good && ret == 0)
		ret = (int)sys_call(SYS_renameat2, AT_FDCWD, file->temporary, AT_FDCWD, file->name,
				    0);
	if (!good || ret < 0)
		sys_call(SYS_unlinkat, AT_FDCWD, file->temporary, 0);
	munmap(file, sizeof(*file));
	return ret;
}
