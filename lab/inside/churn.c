/* SPDX-License-Identifier: BSD-3-Clause */
// churn MODE: a process to dump while it does what a dump has to cope with. It writes a line when
// it is ready, answers each line with the same line, and "finish" with "ok", or what went wrong, and
// how often it did it.
//
// idle    threads that sleep
// clone   threads begin and end, children are born, by fork() and vfork(), and are reaped
// signal  a timer's signals interrupt threads that count in floating point
// exec    the process executes itself again and again, by another thread than its leader; this one
//         answers no line but the first
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define IDLE 8
#define SPINNERS 2
#define TERMS 4096
#define STATUS 7

static atomic_bool stopping;
static atomic_ulong rounds;
static _Atomic(const char *) wrong;

static void fail(const char *what)
{
	const char *none = NULL;
	atomic_compare_exchange_strong(&wrong, &none, what);
}

static void *sleeper(void *argument)
{
	for (;;)
		pause();
	return argument;
}

static void *give_back(void *argument)
{
	return argument;
}

static void *clones(void *argument)
{
	while (!stopping) {
		pthread_t thread;
		void *result = NULL;
		uintptr_t number = atomic_fetch_add(&rounds, 1);
		if (pthread_create(&thread, NULL, give_back, (void *)number))
			fail("pthread_create");
		else if (pthread_join(thread, &result) || result != (void *)number)
			fail("pthread_join");
	}
	return argument;
}

static void *forks(void *argument)
{
	while (!stopping) {
		int status = 0;
		pid_t pid = atomic_fetch_add(&rounds, 1) % 2 ? fork() : vfork();
		if (pid == 0)
			_exit(STATUS);
		if (pid < 0)
			fail("fork");
		else if (waitpid(pid, &status, 0) != pid)
			fail("waitpid");
		else if (!WIFEXITED(status) || WEXITSTATUS(status) != STATUS)
			fail("the status of a child");
		if (waitpid(-1, NULL, __WALL) != -1 || errno != ECHILD)
			fail("a child of nobody's");
	}
	return argument;
}

// Sums of whole numbers are exact, so a register that was lost shows.
static double sum(double step)
{
	volatile double sums[4] = {0};
	for (int i = 0; i < TERMS; i++)
		for (int k = 0; k < 4; k++)
			sums[k] += step * (k + 1);
	return sums[0] + sums[1] + sums[2] + sums[3];
}

static void *spinner(void *argument)
{
	while (!stopping) {
		if (sum(3) != 3.0 * TERMS * 10)
			fail("a sum");
		atomic_fetch_add(&rounds, 1);
	}
	return argument;
}

static void on_alarm(int number)
{
	(void)number;
	if (sum(5) != 5.0 * TERMS * 10)
		fail("a sum of the handler's");
}

static void start(void *(*function)(void *), int threads)
{
	for (int i = 0; i < threads; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, function, NULL)) {
			fprintf(stderr, "churn: pthread_create failed\n");
			exit(1);
		}
	}
}

static void start_signals(void)
{
	struct sigaction action = {.sa_handler = on_alarm};
	struct itimerval each = {{0, 3000}, {0, 3000}};
	sigset_t alarms;
	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	start(spinner, SPINNERS);
	// Only the spinners are interrupted.
	pthread_sigmask(SIG_BLOCK, &alarms, NULL);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &each, NULL);
}

static void *executes(void *argument)
{
	char number[32];
	char *again[] = {"churn", "exec", number, NULL};
	snprintf(number, sizeof(number), "%lu", rounds + 1);
	execv("/proc/self/exe", again);
	fail("execv");
	return argument;
}

static bool has_input(void)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};
	return poll(&input, 1, 0) > 0;
}

static void answer_lines(void)
{
	char line[256];
	while (fgets(line, sizeof(line), stdin)) {
		if (strcmp(line, "finish\n") == 0) {
			stopping = true;
			const char *what = wrong;
			printf("%s %lu\n", what ? what : "ok", atomic_load(&rounds));
		} else {
			fputs(line, stdout);
		}
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	bool again = argc > 2;
	if (again)
		rounds = strtoul(argv[2], NULL, 10);
	if (strcmp(mode, "exec") == 0) {
		if (!again) {
			printf("ready\n");
			fflush(stdout);
		}
		if (!has_input()) {
			start(executes, 1);
			for (;;)
				pause();
		}
	} else if (strcmp(mode, "clone") == 0) {
		start(clones, 1);
		start(forks, 1);
	} else if (strcmp(mode, "signal") == 0) {
		start_signals();
	} else if (strcmp(mode, "idle") == 0) {
		start(sleeper, IDLE);
	} else {
		fprintf(stderr, "usage: churn idle|clone|signal|exec\n");
		return 2;
	}
	if (!again) {
		printf("ready\n");
		fflush(stdout);
	}
	answer_lines();
	return wrong ? 1 : 0;
}
