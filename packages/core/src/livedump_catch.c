// SPDX-License-Identifier: BSD-3-Clause
// Where coresnap-catch comes to. tools/coresnap-catch.c says what both may believe of each other.
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "cleanup.h"
#include "livedump_parts.h"
#include "procfs.h"

#define WAITING  16
#define PATIENCE 2 // seconds for a message of root's, who sends it at once

static int make_token(uint64_t *ret)
{
	uint64_t random;

	if (sys_retry(SYS_getrandom, &random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	*ret = (random & (LIVEDUMP_TOKEN_MOST >> 1)) | 1ull << LIVEDUMP_TOKEN_BITS;
	return 0;
}

static int read_place(struct livedump_catch *to, const struct target *target,
		      struct coresnap_error *err)
{
	char text[4096];
	struct procfs_stat stat;

	if (procfs_read(target->proc_fd, "stat", text, sizeof(text)) <= 0 ||
	    !procfs_parse_stat(text, &stat)) {
		coresnap_livedump_error(target->pid, ESRCH, err);
		return -ESRCH;
	}
	if (!stat.start_stack) {
		coresnap_livedump_error(target->pid, EACCES, err);
		return -EACCES;
	}
	to->start_stack = stat.start_stack;
	to->arg_start = stat.arg_start;
	return 0;
}

static int bind_token(struct livedump_catch *to)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int ret = make_token(&to->token);

	if (ret < 0)
		return ret;
	const int length = error_format(name.sun_path + 1, sizeof(name.sun_path) - 1,
					"coresnap-catch/%llu", (unsigned long long)to->token);

	ret = (int)sys_call(SYS_bind, to->listener, &name,
			    offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
	return ret < 0 ? ret : (int)sys_call(SYS_listen, to->listener, WAITING);
}

int livedump_catch_open(struct livedump_catch *to, const struct target *target,
			struct coresnap_error *err)
{
	int ret = read_place(to, target, err);

	if (ret < 0)
		return ret;
	to->listener = (int)sys_call(SYS_socket, AF_UNIX,
				     SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ret = to->listener < 0 ? to->listener : bind_token(to);
	if (ret < 0)
		return error_set(err, CORESNAP_E_FAILED, -ret,
				 "no socket can be made for coresnap-catch: %s",
				 error_errno_name(-ret));
	return 0;
}

void livedump_catch_close(struct livedump_catch *to)
{
	close_once(&to->listener);
}

static bool is_root(int fd)
{
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t size = sizeof(who);

	return sys_call(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 &&
	       who.uid == 0;
}

static bool is_ours(const struct livedump_catch *to, const char *text)
{
	const char *at = text;

	if (procfs_number(at, 10, &at) != 1 || *at++ != ' ')
		return false;
	procfs_number(at, 10, &at); // the copy's own number
	if (*at++ != ' ' || procfs_number(at, 10, &at) != to->start_stack || *at++ != ' ')
		return false;
	return procfs_number(at, 10, &at) == to->arg_start && *at == '\0';
}

// A message and the descriptor with it; -1 if it has none.
static int receive(int fd, char *text, size_t size)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec part = { .iov_base = text, .iov_len = size - 1 };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	const long n = sys_retry(SYS_recvmsg, fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	int got = -1;

	text[n > 0 ? n : 0] = '\0';
	if (n > 0 && message.msg_controllen >= CMSG_LEN(sizeof(int)) &&
	    control.head.cmsg_level == SOL_SOCKET && control.head.cmsg_type == SCM_RIGHTS)
		memcpy(&got, CMSG_DATA(&control.head), sizeof(got));
	return got;
}

int livedump_catch_accept(struct livedump_catch *to)
{
	char text[128];
	const int fd guard(guard_close) =
		(int)sys_call(SYS_accept4, to->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0 || !is_root(fd))
		return -EAGAIN;
	struct pollfd poll = { .fd = fd, .events = POLLIN };
	struct timespec patience = { .tv_sec = PATIENCE };

	if (sys_retry(SYS_ppoll, &poll, 1, &patience, NULL, 0) <= 0)
		return -EAGAIN;
	const int pipe = receive(fd, text, sizeof(text));

	if (pipe >= 0 && is_ours(to, text) &&
	    sys_call(SYS_sendto, fd, "y", 1, MSG_NOSIGNAL, NULL, 0) == 1)
		return pipe;
	to->turned_away++;
	if (pipe >= 0)
		sys_close(pipe);
	return -EAGAIN;
}
