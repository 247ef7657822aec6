/* SPDX-License-Identifier: BSD-3-Clause */
// What the tests of the sinks write, and how they look at what arrived: byte n of the stream
// depends on n alone, skipped ranges are zero.
#ifndef CORESNAP_SINK_STREAM_H
#define CORESNAP_SINK_STREAM_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "check.h"
#include "sink.h"

#define NOBODY 65534

// At ./small, for this process alone.
static inline void mount_tmpfs(const char *options)
{
	if (geteuid() != 0)
		SKIP("mounting needs root");
	CHECK_EQ(mkdir("small", 0700), 0);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", "small", "tmpfs", 0, options) < 0)
		SKIP("no private mounts here");
}

static inline uint8_t stream_byte(uint64_t n)
{
	return (uint8_t)(n * 2654435761u >> 7 | 1); // never 0: told apart from a hole
}

static inline int stream_emit(struct sink *sink, size_t size, struct coresnap_error *err)
{
	uint8_t *bytes = malloc(size + 1);

	CHECK(bytes);
	for (size_t i = 0; i < size; i++)
		bytes[i] = stream_byte(sink->pos + i);

	int ret = sink_emit(sink, bytes, size, err);

	free(bytes);
	return ret;
}

// One range of the stream, in the order in which they were written.
struct stream_part {
	uint64_t size;
	bool hole;
};

static inline int stream_write(struct sink *sink, const struct stream_part *parts, size_t n,
			       struct coresnap_error *err)
{
	for (size_t i = 0; i < n; i++) {
		int ret = parts[i].hole ? sink_skip(sink, parts[i].size, err) :
					  stream_emit(sink, (size_t)parts[i].size, err);

		if (ret < 0)
			return ret;
	}
	return 0;
}

static inline void stream_read_all(int fd, uint8_t *bytes, size_t size)
{
	while (size) {
		ssize_t n = read(fd, bytes, size);

		CHECK(n > 0);
		bytes += n;
		size -= (size_t)n;
	}
}

// Reads the parts from fd and compares; at most 4096 bytes at a time, as a slow reader would.
static inline void stream_verify(int fd, const struct stream_part *parts, size_t n)
{
	uint8_t bytes[4096];
	uint64_t pos = 0;

	for (size_t i = 0; i < n; i++) {
		for (uint64_t left = parts[i].size; left;) {
			size_t piece = left < sizeof(bytes) ? (size_t)left : sizeof(bytes);

			stream_read_all(fd, bytes, piece);
			for (size_t k = 0; k < piece; k++)
				CHECK_EQ(bytes[k], parts[i].hole ? 0 : stream_byte(pos + k));
			pos += piece;
			left -= piece;
		}
	}
}

static inline void stream_verify_end(int fd)
{
	uint8_t byte;

	CHECK_EQ(read(fd, &byte, 1), 0);
}

// What every error of a sink promises.
static inline void check_error(const struct coresnap_error *err, int code, int os_errno)
{
	if (err->code != code || err->os_errno != os_errno)
		fprintf(stderr, "code %d, errno %d: %s\n", err->code, err->os_errno, err->what);
	CHECK_EQ(err->code, code);
	CHECK_EQ(err->os_errno, os_errno);
	CHECK_HAS(err->what, error_errno_name(os_errno));
	CHECK(err->remedy[0] || code == CORESNAP_E_CANCELLED);
	if (getenv("SHOW"))
		fprintf(stderr, "  %s\n    %s\n", err->what, err->remedy);
}

static inline size_t count_entries(const char *path)
{
	DIR *dir = opendir(path);
	size_t n = 0;

	CHECK(dir);
	for (struct dirent *entry; (entry = readdir(dir));)
		n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	closedir(dir);
	return n;
}

static inline bool signal_pending(int signal)
{
	sigset_t set;

	sigpending(&set);
	return sigismember(&set, signal);
}

static inline bool signal_blocked(int signal)
{
	sigset_t set;

	sigprocmask(SIG_BLOCK, NULL, &set);
	return sigismember(&set, signal);
}

// A cancel.check that says stop at its nth call.
struct countdown {
	int left;
};

static inline int count_down(void *arg)
{
	struct countdown *countdown = arg;

	return --countdown->left <= 0;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
