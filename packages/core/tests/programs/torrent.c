/* SPDX-License-Identifier: BSD-3-Clause */
// A program whose threads write to every page of its memory, again and again, and do nothing else: more
// than can be copied in the time. See test_precopy_refused.py.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#define PAGE    4096u
#define SIZE    ((size_t)68 << 20)
#define THREADS 4u

static uint8_t *memory;

static void *pour(void *arg)
{
	volatile uint8_t *const part = arg;

	for (;;)
		for (size_t at = 0; at < SIZE / THREADS; at += PAGE)
			part[at]++;
	return NULL;
}

int main(void)
{
	char line[64];

	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 1;
	for (size_t at = 0; at < SIZE; at += PAGE)
		memory[at] = 1;
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, pour, memory + i * (SIZE / THREADS)) != 0)
			return 1;
	}
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		puts("pong");
		fflush(stdout);
	}
	return 0;
}
