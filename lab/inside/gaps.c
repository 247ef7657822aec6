/* SPDX-License-Identifier: BSD-3-Clause */
// gaps THREADS MEBIBYTES [small|huge RATE]: a process that sees how it gets on while others look at it.
//
// Its main thread looks at the clock all the time, and writes to its memory: to a page of 4 KiB after the
// other, far from each other, RATE million bytes of such pages in a second, or none. If that is below zero
// it sleeps between looks. With huge it asks for huge pages. The other threads sleep, but with a RATE one
// of them maps and unmaps a little memory every millisecond. It writes a line when it is ready and for
// each command:
//
// r    begin anew; says 0
// f    how long a fork() took, in ns
// m    what was since r: the longest time between two looks and the longest that mmap() or munmap() took,
//      ns, how many looks and how many pages written to
// aNS  what was in the first NS nanoseconds since r, or so far: how many ns these were when counted
//      exactly, looks and pages
#include "clock.h"
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

// Between two looks of who rests.
#define REST_NS 1000000
// Commands are looked for this often, for a look is a system call.
#define LOOKS  256
#define STACK  65536
#define PAGE   4096u
#define HUGE   (2u << 20)
#define TICK   4000000 // ns
#define TICKS  65536
#define MAPPED (256u << 10)
// Who was stopped makes up for so many ns of writes and no more.
#define LATE 10000000

struct work {
	int64_t looks, pages;
};

static struct work ticks[TICKS]; // what was done when each tick began
static size_t ticked;
static _Atomic long mapped_us; // the longest; long, as 32-bit machines cannot do more at once

static char *memory;
static size_t pages, page, stride;
static int64_t interval, due; // of writes, ns; 0: there are none
static bool rests;

static void *sleeper(void *argument)
{
	for (;;)
		pause();
	return argument;
}

static void see_mapped(int64_t begin)
{
	const long took = (long)((now() - begin + 999) / 1000);

	if (took > mapped_us)
		mapped_us = took;
}

static void *mapper(void *argument)
{
	const struct timespec rest = { .tv_nsec = 1000000 };

	for (;;) {
		int64_t begin = now();
		char *some = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				  -1, 0);
		see_mapped(begin);
		if (some == MAP_FAILED)
			exit(1);
		*some = 1;
		begin = now();
		munmap(some, MAPPED);
		see_mapped(begin);
		nanosleep(&rest, NULL);
	}
	return argument;
}

static void start(long threads, bool maps)
{
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK);
	for (long i = 1; i < threads; i++) {
		pthread_t thread;
		if (pthread_create(&thread, &attributes, maps && i == 1 ? mapper : sleeper, NULL))
			exit(1);
	}
}

static void fill(size_t size, bool huge)
{
	char *place =
		mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (place == MAP_FAILED)
		exit(1);
	memory = (char *)(((uintptr_t)place + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
	madvise(memory, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	memset(memory, 1, size);
	pages = size / PAGE;
}

// Steps by which each page is come to before one is again: about the golden section, prime to their number.
static void spread(long rate)
{
	rests = rate < 0;
	interval = rate > 0 ? PAGE * INT64_C(1000) / rate : 0;
	for (stride = pages * 5 / 8 + 1;; stride++) {
		size_t a = pages, b = stride;
		while (b) {
			const size_t rest = a % b;
			a = b;
			b = rest;
		}
		if (a == 1)
			return;
	}
}

// At most one for each look, so that no look is late for writes that are cheap.
static bool write_due(int64_t time)
{
	if (!interval || time < due)
		return false;
	due = (time - due > LATE ? time - LATE : due) + interval;
	++*(volatile char *)&memory[page * PAGE];
	page = (page + stride) % pages;
	return true;
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

struct seen {
	int64_t since, longest;
	struct work work;
};

static void tick(const struct seen *seen, int64_t time)
{
	while (ticked < TICKS && time - seen->since >= (int64_t)ticked * TICK)
		ticks[ticked++] = seen->work;
}

static void answer(const char *command, struct seen *seen)
{
	if (*command == 'f') {
		printf("%" PRId64 "\n", fork_once());
	} else if (*command == 'm') {
		printf("%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 "\n", seen->longest,
		       (int64_t)mapped_us * 1000, seen->work.looks, seen->work.pages);
	} else if (*command == 'a') {
		size_t at = (size_t)(strtoll(command + 1, NULL, 10) / TICK);
		at = at < ticked ? at : ticked - 1;
		printf("%" PRId64 " %" PRId64 " %" PRId64 "\n", (int64_t)at * TICK, ticks[at].looks,
		       ticks[at].pages);
	} else {
		*seen = (struct seen){ .since = now() };
		ticked = 0;
		mapped_us = 0;
		puts("0");
	}
	fflush(stdout);
}

static void get_on(void)
{
	struct seen seen = { 0 };
	char command[32] = "r"; // its answer says that it is ready
	ssize_t got = 1;
	int64_t last = 0;

	for (unsigned long look = 0; got; look++) {
		const int64_t time = now();
		if (look) {
			seen.longest = time - last > seen.longest ? time - last : seen.longest;
			seen.work.pages += write_due(time);
			seen.work.looks++;
			tick(&seen, time);
		}
		last = time;
		if (rests)
			nanosleep(&(struct timespec){ .tv_nsec = REST_NS }, NULL);
		else if (look % LOOKS)
			continue;
		if (look) {
			memset(command, 0, sizeof(command));
			got = read(0, command, sizeof(command) - 1);
		}
		if (got > 0) {
			answer(command, &seen);
			last = now();
		}
	}
}

int main(int argc, char **argv)
{
	if (argc != 3 && argc != 5)
		return 2;
	fill((size_t)strtoul(argv[2], NULL, 10) << 20, argc == 5 && strcmp(argv[3], "huge") == 0);
	spread(argc == 5 ? strtol(argv[4], NULL, 10) : 0);
	start(strtol(argv[1], NULL, 10), argc == 5);
	fcntl(0, F_SETFL, O_NONBLOCK);
	get_on();
	return 0;
}
