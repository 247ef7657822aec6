// SPDX-License-Identifier: BSD-3-Clause
// The bytes of every kind of output: pieces, waiting, cancelling, and what a failed write means.
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "cleanup.h"
#include "sink_parts.h"
#include "sys.h"

#define PIECE      ((size_t)1 << 20)
#define WAIT_NS    (20L * 1000 * 1000)
#define CHECK_NS   (10u * 1000 * 1000)
#define ZEROS_SIZE ((size_t)65536) // the capacity of a pipe that nobody changed

// A kernel struct timespec as the system calls without "time64" take it.
struct old_timespec {
	long sec;
	long nsec;
};

void sink_quote(char buf[SINK_NAME_SIZE], const char *path, size_t len)
{
	const size_t max = SINK_NAME_SIZE - sizeof("\"...\"");
	bool clip = len > max;

	error_format(buf, SINK_NAME_SIZE, "\"%s%.*s\"", clip ? "..." : "", (int)(clip ? max : len),
		     clip ? path + len - max : path);
}

void sink_describe(const struct sink *sink, char buf[SINK_NAME_SIZE])
{
	if (sink->kind == CORESNAP_TO_PATH)
		sink_quote(buf, sink->path, strlen(sink->path));
	else if (sink->kind == CORESNAP_TO_FD)
		error_format(buf, SINK_NAME_SIZE, "descriptor %d", sink->user_fd);
	else
		error_format(buf, SINK_NAME_SIZE, "the memory file");
}

static uint64_t bit(int signal)
{
	return (uint64_t)1 << (signal - 1);
}

void sink_signals_hold(struct sink_signals *signals)
{
	uint64_t set = bit(SIGXFSZ) | bit(SIGPIPE);

	*signals = (struct sink_signals){ 0 };
	(void)sys_call(SYS_rt_sigprocmask, SIG_BLOCK, &set, &signals->old, sizeof(set));
	// What was not blocked cannot have been pending: it would have been delivered.
	if (signals->old & set)
		(void)sys_call(SYS_rt_sigpending, &signals->pending, sizeof(set));
}

void sink_signals_note(struct sink_signals *signals, int os_errno)
{
	if (os_errno == EFBIG)
		signals->raised |= bit(SIGXFSZ);
	if (os_errno == EPIPE)
		signals->raised |= bit(SIGPIPE);
}

// Both signals are sent to the writing thread (send_sig(..., current, 0) in Linux mm/filemap.c,
// fs/read_write.c and fs/pipe.c), and a blocked signal becomes pending even when it is ignored: so
// it can be taken back.
void sink_signals_release(struct sink_signals *signals)
{
	uint64_t set = signals->raised & ~signals->pending;
	struct old_timespec none = { 0, 0 };

	if (set)
		(void)sys_retry(SYS_rt_sigtimedwait, &set, NULL, &none, sizeof(set));
	(void)sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &signals->old, NULL, sizeof(set));
}

int sink_check(struct sink *sink, bool now, struct coresnap_error *err)
{
	char subject[SINK_NAME_SIZE];
	uint64_t time;

	if (!sink->cancel.check)
		return 0;
	time = sys_now_ns();
	if (!now && sink->unchecked < PIECE && time - sink->checked_ns < CHECK_NS)
		return 0;
	sink->unchecked = 0;
	sink->checked_ns = time;
	if (!sink->cancel.check(sink->cancel.arg))
		return 0;
	sink_describe(sink, subject);
	return error_set(err, CORESNAP_E_CANCELLED, ECANCELED,
			 "cancelled while writing to %s (ECANCELED) after %llu bytes", subject,
			 (unsigned long long)sink->written);
}

// Returns when a write may succeed, or must be tried to learn why it will not.
static int wait_writable(struct sink *sink, struct coresnap_error *err)
{
	for (;;) {
		struct pollfd fd = { .fd = sink->fd, .events = POLLOUT };
		struct old_timespec timeout = { 0, WAIT_NS };
		long ready = sys_call(SYS_ppoll, &fd, 1, &timeout, NULL, sizeof(uint64_t));

		if (ready > 0)
			return 0;
		if (ready < 0 && ready != -EINTR)
			return sink_write_error(sink, (int)-ready, err);

		int ret = sink_check(sink, true, err);

		if (ret < 0)
			return ret;
	}
}

// One system call: bytes written, or a negative errno. EINTR is not retried here, so that a
// handler that asks to stop is heard.
static ssize_t write_once(const struct sink *sink, uint64_t offset, const uint8_t *bytes,
			  size_t size)
{
	if (size > PIECE)
		size = PIECE;
	if (sink->seekable)
		return sys_pwrite(sink->fd, bytes, size, sink->start + offset);
	if (sink->socket)
		return sys_call(SYS_sendto, sink->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL,
				NULL, 0);
	// POLLOUT of a pipe means a free page, which takes this much without blocking.
	if (sink->poll_first && size > PIPE_BUF)
		size = PIPE_BUF;
	return sys_call(SYS_write, sink->fd, bytes, size);
}

int sink_write(struct sink *sink, uint64_t offset, const uint8_t *bytes, size_t size,
	       struct coresnap_error *err)
{
	struct sink_signals signals guard(sink_signals_release);

	sink_signals_hold(&signals);
	while (size) {
		int ret = sink_check(sink, false, err);

		if (ret == 0 && sink->poll_first)
			ret = wait_writable(sink, err);
		if (ret < 0)
			return ret;

		ssize_t done = write_once(sink, offset, bytes, size);

		if (done == -EAGAIN)
			ret = wait_writable(sink, err);
		else if (done == -EINTR)
			ret = sink_check(sink, true, err);
		else if (done <= 0)
			ret = sink_write_error(sink, done ? (int)-done : EIO, err);
		if (ret < 0) {
			sink_signals_note(&signals, (int)-done);
			return ret;
		}
		if (done < 0)
			continue;
		bytes += done;
		size -= (size_t)done;
		offset += (uint64_t)done;
		sink->written += (uint64_t)done;
		sink->unchecked += (uint64_t)done;
		ret = sink_check_room(sink, (uint64_t)done, false, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int sink_write_zeros(struct sink *sink, uint64_t offset, uint64_t size, struct coresnap_error *err)
{
	static uint8_t zeros[ZEROS_SIZE]; // not const: .bss costs nothing in the file

	while (size) {
		size_t piece = size < ZEROS_SIZE ? (size_t)size : ZEROS_SIZE;
		int ret = sink_write(sink, offset, zeros, piece, err);

		if (ret < 0)
			return ret;
		offset += piece;
		size -= piece;
	}
	return 0;
}

int sink_set_size(struct sink *sink, struct coresnap_error *err)
{
	uint64_t size = sink->start + sink->out;

	// Of a caller's file the rest stays.
	if (sink->kind == CORESNAP_TO_FD && size <= sink->prior_size)
		return 0;

	// The limit on the size of files, and its signal, hold here too.
	struct sink_signals signals guard(sink_signals_release);

	sink_signals_hold(&signals);

	int ret = sys_ftruncate(sink->fd, size);

	if (ret < 0) {
		sink_signals_note(&signals, -ret);
		return sink_write_error(sink, -ret, err);
	}
	return 0;
}

static int no_space(const struct sink *sink, const char *subject, int os_errno,
		    struct coresnap_error *err)
{
	char need[64] = "", written[32], size[32];
	struct room_seen seen;
	int ret = error_set(err, CORESNAP_E_NO_SPACE, os_errno, "%s for %s (%s) after %s",
			    os_errno == EDQUOT ? "the disk quota is used up" : "no space left",
			    subject, error_errno_name(os_errno),
			    error_size(written, sizeof(written), sink->written));

	if (sink->expected)
		error_format(need, sizeof(need), ": the core needs at most %s",
			     error_size(size, sizeof(size), sink->expected));
	if (sink->kind == CORESNAP_TO_MEMORY)
		error_remedy(err, "write to a file%s", need);
	else if (os_errno == ENOSPC && sink->on_disk && room_look(&sink->room, sink->fd, &seen))
		error_remedy(err,
			     "free space, or write to another file system%s, and without it %s are "
			     "free here",
			     need,
			     error_size(size, sizeof(size), seen.free + sink->written));
	else
		error_remedy(err, "free space, or write to another file system%s", need);
	return ret;
}

static int too_big(const struct sink *sink, const char *subject, struct coresnap_error *err)
{
	struct rlimit64 limit = { 0 };
	uint64_t end = sink->start + sink->out;
	int ret;

	if (sys_call(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &limit) == 0 && end > limit.rlim_cur) {
		ret = error_set(err, CORESNAP_E_FAILED, EFBIG,
				"%s would exceed the limit on the size of files, %llu bytes "
				"(EFBIG, RLIMIT_FSIZE)",
				subject, (unsigned long long)limit.rlim_cur);
		error_remedy(err, "raise the limit (ulimit -f unlimited) or write to a pipe");
		return ret;
	}
	ret = error_set(err, CORESNAP_E_FAILED, EFBIG,
			"%s cannot be as large as the core, more than %llu bytes (EFBIG)", subject,
			(unsigned long long)end);
	error_remedy(err, "write to a file system with larger files (xfs, btrfs, tmpfs), or leave "
			  "large mappings out");
	return ret;
}

int sink_write_error(const struct sink *sink, int os_errno, struct coresnap_error *err)
{
	char subject[SINK_NAME_SIZE];
	int ret;

	sink_describe(sink, subject);
	if (os_errno == ENOSPC || os_errno == EDQUOT)
		return no_space(sink, subject, os_errno, err);
	if (os_errno == EFBIG)
		return too_big(sink, subject, err);
	if (os_errno == EPIPE || os_errno == ECONNRESET) {
		ret = error_set(err, CORESNAP_E_FAILED, os_errno,
				"the reader of %s went away (%s) after %llu bytes", subject,
				error_errno_name(os_errno), (unsigned long long)sink->written);
		error_remedy(err, "find out why the receiving program ended before the core did");
		return ret;
	}
	ret = error_set(err, CORESNAP_E_FAILED, os_errno,
			"writing to %s failed (%s) after %llu bytes", subject,
			error_errno_name(os_errno), (unsigned long long)sink->written);
	if (os_errno == EIO)
		error_remedy(err, "the device or its server reports a fault: see the kernel log "
				  "(dmesg), write elsewhere");
	else if (os_errno == ENOMEM)
		error_remedy(err, "memory is short: write to a file on a disk");
	else
		error_remedy(err, "write to a regular file or a pipe");
	return ret;
}
