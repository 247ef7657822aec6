/* SPDX-License-Identifier: BSD-3-Clause */
// births fork|thread COUNT: how long it takes on average to make a process, or a thread, and to
// wait for its end, in ns; the shortest average of some batches of COUNT.
#include "clock.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCHES 20

static void *end(void *argument)
{
	return argument;
}

static void thread(void)
{
	pthread_t made;
	if (pthread_create(&made, NULL, end, NULL) || pthread_join(made, NULL))
		exit(1);
}

static void process(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		exit(1);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	void (*make)(void) = strcmp(argv[1], "fork") ? thread : process;
	long count = strtol(argv[2], NULL, 10);
	int64_t shortest = INT64_MAX;
	for (int batch = 0; batch < BATCHES; batch++) {
		int64_t begin = now();
		for (long i = 0; i < count; i++)
			make();
		int64_t took = now() - begin;
		shortest = took < shortest ? took : shortest;
	}
	printf("%.1f\n", (double)shortest / (double)count);
}
