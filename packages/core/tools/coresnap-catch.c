/* SPDX-License-Identifier: BSD-3-Clause */
// coresnap-catch: a program for core_pattern that hands the cores which coresnap asked for to it,
// and every other core to the program that would have got it.
//
//   |/usr/bin/coresnap-catch %P %c [HANDLER [ARGUMENT...]]
//
// W: coresnap   K: the kernel   H: this program, which K starts as root with the core as its stdin
//
//   W: listens on the abstract socket "coresnap-catch/TOKEN"
//   W: writes core_limit=TOKEN to /proc/PID/livedump
//   K: makes the copy of PID, starts H, whose second argument is the copy's core limit
//   H: is it a token, and the process a copy by livedump? If not: HANDLER
//   H: connects to the token's socket; nobody there, or one who may not: HANDLER
//   H: sends what it sees of the copy, and its stdin itself
//   W: is this root, and a copy of PID? Says yes, and reads the core from K's own pipe
//   H: ends. Without a yes: HANDLER
//
// The token is a core limit that stands for "as good as unlimited". Nothing limits a core in a pipe
// but the value 1 (do_coredump() in fs/coredump.c), and %c hands it on, so the kernel needs no word
// of its own for this.
//
// Who may get a core. The token is random, and W has its socket before anybody can know it; once
// there is a copy, everybody can read it in /proc/COPY/limits. So it opens nothing by itself:
// - No crash of a user's process comes to a socket: its parent is not kthreadd, as a copy's is.
// - W gets the core if it is root, or if all user and group ids of the copy are its own and the
//   copy is dumpable: then a core in a file would be that user's to read, too.
// - W takes it from root only, and only if the copy has the place of stack and arguments of the
//   process that W asked for; a dump by somebody else with the same token is sent away.
//
// An ordinary crash is told by its arguments or, if its limit looks like a token, by one look at
// /proc, and goes to HANDLER at once. The core is not copied here: when W goes away the pipe is
// closed, and K ends the dump.
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define KTHREADD 2
#define PATIENCE 10 // seconds for W, which has nothing else to do
#define TEXT     8192

static const char help[] =
	"Usage: coresnap-catch PID LIMIT [HANDLER [ARGUMENT...]]\n"
	"Hand a core that coresnap waits for to it, and any other one to HANDLER. For the kernel:\n"
	"\n"
	"  sysctl kernel.core_pipe_limit=16 \\\n"
	"    kernel.core_pattern='|/usr/bin/coresnap-catch %P %c HANDLER ARGUMENT...'\n"
	"\n"
	"HANDLER is an absolute path, such as the program that core_pattern named before. Without one\n"
	"cores of crashes are lost.\n";

// What H sees of the copy.
struct copy {
	int ppid;
	int pid; // as it sees itself
	unsigned int uids[4], gids[4];
	unsigned long long start_stack, arg_start;
	bool dumpable; // its core would be a file of its user
};

// The kernel's programs have no standard error; who tries this one has.
static void say(const char *what, const char *about)
{
	char line[512];
	const bool tried = fcntl(STDERR_FILENO, F_GETFD) >= 0;
	const int fd = tried ? STDERR_FILENO : open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	const int length = snprintf(line, sizeof(line), "%scoresnap-catch: %s: %s\n",
				    tried ? "" : "<5>", what, about);

	if (fd < 0 || length < 0)
		return;
	if (write(fd, line, (size_t)length < sizeof(line) ? (size_t)length : sizeof(line) - 1) < 0)
		return;
}

// Digits and nothing else.
static bool parse_number(const char *text, unsigned long long *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

// As src/livedump_catch.c makes them: of 63 bits, or of 31 by programs of 32 bits.
static bool is_token(const char *limit)
{
	unsigned long long number;

	return parse_number(limit, &number) && (number >> 62 == 1 || number >> 30 == 1);
}

static bool read_text(int dir, const char *name, char text[TEXT])
{
	const int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	size_t have = 0;
	ssize_t n = fd < 0 ? -1 : 1;

	while (n > 0 && have < TEXT - 1) {
		n = read(fd, text + have, TEXT - 1 - have);
		have += n > 0 ? (size_t)n : 0;
	}
	text[have] = '\0';
	if (fd >= 0)
		close(fd);
	return n >= 0 && have > 0;
}

// The fields behind the name, which may hold anything: see proc(5).
static bool parse_stat(const char *text, struct copy *copy)
{
	const char *at = strrchr(text, ')');
	int field = 2;

	for (; at && (at = strchr(at, ' ')) && field < 48; field++) {
		at++;
		if (field + 1 == 4)
			copy->ppid = (int)strtol(at, NULL, 10);
		if (field + 1 == 28)
			copy->start_stack = strtoull(at, NULL, 10);
		if (field + 1 == 48)
			copy->arg_start = strtoull(at, NULL, 10);
	}
	return field == 48;
}

static bool parse_ids(const char *text, const char *name, unsigned int ids[4])
{
	const char *const line = strstr(text, name);

	return line && sscanf(line + strlen(name), "%u %u %u %u", &ids[0], &ids[1], &ids[2],
			      &ids[3]) == 4;
}

// The name, which comes first, has its newlines escaped.
static bool parse_status(const char *text, struct copy *copy)
{
	const char *const line = strstr(text, "\nNSpid:");
	const char *const end = line ? strchr(line + 1, '\n') : NULL;
	const char *at = end;

	while (at && at > line && at[-1] != '\t' && at[-1] != ' ')
		at--;
	copy->pid = at ? (int)strtol(at, NULL, 10) : 0;
	return copy->pid > 0 && parse_ids(text, "\nUid:", copy->uids) &&
	       parse_ids(text, "\nGid:", copy->gids);
}

// False if it is gone, or no copy by livedump.
static bool look(const char *pid, struct copy *copy)
{
	char path[64], text[TEXT];
	unsigned long long number;
	struct stat owner;

	if (!parse_number(pid, &number))
		return false;
	snprintf(path, sizeof(path), "/proc/%llu", number);
	const int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	*copy = (struct copy){ 0 };
	const bool seen = dir >= 0 && read_text(dir, "stat", text) && parse_stat(text, copy) &&
			  copy->ppid == KTHREADD && read_text(dir, "status", text) &&
			  parse_status(text, copy) && fstatat(dir, "status", &owner, 0) == 0;

	copy->dumpable = seen && owner.st_uid == copy->uids[1];
	if (dir >= 0)
		close(dir);
	return seen;
}

static bool all_are(const unsigned int ids[4], unsigned int id)
{
	return ids[0] == id && ids[1] == id && ids[2] == id && ids[3] == id;
}

static bool may_have(const struct ucred *who, const struct copy *copy)
{
	return who->uid == 0 || (copy->dumpable && all_are(copy->uids, who->uid) &&
				 all_are(copy->gids, who->gid));
}

// Connects to the one who waits with this token: a descriptor, or -1 if there is none who may.
static int find_waiting(const char *token, const struct copy *copy)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const struct timeval patience = { .tv_sec = PATIENCE };
	struct ucred who = { 0 };
	socklen_t size = sizeof(who);
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	// The kernel started us without descriptors 1 and 2, and HANDLER shall have none either.
	if (fd < 0)
		return -1;
	const int length =
		snprintf(to.sun_path + 1, sizeof(to.sun_path) - 1, "coresnap-catch/%s", token);

	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
	    connect(fd, (const struct sockaddr *)&to,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) == 0) {
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 &&
		    may_have(&who, copy))
			return fd;
		say("whoever waits for it may not have the core of limit", token);
	}
	close(fd);
	return -1;
}

// Gives our standard input away; true if it was taken.
static bool hand_over(int to, const struct copy *copy)
{
	char text[128], answer = 'n';
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	const int length = snprintf(text, sizeof(text), "1 %d %llu %llu", copy->pid,
				    copy->start_stack, copy->arg_start);
	struct iovec part = { .iov_base = text, .iov_len = (size_t)length };
	const struct msghdr message = { .msg_iov = &part,
					.msg_iovlen = 1,
					.msg_control = &control,
					.msg_controllen = sizeof(control) };

	control.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
					 .cmsg_level = SOL_SOCKET,
					 .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.head), &(int){ STDIN_FILENO }, sizeof(int));
	return sendmsg(to, &message, MSG_NOSIGNAL) == length && recv(to, &answer, 1, 0) == 1 &&
	       answer == 'y';
}

static bool caught(const char *pid, const char *limit)
{
	struct copy copy;

	if (!is_token(limit) || !look(pid, &copy))
		return false;
	const int waiting = find_waiting(limit, &copy);

	if (waiting < 0)
		return false;
	const bool taken = hand_over(waiting, &copy);

	close(waiting);
	return taken;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return fputs(help, stdout) < 0;
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return puts("coresnap-catch " VERSION) < 0;
	if (argc < 3) {
		say("it takes a process id and a core limit", "see coresnap-catch --help");
		return 2;
	}
	if (caught(argv[1], argv[2]))
		return 0;
	if (argc == 3) {
		say("there is no HANDLER, so there is no core of process", argv[1]);
		return 1;
	}
	if (argv[3][0] == '/')
		execv(argv[3], argv + 3);
	else
		errno = EINVAL; // the kernel, too, wants an absolute path
	say(strerror(errno), argv[3]);
	return 1;
}
