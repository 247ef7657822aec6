/* SPDX-License-Identifier: BSD-3-Clause */
// Reads of a file that does not answer, for hard.c, in the middle of which it is included.
#ifndef HARD_SLOW_H
#define HARD_SLOW_H

static const char *slow_file;

static void *read_slow_file(void *arg)
{
	const int fd = open(slow_file, O_RDONLY | O_CLOEXEC);
	char byte = 0;

	if (fd < 0 || read(fd, &byte, 1) != 1 || byte != 'x')
		failures++;
	__atomic_add_fetch(&rounds, 1, __ATOMIC_RELAXED);
	return arg;
}

static void have_slow_thread(const char *more)
{
	slow_file = more;
	start(read_slow_file, NULL, 131072);
}

static void have_slow_threads(const char *more)
{
	for (int i = 0; i < 20; i++)
		have_slow_thread(more);
}

static void wait_for_slow_file(const char *more)
{
	slow_file = more;
	say("ready\n");
	read_slow_file(NULL);
}

#endif
