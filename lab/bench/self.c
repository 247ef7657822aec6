/* SPDX-License-Identifier: BSD-3-Clause */
// self THREADS MEBIBYTES ROUNDS: what a core of oneself costs beside a bare fork(2) of the same process.
//
// Fills the memory, page by page of 4 KiB, and starts the threads, which sleep, and one more that looks
// at the clock all the time. Each round forks a child that ends at once, then opens a core of itself and
// closes it unread, and prints
//
//   FORK PAUSE FELT
//
// in nanoseconds: how long fork() took, how long the threads were stopped as the library says, and the
// longest time for which the looking thread did not get on meanwhile.
#include "../inside/clock.h"
#include <coresnap.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static _Atomic int64_t longest;

static void *look(void *arg)
{
	for (int64_t before = now();;) {
		const int64_t at = now();

		if (at - before > longest)
			longest = at - before;
		before = at;
	}
	return arg;
}

static void *rest(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "self: %s: %s\n", what, why);
	exit(1);
}

static void begin(long threads, size_t size)
{
	pthread_attr_t attr;
	pthread_t thread;
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || madvise(memory, size, MADV_NOHUGEPAGE))
		fail("memory", strerror(errno));
	memset(memory, 0x5a, size);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	for (long i = 1; i < threads; i++)
		if (pthread_create(&thread, &attr, i == 1 ? look : rest, NULL))
			fail("threads", strerror(errno));
}

static int64_t fork_once(void)
{
	const int64_t start = now();
	const pid_t child = fork();

	if (child == 0)
		_exit(0);
	const int64_t took = now() - start;

	if (child < 0 || waitpid(child, NULL, 0) != child)
		fail("fork", strerror(errno));
	return took;
}

static int64_t open_once(void)
{
	struct coresnap_result result = { .size = sizeof(result) };
	struct coresnap_error error;
	siginfo_t info;
	int fd;

	if (coresnap_open_self(&fd, NULL, &result, &error) != CORESNAP_OK)
		fail("open a core", error.what);
	close(fd);
	// Until the one that writes the core has ended, and the copy with it, they would disturb what follows.
	waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | __WALL);
	return (int64_t)result.pause_ns;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	begin(atol(argv[1]), (size_t)atol(argv[2]) << 20);
	for (long i = atol(argv[3]); i > 0; i--) {
		const int64_t forked = fork_once();

		longest = 0;
		const int64_t paused = open_once();

		printf("%lld %lld %lld\n", (long long)forked, (long long)paused, (long long)longest);
		fflush(stdout);
	}
	return 0;
}
