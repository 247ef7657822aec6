/* SPDX-License-Identifier: BSD-3-Clause */
// load THREADS MEBIBYTES small|huge: a process of that size, to be dumped.
//
// Prints "ready" when all threads sleep and all pages are written. Then, for each line on standard
// input, it writes one byte to each page of 4096 bytes and prints
//
//   NANOSECONDS FAULTS CHILDREN HUGE
//
// how long that took, how many minor page faults it cost, the processor time of waited-for children
// so far (microseconds), and how much of the memory is in huge pages (KiB).
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define HUGE (2u << 20)

static pthread_barrier_t barrier;

static void *sleep_on(void *arg)
{
	pthread_barrier_wait(&barrier);
	for (;;)
		pause();
	return arg;
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

static long children_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec +
	       usage.ru_stime.tv_usec;
}

static long huge_kib(void)
{
	char line[256];
	long kib = 0;
	FILE *const file = fopen("/proc/self/smaps_rollup", "re");

	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "AnonHugePages: %ld", &kib);
	if (file)
		fclose(file);
	return kib;
}

static void touch(uint8_t *memory, size_t size)
{
	for (size_t at = 0; at < size; at += PAGE)
		((volatile uint8_t *)memory)[at]++;
}

static void fail(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void start_threads(int n)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	pthread_barrier_init(&barrier, NULL, (unsigned int)n);
	for (int i = 1; i < n; i++)
		if ((errno = pthread_create(&thread, &attr, sleep_on, NULL)))
			fail("pthread_create");
	pthread_barrier_wait(&barrier);
}

int main(int argc, char **argv)
{
	char line[16];

	if (argc != 4)
		return 2;
	const size_t size = (size_t)strtoul(argv[2], NULL, 10) << 20;
	uint8_t *memory = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		fail("mmap");
	memory += -(uintptr_t)memory & (HUGE - 1);
	madvise(memory, size, strcmp(argv[3], "huge") == 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	touch(memory, size);
	start_threads(atoi(argv[1]));
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("ready\n");
	while (fgets(line, sizeof(line), stdin)) {
		const long faults_before = faults();
		const int64_t began = now_ns();

		touch(memory, size);
		const int64_t took = now_ns() - began;

		printf("%lld %ld %ld %ld\n", (long long)took, faults() - faults_before,
		       children_us(), huge_kib());
	}
	return 0;
}
