// SPDX-License-Identifier: BSD-3-Clause
// A new file by name: written under a temporary name in the same directory, renamed when complete.
#include <stdio.h> // RENAME_NOREPLACE
#include <string.h>

#include "sink_parts.h"
#include "sys.h"

#define MAX_NAME  255 // of one component, in every file system: NAME_MAX
#define MAX_TRIES 1000

static int fail_name(struct coresnap_error *err, int os_errno, const char *path, size_t len,
		     const char *why, const char *remedy)
{
	char quoted[SINK_NAME_SIZE];
	int ret;

	sink_quote(quoted, path, len);
	ret = error_set(err, CORESNAP_E_FAILED, os_errno, "cannot write a core to %s: %s (%s)",
			quoted, why, error_errno_name(os_errno));
	error_remedy(err, "%s", remedy);
	return ret;
}

static int fail_dir(struct coresnap_error *err, int os_errno, const char *path, size_t len)
{
	char quoted[SINK_NAME_SIZE];
	int ret;

	sink_quote(quoted, path, len);
	switch (os_errno) {
	case ENOENT:
		ret = error_set(err, CORESNAP_E_FAILED, os_errno,
				"the directory %s does not exist (ENOENT)", quoted);
		error_remedy(err, "create it with mkdir -p, or choose another directory");
		return ret;
	case ENOTDIR:
		ret = error_set(err, CORESNAP_E_FAILED, os_errno, "%s is not a directory (ENOTDIR)",
				quoted);
		error_remedy(err, "choose a directory");
		return ret;
	case EACCES:
		ret = error_set(err, CORESNAP_E_FAILED, os_errno,
				"user %u may not search the way to the directory %s (EACCES)",
				geteuid(), quoted);
		error_remedy(err, "choose a directory that user %u may reach, or run as its owner",
			     geteuid());
		return ret;
	default:
		ret = error_set(err, CORESNAP_E_FAILED, os_errno,
				"the directory %s cannot be opened (%s)", quoted,
				error_errno_name(os_errno));
		error_remedy(err, "choose another directory");
		return ret;
	}
}

static int fail_long(struct coresnap_error *err, const char *path, size_t len)
{
	return fail_name(err, ENAMETOOLONG, path, len, "a name in it has more than 255 bytes",
			 "choose a shorter name");
}

// Opens the directory part, component by component: no buffer for a whole path is needed on what
// may be a signal handler's stack, and the error can say which directory is missing. @name is
// working space of MAX_NAME + 1 bytes.
static int open_dir(const char *path, size_t len, char *name, struct coresnap_error *err)
{
	const int flags = O_PATH | O_DIRECTORY;
	int dir = sys_openat(AT_FDCWD, path[0] == '/' ? "/" : ".", flags, 0);
	size_t i = 0;

	if (dir < 0)
		return fail_dir(err, -dir, path[0] == '/' ? "/" : ".", 1);
	while (i < len) {
		size_t begin = i;

		while (i < len && path[i] != '/')
			i++;
		if (i - begin > MAX_NAME) {
			sys_close(dir);
			return fail_long(err, path, i);
		}
		memcpy(name, path + begin, i - begin);
		name[i - begin] = '\0';

		int next = name[0] ? sys_openat(dir, name, flags, 0) : dir;

		if (next != dir)
			sys_close(dir);
		if (next < 0)
			return fail_dir(err, -next, path, i);
		dir = next;
		while (i < len && path[i] == '/')
			i++;
	}
	return dir;
}

static int refuse_kind(const struct sink *sink, mode_t mode, struct coresnap_error *err)
{
	const char *path = sink->path;
	size_t len = strlen(path);

	switch (mode & S_IFMT) {
	case S_IFREG:
		return fail_name(
			err, EEXIST, path, len, "the file exists",
			"choose another name, or replace it with --force (CORESNAP_FORCE)");
	case S_IFDIR:
		return fail_name(err, EISDIR, path, len, "it is a directory",
				 "add a file name to it");
	case S_IFLNK:
		return fail_name(err, EEXIST, path, len, "it is a symbolic link",
				 "give the name of the file itself, or another name");
	case S_IFIFO:
		return fail_name(
			err, EEXIST, path, len, "it is a FIFO",
			"choose another name, or write to it by a descriptor: -o - > FIFO");
	case S_IFSOCK:
		return fail_name(err, EEXIST, path, len, "it is a socket", "choose another name");
	default:
		return fail_name(err, EEXIST, path, len, "it is a device", "choose another name");
	}
}

// Is the final name free, or a regular file that may be replaced?
static int check_name(const struct sink *sink, struct coresnap_error *err)
{
	size_t len = strlen(sink->path);
	struct statx st;
	int ret = sys_statx(sink->dir_fd, sink->name, AT_SYMLINK_NOFOLLOW, &st);

	if (ret == -ENOENT || (ret == 0 && sink->force && S_ISREG(st.stx_mode)))
		return 0;
	if (ret == 0)
		return refuse_kind(sink, st.stx_mode, err);
	if (ret == -ENAMETOOLONG)
		return fail_long(err, sink->path, len);
	return fail_name(err, -ret, sink->path, len, "whether the name is free cannot be seen",
			 "choose a directory that you may search and write to");
}

static int fail_create(const struct sink *sink, int os_errno, size_t dir_len,
		       struct coresnap_error *err)
{
	char quoted[SINK_NAME_SIZE];
	int ret;

	while (dir_len > 1 && sink->path[dir_len - 1] == '/')
		dir_len--;
	sink_quote(quoted, dir_len ? sink->path : ".", dir_len ? dir_len : 1);
	switch (os_errno) {
	case ENOSPC:
	case EDQUOT:
		ret = error_set(err, CORESNAP_E_NO_SPACE, os_errno,
				"no %s left for a file in the directory %s (%s): 0 bytes written",
				os_errno == ENOSPC ? "space or inode" : "disk quota", quoted,
				error_errno_name(os_errno));
		error_remedy(err, "free space or write to another file system");
		return ret;
	case EACCES:
	case EPERM:
		ret = error_set(err, CORESNAP_E_FAILED, os_errno,
				"user %u may not create files in the directory %s (%s)", geteuid(),
				quoted, error_errno_name(os_errno));
		error_remedy(err,
			     "choose a directory that user %u may write to, or run as its owner",
			     geteuid());
		return ret;
	case EROFS:
		ret = error_set(err, CORESNAP_E_FAILED, os_errno,
				"the directory %s is on a read-only file system (EROFS)", quoted);
		error_remedy(err, "write to another file system");
		return ret;
	default:
		ret = error_set(err, CORESNAP_E_FAILED, os_errno,
				"no file can be created in the directory %s (%s)", quoted,
				error_errno_name(os_errno));
		error_remedy(err, os_errno == ENOENT ? "it was removed, or takes no files (/proc): "
						       "choose another directory" :
						       "choose another directory");
		return ret;
	}
}

static int create_temp(struct sink *sink, size_t dir_len, struct coresnap_error *err)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_LARGEFILE;
	int fd = -EEXIST;

	// Taken names are of other threads, or left by a killed process that had our pid.
	for (unsigned int n = 0; fd == -EEXIST && n < MAX_TRIES; n++) {
		error_format(sink->temp, sizeof(sink->temp), ".coresnap-%d-%u.part", getpid(), n);
		fd = sys_openat(sink->dir_fd, sink->temp, flags, 0600);
	}
	if (fd < 0) {
		sink->temp[0] = '\0'; // not ours
		return fail_create(sink, -fd, dir_len, err);
	}
	sink->fd = fd;
	sink->own_fd = true;
	sink->on_disk = true;
	sink->seekable = true;

	struct statx st;

	// The umask may have taken bits from 0600. File systems without modes refuse the change,
	// and show their files to whom their mount options say.
	if (sys_call(SYS_fchmod, fd, 0600) < 0 &&
	    (sys_statx(fd, "", AT_EMPTY_PATH, &st) < 0 || (st.stx_mode & 077)))
		return fail_name(err, EPERM, sink->path, strlen(sink->path),
				 "its file system would show the core to other users",
				 "write to a file system with permissions");
	return 0;
}

int sink_file_open(struct sink *sink, struct coresnap_error *err)
{
	const char *path = sink->path;
	size_t len = path ? strlen(path) : 0;
	int ret;

	if (!len) {
		ret = error_set(err, CORESNAP_E_USAGE, ENOENT,
				"the name of the core is empty (ENOENT)");
		error_remedy(err, "give a file name");
		return ret;
	}

	size_t dir_len = len;

	while (dir_len && path[dir_len - 1] != '/')
		dir_len--;

	const char *last = path + dir_len;

	if (!last[0] || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return fail_name(err, EISDIR, path, len, "it names a directory",
				 "add a file name to it");
	if (len - dir_len > MAX_NAME)
		return fail_long(err, path, len);
	sink->dir_fd = open_dir(path, dir_len, sink->name, err);
	if (sink->dir_fd < 0)
		return sink->dir_fd;
	memcpy(sink->name, last, len - dir_len + 1);
	ret = check_name(sink, err);
	if (ret < 0)
		return ret;
	return create_temp(sink, dir_len, err);
}

void sink_file_discard(struct sink *sink)
{
	if (sink->temp[0])
		(void)sys_call(SYS_unlinkat, sink->dir_fd, sink->temp, 0);
	sink->temp[0] = '\0';
}

// Gives the temporary file its final name unless that exists by now: 0 or a negative errno.
static int rename_new(struct sink *sink)
{
	int dir = sink->dir_fd;
	int ret = (int)sys_call(SYS_renameat2, dir, sink->temp, dir, sink->name, RENAME_NOREPLACE);

	// File systems refuse flags they do not know by EINVAL (NFS); the call itself is of 3.15.
	// link(2) is as exclusive.
	if (ret == -EINVAL || ret == -ENOSYS) {
		ret = (int)sys_call(SYS_linkat, dir, sink->temp, dir, sink->name, 0);
		if (ret == 0)
			(void)sys_call(SYS_unlinkat, dir, sink->temp, 0);
	}
	return ret;
}

int sink_file_publish(struct sink *sink, struct coresnap_error *err)
{
	// NFS reports at a close what it could not write, and at that of a duplicate as well. The
	// descriptor itself stays: in the dumper's process it is a copy, which its opener closes.
	const int copy = (int)sys_call(SYS_fcntl, sink->fd, F_DUPFD_CLOEXEC, 0);
	int ret = copy < 0 ? 0 : sys_close(copy);

	if (ret < 0 && ret != -EINTR)
		return sink_write_error(sink, -ret, err);
	if (sink->force) {
		ret = check_name(sink, err);
		if (ret < 0)
			return ret;
		ret = (int)sys_call(SYS_renameat2, sink->dir_fd, sink->temp, sink->dir_fd,
				    sink->name, 0);
	} else {
		ret = rename_new(sink);
	}
	if (ret == -EEXIST)
		return fail_name(
			err, EEXIST, sink->path, strlen(sink->path),
			"somebody else made a file of that name meanwhile",
			"choose another name, or replace it with --force (CORESNAP_FORCE)");
	if (ret < 0)
		return fail_name(err, -ret, sink->path, strlen(sink->path),
				 "the complete core could not be given its name",
				 "choose another name or directory");
	sink->temp[0] = '\0';
	return 0;
}
