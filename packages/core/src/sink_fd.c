// SPDX-License-Identifier: BSD-3-Clause
// A descriptor of the caller: a pipe, a socket, a file, something like /dev/null.
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "sink_parts.h"
#include "sys.h"

static int refuse(struct coresnap_error *err, int os_errno, int fd, const char *why,
		  const char *remedy)
{
	int ret = error_set(err, CORESNAP_E_USAGE, os_errno,
			    "cannot write a core to descriptor %d: %s (%s)", fd, why,
			    error_errno_name(os_errno));

	error_remedy(err, "%s", remedy);
	return ret;
}

// A nonblocking description of our own: O_NONBLOCK on the caller's would be seen by everybody who
// shares it. The open fails where the pipe belongs to another user, or without /proc.
static void open_pipe(struct sink *sink)
{
	char link[32];

	error_format(link, sizeof(link), "/proc/self/fd/%d", sink->user_fd);

	int fd = sys_openat(AT_FDCWD, link, O_WRONLY | O_NONBLOCK, 0);

	if (fd < 0) {
		sink->poll_first = true;
		return;
	}
	sink->fd = fd;
	sink->own_fd = true;
}

static int open_socket(struct sink *sink, struct coresnap_error *err)
{
	int type = 0;
	socklen_t len = sizeof(type);

	if (sys_call(SYS_getsockopt, sink->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
	    type != SOCK_STREAM)
		return refuse(err, EPROTOTYPE, sink->fd, "it is a socket of messages",
			      "give a stream socket or a pipe");
	sink->socket = true;
	return 0;
}

// Bytes go where the descriptor stands, by offset; the position is set once at the end.
static void open_regular(struct sink *sink, const struct statx *st, long flags)
{
	if (flags & O_APPEND)
		return; // Linux appends then whatever the offset: pwrite(2), BUGS

	int64_t start = sys_lseek(sink->fd, 0, SEEK_CUR);

	if (start < 0)
		return;
	sink->seekable = true;
	sink->start = (uint64_t)start;
	sink->prior_size = (uint64_t)st->stx_size;
}

int sink_fd_open(struct sink *sink, struct coresnap_error *err)
{
	uint8_t termios[256]; // larger than any architecture's
	int fd = sink->user_fd;
	long flags = sys_call(SYS_fcntl, fd, F_GETFL);
	struct statx st;

	if (flags < 0 || sys_statx(fd, "", AT_EMPTY_PATH, &st) < 0)
		return refuse(err, EBADF, fd, "it is not open", "give an open descriptor");
	if (sys_call(SYS_ioctl, fd, TCGETS, termios) == 0)
		return refuse(err, EINVAL, fd, "it is a terminal, and a core is binary",
			      "name a file with -o FILE, or redirect the output: > FILE");
	if ((flags & O_PATH) || (flags & O_ACCMODE) == O_RDONLY)
		return refuse(err, EBADF, fd, "it is not open for writing", "open it for writing");
	sink->fd = fd;
	switch (st.stx_mode & S_IFMT) {
	case S_IFREG:
		sink->on_disk = true;
		open_regular(sink, &st, flags);
		return 0;
	case S_IFIFO:
		open_pipe(sink);
		return 0;
	case S_IFSOCK:
		return open_socket(sink, err);
	case S_IFBLK:
		return refuse(err, EINVAL, fd, "it is a block device, whose content would be lost",
			      "write to a file or a pipe");
	default:
		return 0;
	}
}

int sink_fd_finish(struct sink *sink, struct coresnap_error *err)
{
	int64_t ret = 0;

	if (sink->seekable)
		ret = sys_lseek(sink->fd, (int64_t)(sink->start + sink->out), SEEK_SET);
	return ret < 0 ? sink_write_error(sink, (int)-ret, err) : 0;
}

// A file that only grew is cut back to what it was. The position was never moved.
void sink_fd_discard(struct sink *sink)
{
	if (sink->seekable && sink->written)
		(void)sys_ftruncate(sink->fd, sink->prior_size);
}
