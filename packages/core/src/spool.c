/* SPDX-License-Identifier: BSD-3-Clause */
#include "spool.h"

#include "cleanup.h"
#include "sink_parts.h"
#include "sys.h"

#ifndef O_TMPFILE
#define O_TMPFILE 020200000
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

static int fail(struct coresnap_error *err, int ret, const char *what)
{
	const enum coresnap_code code =
		ret == -ENOSPC || ret == -EDQUOT ? CORESNAP_E_NO_SPACE : CORESNAP_E_FAILED;

	if (ret == -EFBIG)
		error_remedy(err, "Raise the limit on the size of files (ulimit -f unlimited), or use "
				  "the method fork");
	else
		error_remedy(err, "Free some space, write to another directory, or use the method "
				  "fork");
	return error_set(err, code, -ret, "memory cannot be copied ahead: %s: %s", what,
			 error_errno_name(-ret));
}

static int open_in_memory(void)
{
	const int fd = (int)sys_call(SYS_memfd_create, "coresnap-spool",
				     1u /* MFD_CLOEXEC */ | MFD_NOEXEC_SEAL);

	return fd == -EINVAL ? (int)sys_call(SYS_memfd_create, "coresnap-spool", 1u) : fd;
}

// File systems without O_TMPFILE have names.
static int open_named(int dir)
{
	char name[64];

	error_format(name, sizeof(name), ".coresnap-%d.spool", (int)sys_call(SYS_getpid));
	const int fd = sys_openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_LARGEFILE,
				  0600);

	if (fd >= 0)
		sys_call(SYS_unlinkat, dir, name, 0);
	return fd;
}

static int open_in(int dir, const char *path)
{
	const int fd = sys_openat(dir, path, O_TMPFILE | O_RDWR | O_LARGEFILE, 0600);
	const int under guard(guard_close) =
		fd >= 0 ? -1 : sys_openat(dir, path, O_PATH | O_DIRECTORY, 0);

	return fd >= 0 || under < 0 ? fd : open_named(under);
}

static int open_where(const struct sink *sink, bool in_memory)
{
	if (in_memory)
		return open_in_memory();
	return sink->dir_fd >= 0 ? open_in(sink->dir_fd, ".") : open_in(AT_FDCWD, "/var/tmp");
}

static bool has_room(const struct room *room, int fd, uint64_t need)
{
	struct room_seen seen;

	return !room_look(room, fd, &seen) || room_fits(&seen, need);
}

static int too_full(const struct sink *sink, struct coresnap_error *err)
{
	const bool beside = sink->dir_fd >= 0;
	char what[128];

	error_format(what, sizeof(what),
		     "%s is too full: no space left for %s, for the time of the dump%s",
		     beside ? "the file system" : "/var/tmp", beside ? "twice the core" : "the core",
		     sink->room.min_free ? ", and what is to stay free" : "");
	return fail(err, -ENOSPC, what);
}

bool spool_open_core(struct spool *spool, const struct sink *sink, uint64_t need)
{
	// Of what is copied too early holes are made later.
	if (sys_punch_hole(sink->fd, 0, 4096) < 0 || !has_room(&sink->room, sink->fd, need))
		return false;
	*spool = (struct spool){ .fd = sink->fd, .is_core = true, .room = sink->room };
	return true;
}

int spool_open(struct spool *spool, const struct sink *sink, uint64_t need, bool in_memory,
	       struct coresnap_error *err)
{
	*spool = SPOOL_NONE;
	spool->fd = open_where(sink, in_memory);
	if (spool->fd < 0)
		return fail(err, spool->fd, "no temporary file");
	if (sink->dir_fd >= 0 && !in_memory)
		need *= 2;
	spool->room = sink->room;
	if (has_room(&spool->room, spool->fd, need))
		return 0;
	spool_close(spool);
	return too_full(sink, err);
}

int spool_write(struct spool *spool, uint64_t offset, const void *bytes, size_t size,
		struct coresnap_error *err)
{
	// Of a limit on the size of files.
	struct sink_signals signals guard(sink_signals_release);
	struct room_seen seen;

	sink_signals_hold(&signals);
	for (size_t done = 0; done < size;) {
		const ssize_t n = sys_pwrite(spool->fd, (const char *)bytes + done, size - done,
					     offset + done);

		sink_signals_note(&signals, n < 0 ? (int)-n : 0);
		if (n <= 0)
			return fail(err, n ? (int)n : -EIO,
				    n == -ENOSPC ? "the file system is full" :
						   "writing it down");
		done += (size_t)n;
	}
	if (room_lasts(&spool->room, spool->fd, size, false, &seen))
		return 0;
	return fail(err, -ENOSPC, "no space left but for what is to stay free");
}

void spool_close(struct spool *spool)
{
	if (spool->is_core && spool->fd >= 0)
		(void)sys_ftruncate(spool->fd, 0);
	else
		close_once(&spool->fd);
	*spool = SPOOL_NONE;
}
