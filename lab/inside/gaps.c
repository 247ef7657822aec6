/* SPDX-License-Identifier: BSD-3-Clause */
// gaps THREADS MEBIBYTES: a process that sees how long it was kept from running. One thread reads
// the clock all the time, the others sleep. It writes a line when it is ready and for each letter:
//
// r   begin anew; says 0
// m   the longest time between two looks at the clock since then, in ns
// f   how long a fork() took, in ns
#include "clock.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

// Commands are looked for this often, for a look is a system call.
#define LOOKS 256
#define STACK 65536

static void *sleeper(void *argument)
{
	for (;;)
		pause();
	return argument;
}

static void start(long threads)
{
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK);
	for (long i = 1; i < threads; i++) {
		pthread_t thread;
		if (pthread_create(&thread, &attributes, sleeper, NULL))
			exit(1);
	}
}

static int64_t fork_once(void)
{
	int64_t begin = now();
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	int64_t end = now();
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		exit(1);
	return end - begin;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	size_t size = (size_t)strtoul(argv[2], NULL, 10) << 20;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 1;
	madvise(memory, size, MADV_NOHUGEPAGE);
	memset(memory, 1, size);
	start(strtol(argv[1], NULL, 10));
	fcntl(0, F_SETFL, O_NONBLOCK);
	int64_t longest = 0, last = now();
	char command = 'r';
	for (unsigned long look = 0;; look++) {
		int64_t time = now();
		if (time - last > longest)
			longest = time - last;
		last = time;
		if (look % LOOKS)
			continue;
		// The first line says that it is ready.
		ssize_t got = look ? read(0, &command, 1) : 1;
		if (got == 0)
			return 0;
		if (got != 1)
			continue;
		int64_t said = command == 'm' ? longest : command == 'f' ? fork_once() : 0;
		if (command == 'r')
			longest = 0;
		printf("%lld\n", (long long)said);
		fflush(stdout);
		last = now();
	}
}
