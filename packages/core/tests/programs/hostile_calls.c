/* SPDX-License-Identifier: BSD-3-Clause */
// A program that calls the library from where, or as, it should not.
//
// hostile_calls memory PID           a core in memory that fails, or that nobody could close
// hostile_calls unshare PID          a dump and a fork after unshare(CLONE_NEWPID)
// hostile_calls unshare-thread PID   the same in a thread that is not the main one
// hostile_calls unshare-init PID     the same when the new namespace has a process already
// hostile_calls unshare-both PID     that in a thread that is not the main one
#include <coresnap.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t target;

static int count_descriptors(void)
{
	DIR *const directory = opendir("/proc/self/fd");
	int count = 0;

	while (directory && readdir(directory))
		count++;
	if (directory)
		closedir(directory);
	return count;
}

// -- memory ----------------------------------------------------------------------------------------

// Prints the code, memory_fd, and how many descriptors more there are than before.
static void print_failure(const char *name, pid_t pid, const struct coresnap_output *to,
			  const struct coresnap_options *options)
{
	// memory_fd is 0, which is a descriptor of the program.
	struct coresnap_result result = { .size = sizeof(result) };
	const int before = count_descriptors();
	const int code = coresnap_dump(pid, to, options, &result, NULL);

	printf("%s %d %d %d\n", name, code, result.memory_fd, count_descriptors() - before);
}

static void memory(void)
{
	const struct coresnap_output to = { .kind = CORESNAP_TO_MEMORY };
	const struct coresnap_output nowhere = { .kind = CORESNAP_TO_PATH, .path = "/none/none" };
	const struct coresnap_options no_options = { .size = sizeof(no_options), .method = 99 };
	struct coresnap_result result = { .size = offsetof(struct coresnap_result, memory_fd) };
	int before;

	print_failure("no_directory", target, &nowhere, NULL);
	print_failure("no_process", 0x7fffffff, &to, NULL);
	print_failure("no_method", target, &to, &no_options);
	before = count_descriptors();
	printf("no_result %d", coresnap_dump(target, &to, NULL, NULL, NULL));
	printf(" %d\n", count_descriptors() - before);
	printf("short_result %d", coresnap_dump(target, &to, NULL, &result, NULL));
	printf(" %d\n", count_descriptors() - before);
	result.size = sizeof(result);
	printf("result %d", coresnap_dump(target, &to, NULL, &result, NULL));
	printf(" %d\n", count_descriptors() - before);
}

// -- unshare ---------------------------------------------------------------------------------------

static bool with_init;

// The first process of the new namespace; ends with this one.
static pid_t start_init(void)
{
	int alive[2];

	if (pipe(alive) < 0)
		return -1;
	const pid_t init = fork();
	char byte;

	if (init != 0)
		return init;
	close(alive[1]);
	_exit(read(alive[0], &byte, 1) != 0);
}

static void *unshare_and_dump(void *arg)
{
	const struct coresnap_output to = { .kind = CORESNAP_TO_MEMORY };
	struct coresnap_result result = { .size = sizeof(result) };
	struct coresnap_error error;
	int status = -1;

	if (unshare(CLONE_NEWPID) < 0 || (with_init && start_init() < 0)) {
		printf("errno %d\n", errno);
		return arg;
	}
	printf("dump %d", coresnap_dump(target, &to, NULL, &result, &error));
	printf(" %s\n", error.what);
	const pid_t child = fork();

	if (child == 0)
		_exit(7);
	if (child < 0)
		printf("fork %d\n", errno);
	else if (waitpid(child, &status, 0) == child)
		printf("child %d\n", WEXITSTATUS(status));
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 3)
		return 2;
	target = atoi(argv[2]);
	with_init = strcmp(argv[1], "unshare-init") == 0 || strcmp(argv[1], "unshare-both") == 0;
	if (strcmp(argv[1], "memory") == 0) {
		memory();
	} else if (strcmp(argv[1], "unshare") == 0 || strcmp(argv[1], "unshare-init") == 0) {
		unshare_and_dump(NULL);
	} else if (strcmp(argv[1], "unshare-thread") == 0 || strcmp(argv[1], "unshare-both") == 0) {
		if (pthread_create(&thread, NULL, unshare_and_dump, NULL) != 0)
			return 1;
		pthread_join(thread, NULL);
	} else {
		return 2;
	}
	return 0;
}
