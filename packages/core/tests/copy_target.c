/* SPDX-License-Identifier: BSD-3-Clause */
// A program that would notice if something were injected into it.
//
// copy_target KIND THREADS [coroutines|large]: every thread makes one kind of system call over and over, or computes,
// and checks each result. The main thread writes a dot to standard output after each round. SIGUSR2
// ends it: exit status 0, or 1 with the first complaint on standard error. Each round is stamped in shared
// memory, where the program would see that of a copy of it. With coroutines each thread is
// on a stack in the heap, below which there is somebody's memory.
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { ROUND_NS = 10000000, MAX_THREADS = 64, COROUTINE = 131072, CANARY = 65536, LARGE = 66 << 20 };

#ifndef LATE_NS
#define LATE_NS 20000000000 // a machine under load is late; a call that hangs is later
#endif

static volatile sig_atomic_t ending, children;
static _Thread_local volatile sig_atomic_t alarms;
static pid_t self;
static volatile pid_t *stamp; // shared with every copy: of one that did a round
static void *volatile large;
static char complaint[256];
static pthread_mutex_t complaint_lock = PTHREAD_MUTEX_INITIALIZER;

static void insist(const char *what, long got, int error)
{
	pthread_mutex_lock(&complaint_lock);
	if (!complaint[0])
		snprintf(complaint, sizeof(complaint), "%s: %ld (errno %d)", what, got, error);
	pthread_mutex_unlock(&complaint_lock);
}

static void complain(const char *what, long got, int error)
{
	if (!ending)
		insist(what, got, error);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void do_nanosleep(void)
{
	const long ret = nanosleep(&(struct timespec){ .tv_nsec = ROUND_NS }, NULL);

	if (ret != 0)
		complain("nanosleep", ret, errno);
}

static void do_futex(void)
{
	static uint32_t word;
	const struct timespec timeout = { .tv_nsec = ROUND_NS };
	const long ret = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &timeout, NULL, 0);

	if (ret != -1 || errno != ETIMEDOUT)
		complain("futex", ret, errno);
}

static void do_poll(void)
{
	const long ret = poll(NULL, 0, ROUND_NS / 1000000);

	if (ret != 0)
		complain("poll", ret, errno);
}

static void do_select(void)
{
	struct timeval timeout = { .tv_usec = ROUND_NS / 1000 };
	const long ret = select(0, NULL, NULL, NULL, &timeout);

	if (ret != 0)
		complain("select", ret, errno);
}

static void do_epoll(void)
{
	static _Thread_local int fd;
	struct epoll_event event;

	if (!fd)
		fd = epoll_create1(0);
	const long ret = epoll_wait(fd, &event, 1, ROUND_NS / 1000000);

	if (ret != 0)
		complain("epoll_wait", ret, errno);
}

static void do_read(void)
{
	static _Thread_local int fd;
	const struct itimerspec once = { .it_value.tv_nsec = ROUND_NS };
	uint64_t count = 0;

	if (!fd)
		fd = timerfd_create(CLOCK_MONOTONIC, 0);
	timerfd_settime(fd, 0, &once, NULL);
	const long ret = read(fd, &count, sizeof(count));

	if (ret != sizeof(count) || count != 1)
		complain("read", ret, errno);
}

// A signal handler that interrupts it must run, and nothing else may end it.
static void do_pause(void)
{
	static _Thread_local timer_t timer;
	static _Thread_local int armed;
	const struct itimerspec often = { .it_value.tv_nsec = ROUND_NS,
					  .it_interval.tv_nsec = ROUND_NS };

	if (!armed) {
		struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };

		event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
		timer_create(CLOCK_MONOTONIC, &event, &timer);
		timer_settime(timer, 0, &often, NULL);
		armed = 1;
	}
	const sig_atomic_t before = alarms;
	const long ret = pause();

	if (ret != -1 || errno != EINTR || alarms == before)
		complain("pause", ret, errno);
}

// busy_*.h: computation with every register file in use, which complains if one changes.
#if defined(__aarch64__)
#include "busy_aarch64.h"
#elif defined(__arm__)
#include "busy_arm.h"
#else
#include "busy_x86.h"
#endif

static const struct kind {
	const char *name;
	void (*run)(void);
	int timed; // a round takes ROUND_NS
} kinds[] = {
	{ "nanosleep", do_nanosleep, 1 }, { "futex", do_futex, 1 }, { "poll", do_poll, 1 },
	{ "select", do_select, 1 },       { "epoll", do_epoll, 1 }, { "read", do_read, 1 },
	{ "pause", do_pause, 0 },         { "busy", do_busy, 0 },
};
static const struct kind *kind;

// Whichever thread a copy would have.
static void look_for_copies(void)
{
	const pid_t pid = getpid();

	if (pid != self)
		*stamp = pid;
	if (*stamp)
		insist("a copy of the program ran", *stamp, 0);
}

static void check_round(int64_t began)
{
	const int64_t elapsed = now_ns() - began;
	sigset_t mask, empty;

	sigemptyset(&empty);
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	if (memcmp(&mask, &empty, 8) != 0)
		complain("the signal mask changed", 0, 0);
	if (kind->timed && (elapsed < ROUND_NS || elapsed > LATE_NS))
		complain("a timed call took this many ns", (long)elapsed, 0);
	if (children)
		complain("SIGCHLD came", children, 0);
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
		complain("waitpid(-1) did not fail with ECHILD", 0, errno);
}

static void do_round(void)
{
	const int64_t began = now_ns();

	kind->run();
	look_for_copies();
	check_round(began);
}

// The first dot says that each thread has its memory and descriptors, which are compared from then on.
static pthread_barrier_t all_at_work;

static void *work(void *arg)
{
	do_round();
	pthread_barrier_wait(&all_at_work);
	while (!ending) {
		if (!arg && write(1, ".", 1) != 1)
			break;
		do_round();
	}
	return NULL;
}

// One coroutine of each thread, in the heap, and below each what must not change.
static _Thread_local ucontext_t back, coroutine;
static _Thread_local void *coroutine_arg;

static void work_there(void)
{
	work(coroutine_arg);
}

static void *work_on_coroutine(void *arg)
{
	unsigned char *const at = malloc(CANARY + COROUTINE);

	memset(at, 0x5a, CANARY);
	coroutine_arg = arg;
	getcontext(&coroutine);
	coroutine.uc_stack.ss_sp = at + CANARY;
	coroutine.uc_stack.ss_size = COROUTINE;
	coroutine.uc_link = &back;
	makecontext(&coroutine, work_there, 0);
	swapcontext(&back, &coroutine);
	for (int i = 0; i < CANARY; i++)
		if (at[i] != 0x5a)
			insist("memory below a coroutine changed", i, 0);
	free(at);
	return NULL;
}

static void on_signal(int signo)
{
	if (signo == SIGCHLD)
		children++;
	else if (signo == SIGALRM)
		alarms++;
	else
		ending = 1;
}

int main(int argc, char **argv)
{
	static const int signals[] = { SIGCHLD, SIGALRM, SIGUSR2 };
	const int n_threads = argc > 2 ? atoi(argv[2]) : 0;
	const char *const how = argc > 3 ? argv[3] : "";
	void *(*const run)(void *) = strcmp(how, "coroutines") == 0 ? work_on_coroutine : work;
	pthread_t threads[MAX_THREADS];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (argc > 1 && strcmp(argv[1], kinds[i].name) == 0)
			kind = &kinds[i];
	if (!kind || n_threads < 1 || n_threads > MAX_THREADS)
		return 2;
	if (strcmp(how, "large") == 0)
		memset(large = malloc(LARGE), 1, LARGE);
	self = getpid();
	stamp = mmap(NULL, sizeof(*stamp), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (stamp == MAP_FAILED)
		return 2;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &(struct sigaction){ .sa_handler = on_signal }, NULL);
	pthread_barrier_init(&all_at_work, NULL, (unsigned int)n_threads);
	for (int i = 1; i < n_threads; i++)
		pthread_create(&threads[i], NULL, run, &kind);
	run(NULL);
	for (int i = 1; i < n_threads; i++)
		pthread_join(threads[i], NULL);
	if (complaint[0])
		fprintf(stderr, "%s\n", complaint);
	return complaint[0] ? 1 : 0;
}
