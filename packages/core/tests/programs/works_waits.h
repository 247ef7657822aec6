/* SPDX-License-Identifier: BSD-3-Clause */
// Part of works.c: calls that time out. Each must take its time, and end by nothing else.
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/un.h>

#define NAP_NS 2000000
#define LATE_NS \
	(INT64_C(60) * 1000000000) // a machine under load is late; a wait that hangs is later

static const struct timespec nap = { .tv_nsec = NAP_NS };

// A wait that began then returned this, and not too early. One that is `coarse` counts ticks
// (net/core/sock.c: sock_set_timeout), the last of which may have begun already.
static void expect_timeout(const char *what, bool right, int64_t began, bool coarse)
{
	const int64_t took = now_ns() - began;

	if (!right)
		complain("%s did not time out in round %ld, after %lld ns", what, rounds,
			 (long long)took);
	if ((took < NAP_NS && !coarse) || took > LATE_NS)
		complain("%s took %lld ns", what, (long long)took);
}

static void wait_nanosleep(void)
{
	const int64_t began = now_ns();

	expect_timeout("nanosleep", nanosleep(&nap, NULL) == 0, began, false);
}

static struct timespec later(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_nsec += NAP_NS;
	if (at.tv_nsec >= 1000000000) {
		at.tv_nsec -= 1000000000;
		at.tv_sec++;
	}
	return at;
}

static void wait_clock_nanosleep(void)
{
	const int64_t began = now_ns();
	const struct timespec at = later();
	const int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);

	expect_timeout("clock_nanosleep", error == 0, began, false);
}

static void wait_futex(void)
{
	static uint32_t word;
	const long time[2] = { 0, NAP_NS };
	const int64_t began = now_ns();
	const long ret = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, time, NULL, 0);

	expect_timeout("futex", ret == -1 && errno == ETIMEDOUT, began, false);
}

static pthread_mutex_t cond_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond;

static void begin_cond(void)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&cond, &attributes);
}

static void wait_cond(void)
{
	const int64_t began = now_ns();
	const struct timespec at = later();

	pthread_mutex_lock(&cond_mutex);
	const int error = pthread_cond_timedwait(&cond, &cond_mutex, &at);

	pthread_mutex_unlock(&cond_mutex);
	expect_timeout("pthread_cond_timedwait", error == ETIMEDOUT, began, false);
}

static void wait_poll(void)
{
	int64_t began = now_ns();

	expect_timeout("poll", poll(NULL, 0, NAP_NS / 1000000) == 0, began, false);
	began = now_ns();
	expect_timeout("ppoll", ppoll(NULL, 0, &nap, NULL) == 0, began, false);
}

static void wait_select(void)
{
	struct timeval time = { .tv_usec = NAP_NS / 1000 };
	int64_t began = now_ns();

	expect_timeout("select", select(0, NULL, NULL, NULL, &time) == 0, began, false);
	began = now_ns();
	expect_timeout("pselect", pselect(0, NULL, NULL, NULL, &nap, NULL) == 0, began, false);
}

static int waited_fd;

static void begin_epoll(void)
{
	need(waited_fd = epoll_create1(0), "epoll_create1");
}

static void wait_epoll(void)
{
	struct epoll_event event;
	const int64_t began = now_ns();
	const int ret = epoll_wait(waited_fd, &event, 1, NAP_NS / 1000000);

	expect_timeout("epoll_wait", ret == 0, began, false);
}

static int sockets[2];

static void limit(int fd)
{
	const struct timeval time = { .tv_usec = NAP_NS / 1000 };

	need(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time)), "SO_RCVTIMEO");
}

static void begin_recv(void)
{
	need(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), "socketpair");
	limit(sockets[0]);
}

static void wait_recv(void)
{
	char byte;
	const int64_t began = now_ns();
	const ssize_t ret = recv(sockets[0], &byte, 1, 0);

	expect_timeout("recv", ret == -1 && errno == EAGAIN, began, true);
}

static void begin_accept(void)
{
	const struct sockaddr_un name = { .sun_family = AF_UNIX };

	need(waited_fd = socket(AF_UNIX, SOCK_STREAM, 0), "socket");
	need(bind(waited_fd, (const struct sockaddr *)&name, sizeof(sa_family_t)), "bind");
	need(listen(waited_fd, 1), "listen");
	limit(waited_fd);
}

static void wait_accept(void)
{
	const int64_t began = now_ns();
	const int ret = accept(waited_fd, NULL, NULL);

	expect_timeout("accept", ret == -1 && errno == EAGAIN, began, true);
}

static sigset_t waited_signals;

static void begin_signal(void)
{
	sigemptyset(&waited_signals);
	sigaddset(&waited_signals, SIGUSR1);
	need(sigprocmask(SIG_BLOCK, &waited_signals, NULL), "sigprocmask");
}

static void wait_signal(void)
{
	const int64_t began = now_ns();
	const int ret = sigtimedwait(&waited_signals, NULL, &nap);

	expect_timeout("sigtimedwait", ret == -1 && errno == EAGAIN, began, false);
}

static int ipc_id;

// System V objects outlive a process that is killed, unless they live in a namespace of its own.
static void own_ipc(void)
{
	if (syscall(SYS_unshare, 0x08000000 /* CLONE_NEWIPC */) < 0) {
		printf("impossible: no new IPC namespace: %s\n", strerror(errno));
		exit(0);
	}
}

static void begin_semaphore(void)
{
	own_ipc();
	need(ipc_id = semget(IPC_PRIVATE, 2, 0600), "semget");
}

static void wait_semaphore(void)
{
	struct sembuf take = { .sem_op = -1 };
	const int64_t began = now_ns();
	const int ret = semtimedop(ipc_id, &take, 1, &nap);

	expect_timeout("semtimedop", ret == -1 && errno == EAGAIN, began, false);
}

static aio_context_t aio;

static void lacks(const char *what)
{
	printf("impossible: %s: %s\n", what, strerror(errno));
	exit(0);
}

static void begin_aio(void)
{
	if (syscall(SYS_io_setup, 4, &aio) < 0)
		lacks("io_setup");
}

static void wait_aio(void)
{
	struct io_event event;
	const long time[2] = { 0, NAP_NS };
	const int64_t began = now_ns();
	const long ret = syscall(SYS_io_getevents, aio, 1, 1, &event, time);

	expect_timeout("io_getevents", ret == 0, began, false);
}

static void begin_uring(void)
{
	static struct io_uring_params parameters;

	waited_fd = (int)syscall(SYS_io_uring_setup, 4, &parameters);
	if (waited_fd < 0)
		lacks("io_uring_setup");
}

static void wait_uring(void)
{
	const struct __kernel_timespec time = { .tv_nsec = NAP_NS };
	const struct io_uring_getevents_arg argument = { .ts = (uint64_t)(uintptr_t)&time };
	const int64_t began = now_ns();
	const long ret =
		syscall(SYS_io_uring_enter, waited_fd, 0, 1,
			IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument, sizeof(argument));

	expect_timeout("io_uring_enter", ret == -1 && errno == ETIME, began, false);
}

static void begin_timerfd(void)
{
	need(waited_fd = timerfd_create(CLOCK_MONOTONIC, 0), "timerfd_create");
}

static void wait_timerfd(void)
{
	const struct itimerspec once = { .it_value = nap };
	uint64_t count = 0;
	const int64_t began = now_ns();

	expect("timerfd_settime", timerfd_settime(waited_fd, 0, &once, NULL), 0);
	const bool right = read(waited_fd, &count, sizeof(count)) == sizeof(count) && count == 1;

	expect_timeout("timerfd", right, began, false);
}

static timer_t ticker;
static volatile sig_atomic_t ticks;

static void on_tick(int signo)
{
	(void)signo;
	ticks++;
}

static void begin_timers(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMAX };

	need(sigaction(SIGRTMAX, &(struct sigaction){ .sa_handler = on_tick }, NULL), "sigaction");
	need(timer_create(CLOCK_MONOTONIC, &event, &ticker), "timer_create");
	sigemptyset(&waited_signals);
	sigaddset(&waited_signals, SIGRTMAX);
	need(sigprocmask(SIG_BLOCK, &waited_signals, NULL), "sigprocmask");
}

// A timer's one signal ends sigsuspend, once.
static void wait_timers(void)
{
	const struct itimerspec once = { .it_value = nap };
	const sig_atomic_t before = ticks;
	const int64_t began = now_ns();
	sigset_t none;

	sigemptyset(&none);
	expect("timer_settime", timer_settime(ticker, 0, &once, NULL), 0);
	const bool right = sigsuspend(&none) == -1 && errno == EINTR && ticks == before + 1 &&
			   timer_getoverrun(ticker) == 0;

	expect_timeout("sigsuspend", right, began, false);
}
