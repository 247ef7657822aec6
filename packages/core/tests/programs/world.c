/* SPDX-License-Identifier: BSD-3-Clause */
// A process to dump that does, line by line of its standard input, what it is told, and answers each
// by a line: "ok", a number, or "errno NUMBER". It says "ready" first.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct stamps {
	volatile int pid;     // the last that stamped
	volatile int foreign; // how often that was not this process
	volatile long rounds;
};

static struct stamps *stamps;
static volatile sig_atomic_t sigchld_count;
static sem_t started;

static void count_sigchld(int signal)
{
	(void)signal;
	sigchld_count++;
}

static void answer(long result)
{
	if (result < 0)
		printf("errno %d\n", errno);
	else
		puts("ok");
}

static void answer_number(long result)
{
	if (result < 0)
		printf("errno %d\n", errno);
	else
		printf("%ld\n", result);
}

static struct sockaddr_in loopback(const char *port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)atoi(port)),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

// The port that it listens on.
static long do_listen(const char *port)
{
	struct sockaddr_in address = loopback(port);
	socklen_t size = sizeof(address);
	const int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 1) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		return -1;
	return ntohs(address.sin_port);
}

// The descriptor of the connection.
static long do_connect(const char *port)
{
	const struct sockaddr_in address = loopback(port);
	const int fd = socket(AF_INET, SOCK_STREAM, 0);

	return connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -1 : fd;
}

static long do_lock(const char *path, int (*lock)(int fd))
{
	const int fd = open(path, O_RDWR | O_CREAT, 0600);

	return fd < 0 ? -1 : lock(fd);
}

static int lock_whole(int fd)
{
	return flock(fd, LOCK_EX | LOCK_NB);
}

static int lock_record(int fd)
{
	return lockf(fd, F_TLOCK, 0);
}

static void *wait_for_ever(void *arg)
{
	sem_post(&started);
	for (;;)
		pause();
	return arg;
}

// Whoever executes this leaves the id of its process.
static void *stamp(void *arg)
{
	const int own = (int)syscall(SYS_getpid);

	sem_post(&started);
	for (;;) {
		stamps->pid = (int)syscall(SYS_getpid);
		if (stamps->pid != own)
			stamps->foreign++;
		stamps->rounds++;
		sched_yield();
	}
	return arg;
}

static long do_threads(const char *count, void *(*body)(void *))
{
	for (int i = atoi(count); i > 0; i--) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, body, NULL) != 0)
			return -1;
		sem_wait(&started);
	}
	return 0;
}

static long do_stamp(const char *count)
{
	stamps = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return stamps == MAP_FAILED ? -1 : do_threads(count, stamp);
}

// A mapping of so many MiB of which so many pages are populated, far from each other.
static long do_map(const char *mib, const char *pages)
{
	const size_t size = (size_t)strtoull(mib, NULL, 10) << 20;
	const size_t count = strtoul(pages, NULL, 10);
	uint8_t *const at = mmap(NULL, size, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return -1;
	madvise(at, size, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < count; i++)
		at[size / count * i] = 0x5a;
	return 0;
}

// A shared mapping of a whole file that is opened as it is told: its address.
static long long do_file(const char *path, const char *mode)
{
	const int write = strcmp(mode, "rw") == 0;
	const int fd = open(path, write ? O_RDWR : O_RDONLY);
	const off_t size = lseek(fd, 0, SEEK_END);
	void *const at = mmap(NULL, (size_t)size, write ? PROT_READ | PROT_WRITE : PROT_READ,
			      MAP_SHARED, fd, 0);

	close(fd);
	return at == MAP_FAILED ? -1 : (long long)(uintptr_t)at;
}

// The address of one page, with the same byte in all of it.
static void do_page(void)
{
	uint8_t *const at = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	memset(at, 0x5a, 4096);
	printf("%llu\n", (unsigned long long)(uintptr_t)at);
}

// Memory of its own at an address that is free: filled and without a reservation, or neither.
static uint8_t *own;
static size_t size_of_own;

static long do_own(const char *address, const char *size, int filled)
{
	void *const at = (void *)(uintptr_t)strtoull(address, NULL, 16);
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

	size_of_own = strtoul(size, NULL, 10);
	own = mmap(at, size_of_own, PROT_READ | PROT_WRITE, flags | (filled ? MAP_NORESERVE : 0),
		   -1, 0);
	if (own != at)
		return -1;
	if (filled)
		memset(own, 0x5a, size_of_own);
	return 0;
}

// How many bytes of it are as they should be.
static long look_at_own(const char *byte)
{
	long whole = 0;

	for (size_t i = 0; i < size_of_own; i++)
		whole += own[i] == strtoul(byte, NULL, 16);
	return whole;
}

// A mapping with holes, which later ones would fall into: smaller gaps above it are filled before.
static uint8_t *holes;
static const size_t size_of_holes = 1 << 20;

static long do_holes(void)
{
	for (int i = 0; i < 1000; i++)
		if (mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
			return -1;
	holes = mmap(NULL, size_of_holes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (holes == MAP_FAILED)
		return -1;
	for (size_t at = 131072; at < size_of_holes; at += 262144)
		if (munmap(holes + at, 131072) < 0)
			return -1;
	return 0;
}

// SIGCHLD that came, and what wait says of ordinary children and of any.
static void do_children(void)
{
	int status, plain, all;

	errno = 0;
	waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED);
	plain = errno;
	errno = 0;
	waitpid(-1, &status, WNOHANG | __WALL);
	all = errno;
	printf("%d %d %d\n", (int)sigchld_count, plain == ECHILD, all == ECHILD);
}

// Until its child reads a line, this thread cannot be stopped.
static void do_vfork(void)
{
	char c;

	if (vfork() == 0) {
		write(1, "ok\n", 3);
		while (read(0, &c, 1) == 1 && c != '\n')
			continue;
		_exit(0);
	}
	puts("back");
}

// A child that shares all private memory, and ends with us.
static pid_t do_fork(void)
{
	const pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static void do_exec(const char *path)
{
	char *const argv[] = { (char *)path, NULL };

	execv(path, argv);
	answer(-1);
}

static void obey(const char *what, const char *how, const char *how_much)
{
	if (strcmp(what, "ping") == 0)
		puts("pong");
	else if (strcmp(what, "threads") == 0)
		answer(do_threads(how, wait_for_ever));
	else if (strcmp(what, "stamp") == 0)
		answer(do_stamp(how));
	else if (strcmp(what, "foreign") == 0)
		printf("%d %ld\n", stamps->foreign, stamps->rounds);
	else if (strcmp(what, "listen") == 0)
		answer_number(do_listen(how));
	else if (strcmp(what, "connect") == 0)
		answer_number(do_connect(how));
	else if (strcmp(what, "close") == 0)
		answer(close(atoi(how)));
	else if (strcmp(what, "flock") == 0)
		answer(do_lock(how, lock_whole));
	else if (strcmp(what, "lockf") == 0)
		answer(do_lock(how, lock_record));
	else if (strcmp(what, "chdir") == 0)
		answer(chdir(how));
	else if (strcmp(what, "map") == 0)
		answer(do_map(how, how_much));
	else if (strcmp(what, "page") == 0)
		do_page();
	else if (strcmp(what, "file") == 0)
		printf("%lld\n", do_file(how, how_much));
	else if (strcmp(what, "fill-own") == 0)
		answer(do_own(how, how_much, 1));
	else if (strcmp(what, "map-own") == 0)
		answer(do_own(how, how_much, 0));
	else if (strcmp(what, "own") == 0)
		answer_number(look_at_own(how));
	else if (strcmp(what, "holes") == 0)
		answer(do_holes());
	else if (strcmp(what, "unmap-holes") == 0)
		answer(munmap(holes, size_of_holes));
	else if (strcmp(what, "undumpable") == 0)
		answer(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
	else if (strcmp(what, "trace") == 0)
		answer(ptrace(PTRACE_SEIZE, atoi(how), NULL, NULL));
	else if (strcmp(what, "children") == 0)
		do_children();
	else if (strcmp(what, "fork") == 0)
		answer_number(do_fork());
	else if (strcmp(what, "vfork") == 0)
		do_vfork();
	else if (strcmp(what, "exec") == 0)
		do_exec(how);
	else
		puts("what?");
}

int main(void)
{
	const struct sigaction action = { .sa_handler = count_sigchld, .sa_flags = SA_RESTART };
	char line[4200];

	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0);
	sigaction(SIGCHLD, &action, NULL);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		char *rest = NULL;
		const char *const what = strtok_r(line, " \n", &rest);
		const char *const how = strtok_r(NULL, " \n", &rest);
		const char *const how_much = strtok_r(NULL, " \n", &rest);

		if (what)
			obey(what, how ? how : "", how_much ? how_much : "");
	}
	return 0;
}
