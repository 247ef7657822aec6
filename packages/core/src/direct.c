/* SPDX-License-Identifier: BSD-3-Clause */
#include "direct.h"

#include <limits.h>
#include <string.h>

#include "cleanup.h"
#include "procfs.h"
#include "sys.h"

enum {
	INFO_TEXT = 8192, // that of an io_uring has a line for each entry of its queues
	FILE_TEXT = 256,  // flags are in the second line
};

static const char ring_link[] = "anon_inode:[io_uring]";

static bool begins_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

// The first bytes of a descriptor's text in fdinfo; procfs_read() would read on for the end.
static ssize_t read_info(int dir_fd, const char *path, char *text, size_t size)
{
	const int fd guard(guard_close) = sys_openat(dir_fd, path, O_RDONLY, 0);
	const ssize_t n = fd < 0 ? fd : (ssize_t)sys_call(SYS_read, fd, text, size - 1);

	text[n < 0 ? 0 : n] = '\0';
	return n;
}

bool direct_flags(const char *text)
{
	const char *const at = procfs_behind(text, "flags:\t");
	const uint64_t flags = at ? procfs_number(at, 8, NULL) : 0;

	return (flags & O_DIRECT) && (flags & O_ACCMODE) != O_WRONLY;
}

// Of a file; with a pipe the flag means something else (pipe(2)).
static bool file_reads_directly(int dir_fd, const char *path)
{
	char text[FILE_TEXT];

	return read_info(dir_fd, path, text, sizeof(text)) > 0 && direct_flags(text);
}

bool direct_ring_files(const char *text, bool whole)
{
	const char *const at = procfs_behind(text, "UserFiles:\t");

	return at ? procfs_number(at, 10, NULL) != 0 : !whole;
}

// What an io_uring has registered needs no descriptor of its own, and may have any flags.
static bool ring_has_files(int dir_fd, const char *path)
{
	char text[INFO_TEXT];
	const ssize_t n = read_info(dir_fd, path, text, sizeof(text));

	return direct_ring_files(text, n < INFO_TEXT - 1);
}

static bool reads_directly(const struct target *target, const char *number)
{
	char link[sizeof(ring_link)] = "", path[48];

	error_format(path, sizeof(path), "fd/%s", number);
	sys_call(SYS_readlinkat, target->proc_fd, path, link, sizeof(link) - 1);
	// Most of many descriptors.
	if (begins_with(link, "socket:[") || begins_with(link, "pipe:["))
		return false;
	error_format(path, sizeof(path), "fdinfo/%s", number);
	if (begins_with(link, ring_link))
		return ring_has_files(target->proc_fd, path);
	return file_reads_directly(target->proc_fd, path);
}

// The number of a descriptor that reads directly, or -1. Each costs some 10 µs.
static int find_descriptor(const struct target *target, unsigned int most)
{
	struct procfs_dir dir guard(procfs_closedir) = { .fd = -1 };
	const char *name;

	if (procfs_opendir(&dir, target->proc_fd, "fd") < 0)
		return -1;
	while (most-- > 0 && (name = procfs_readdir(&dir)))
		if (reads_directly(target, name))
			return (int)procfs_number(name, 10, NULL);
	return -1;
}

bool direct_in_background(const struct maps *maps)
{
	for (size_t i = 0; i < maps->n; i++)
		if (mapping_named(&maps->list[i], "/[aio] (deleted)") ||
		    mapping_named(&maps->list[i], ring_link))
			return true;
	return false;
}

int direct_may_fork(const struct target *target, const struct maps *maps,
		    struct coresnap_error *err)
{
	const int fd = direct_in_background(maps) ? find_descriptor(target, UINT_MAX) : -1;

	if (fd < 0)
		return 0;
	err->pid = target->pid;
	error_remedy(err, "Use the method stop");
	return error_set(
		err, CORESNAP_E_FAILED, EBUSY,
		"process %d cannot be copied: it may be reading by descriptor %d with "
		"O_DIRECT, in the background (AIO, io_uring), and a fork could keep from it "
		"what is read",
		target->pid, fd);
}

// Its descriptor is the first argument of each call that reads. One of another call that looks like
// it is no harm.
static int first_argument(const struct target *target, pid_t tid)
{
	struct procfs_syscall call;

	if (!procfs_read_syscall(target->proc_fd, tid, &call) || call.args[0] > INT32_MAX)
		return -1;
	return (int)call.args[0];
}

static bool hangs_in_direct_read(const struct target *target, pid_t tid)
{
	// Where a file system in user space is waited for, not a page of its files.
	static const char fuse_wait[] = "request_wait_answer";
	char path[48], text[64];

	error_format(path, sizeof(path), "task/%d/wchan", tid);
	if (procfs_read(target->proc_fd, path, text, sizeof(text)) > 0 &&
	    strcmp(text, fuse_wait) == 0)
		return true;
	const int fd = first_argument(target, tid);

	if (fd < 0)
		return false;
	error_format(path, sizeof(path), "fdinfo/%d", fd);
	return file_reads_directly(target->proc_fd, path);
}

int direct_may_fork_now(const struct freeze *freeze, struct coresnap_error *err)
{
	const struct target *const target = freeze->target;

	for (size_t i = 0; i < freeze->n_threads; i++) {
		const struct thread *const thread = &freeze->threads[i];

		if (thread->state != THREAD_MISSED || !hangs_in_direct_read(target, thread->tid))
			continue;
		err->pid = target->pid;
		err->tid = thread->tid;
		error_remedy(err, "Use the method stop");
		return error_set(
			err, CORESNAP_E_FAILED, EBUSY,
			"process %d cannot be copied: its thread %d hangs in a direct read "
			"(O_DIRECT, or of a file system in user space), and a fork could "
			"keep from it what is read",
			target->pid, thread->tid);
	}
	return 0;
}

int direct_may_track(const struct target *target, unsigned int most, struct coresnap_error *err)
{
	struct procfs_status status;
	char size[32];

	error_remedy(err, "Use the method fork or stop");
	if (procfs_read_status(target->proc_fd, "status", &status) == 0 && status.vm_pinned)
		return error_set(
			err, CORESNAP_E_FAILED, EOPNOTSUPP,
			"process %d has %s of memory pinned (for a device, or by io_uring), "
			"and what is written there cannot be tracked",
			target->pid, error_size(size, sizeof(size), status.vm_pinned));
	const int fd = find_descriptor(target, most);

	if (fd >= 0)
		return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
				 "process %d has descriptor %d open for reading with O_DIRECT, and "
				 "what such reads bring cannot be tracked",
				 target->pid, fd);
	*err = (struct coresnap_error){ 0 };
	return 0;
}
