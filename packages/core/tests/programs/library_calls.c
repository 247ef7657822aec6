/* SPDX-License-Identifier: BSD-3-Clause */
// A program that uses the library on other processes.
//
// library_calls structs PID          sizes of structs, unknown values: "name code…" per call
// library_calls waiter               50 dumps of a child beside a thread that waits for children
// library_calls together PID PID     two threads dump two processes at the same time
#include <coresnap.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DUMPS 50

static struct coresnap_output to = { .kind = CORESNAP_TO_FD };

static int dump(pid_t pid, const struct coresnap_options *options, struct coresnap_result *result)
{
	struct coresnap_error error;
	const int code = coresnap_dump(pid, &to, options, result, &error);

	if ((code == CORESNAP_OK) != (error.code == CORESNAP_OK && !error.what[0]) ||
	    error.code != code)
		printf("trouble %d: %d %s\n", code, error.code, error.what);
	return code;
}

// -- structs -------------------------------------------------------------------------------------

struct longer_options {
	struct coresnap_options known;
	uint64_t later[4];
};

static void options_sizes(pid_t pid)
{
	struct longer_options options = { .known.size = offsetof(struct coresnap_options, filter),
					  .known.method = CORESNAP_METHOD_STOP };

	// What lies behind the given size is not the library's to read.
	memset(&options.known.filter, 0x5a,
	       sizeof(options) - offsetof(struct coresnap_options, filter));
	printf("shorter %d\n", dump(pid, &options.known, NULL));
	options.known.size -= sizeof(unsigned int);
	printf("too_short %d\n", dump(pid, &options.known, NULL));
	options = (struct longer_options){ .known.size = sizeof(options) };
	printf("longer %d\n", dump(pid, &options.known, NULL));
	options.later[3] = 1;
	printf("longer_with_a_wish %d\n", dump(pid, &options.known, NULL));
}

static void unknown_values(pid_t pid)
{
	static const int methods[] = { -1, 5, 99 };
	struct coresnap_options options = { .size = sizeof(options) };
	struct coresnap_output output = to;

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		options.method = methods[i];
		printf("method_%d %d\n", methods[i], dump(pid, &options, NULL));
	}
	options.method = CORESNAP_METHOD_AUTO;
	for (int bit = 7; bit < 32; bit += 8) {
		options.flags = 1u << bit;
		printf("flag_%d %d\n", bit, dump(pid, &options, NULL));
	}
	const struct coresnap_options gentle[] = {
		{ .flags = CORESNAP_NICE, .nice = 20 },
		{ .flags = CORESNAP_NICE, .nice = -21 },
		{ .flags = CORESNAP_IO_PRIO, .io_prio = 8 },
		{ .flags = CORESNAP_IO_PRIO, .io_prio = -1 },
		{ .flags = CORESNAP_OOM_ADJ, .oom_adj = 16 },
		{ .flags = CORESNAP_OOM_ADJ, .oom_adj = -18 },
		{ .nice = 20, .io_prio = 8, .oom_adj = 16 }, // nothing is asked for
	};

	for (size_t i = 0; i < sizeof(gentle) / sizeof(gentle[0]); i++) {
		options = gentle[i];
		options.size = sizeof(options);
		printf("gentle_%zu %d\n", i, dump(pid, &options, NULL));
	}
	output.kind = 3;
	printf("output %d\n", coresnap_dump(pid, &output, NULL, NULL, NULL));
	output = (struct coresnap_output){ .kind = CORESNAP_TO_PATH };
	printf("no_path %d\n", coresnap_dump(pid, &output, NULL, NULL, NULL));
	output = (struct coresnap_output){ .kind = CORESNAP_TO_FD, .fd = -1 };
	printf("no_fd %d\n", coresnap_dump(pid, &output, NULL, NULL, NULL));
}

static void result_sizes(pid_t pid)
{
	union {
		struct coresnap_result result;
		unsigned char bytes[sizeof(struct coresnap_result) + 64];
	} place;
	static const size_t sizes[] = { sizeof(size_t), offsetof(struct coresnap_result, pause_ns),
					sizeof(struct coresnap_result),
					sizeof(struct coresnap_result) + 64 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t touched = 0;

		memset(&place, 0xaa, sizeof(place));
		place.result.size = sizes[i];
		const int code = dump(pid, NULL, &place.result);

		for (size_t at = sizes[i] < sizeof(place.result) ? sizes[i] : sizeof(place.result);
		     at < sizeof(place); at++)
			touched += place.bytes[at] != 0xaa;
		printf("result_%zu %d %d %zu\n", i, code, place.result.size == sizes[i], touched);
	}
}

static void structs(pid_t pid)
{
	options_sizes(pid);
	unknown_values(pid);
	result_sizes(pid);
	printf("nothing_asked_back %d\n", coresnap_dump(pid, &to, NULL, NULL, NULL));
}

// -- a program that waits for its children -------------------------------------------------------

static void *wait_for_children(void *arg)
{
	for (;;) {
		int status;
		const pid_t pid = waitpid(-1, &status, WUNTRACED | WCONTINUED);

		if (pid < 0)
			break;
		printf("waited %d 0x%x\n", pid, (unsigned int)status);
	}
	printf("no_more_children %d\n", errno == ECHILD);
	return arg;
}

static volatile sig_atomic_t sigchld_count;

static void count_sigchld(int signal)
{
	(void)signal;
	sigchld_count++;
}

static void waiter(void)
{
	const struct sigaction action = { .sa_handler = count_sigchld, .sa_flags = SA_RESTART };
	struct coresnap_options options = { .size = sizeof(options) };
	pthread_t thread;
	const pid_t child = fork();

	if (child == 0)
		for (;;)
			pause();
	sigaction(SIGCHLD, &action, NULL);
	pthread_create(&thread, NULL, wait_for_children, NULL);
	for (int i = 0; i < DUMPS; i++) {
		options.method = i % 2 ? CORESNAP_METHOD_STOP : CORESNAP_METHOD_FORK;
		if (dump(child, &options, NULL) != CORESNAP_OK)
			printf("trouble dump %d failed\n", i);
	}
	printf("child %d sigchld %d\n", child, (int)sigchld_count);
	kill(child, SIGKILL);
	pthread_join(thread, NULL);
}

// -- two at the same time ------------------------------------------------------------------------

static pthread_barrier_t barrier;

static void *dump_again_and_again(void *arg)
{
	const pid_t pid = *(const pid_t *)arg;
	struct coresnap_options options = { .size = sizeof(options) };

	for (int i = 0; i < DUMPS / 2; i++) {
		options.method = i % 2 ? CORESNAP_METHOD_STOP : CORESNAP_METHOD_FORK;
		pthread_barrier_wait(&barrier);
		if (dump(pid, &options, NULL) != CORESNAP_OK)
			printf("trouble dump %d of %d failed\n", i, pid);
	}
	return NULL;
}

static void together(pid_t first, pid_t second)
{
	pthread_t thread;

	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, dump_again_and_again, &first);
	dump_again_and_again(&second);
	pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	to.fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (argc == 3 && strcmp(argv[1], "structs") == 0)
		structs(atoi(argv[2]));
	else if (argc == 2 && strcmp(argv[1], "waiter") == 0)
		waiter();
	else if (argc == 4 && strcmp(argv[1], "together") == 0)
		together(atoi(argv[2]), atoi(argv[3]));
	else
		return 2;
	puts(coresnap_version());
	return 0;
}
