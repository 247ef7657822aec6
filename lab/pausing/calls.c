/* SPDX-License-Identifier: BSD-3-Clause */
// A program that sits in one system call and then says how that ended.
//
//   calls list               the calls, one a line: NAME KIND
//   calls NAME MILLISECONDS  makes the call
//
// KIND is "timed" (ends after MILLISECONDS) or "woken" (ends by a waker). The waker is a child
// process, which acts when it reads a byte from standard input: so the process under test has one
// thread, and whatever a dumper does, it does to the thread that is in the call.
//
// Output: "ready PID" before the call, then "RESULT ERRNO BEGAN ENDED VERDICT" (CLOCK_MONOTONIC,
// nanoseconds), VERDICT being "ok" when result, errno and data are those of a call that nobody
// interrupted, "changed LINE" when they are and what the process sees of itself in /proc is not what
// it was (view.h), else "wrong". "unsupported ERRNO" when the kernel does not have the call.
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "view.h"

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

static int duration_ms;
static int fds[2] = { -1, -1 };
static int listener = -1, lock_fd = -1, ipc_id = -1;
static pid_t waker;
static volatile sig_atomic_t handled;
static char data[64];
static char long_data[4 << 20]; // does not fit a pipe or a socket buffer
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static struct sockaddr_in tcp_address = { .sin_family = AF_INET,
					  .sin_addr.s_addr = 0x0100007f }; // 127.0.0.1
static aio_context_t aio;
static struct io_uring_params ring;

struct message {
	long type;
	char text[1024];
};

// What subject and waker share.
static struct shared {
	uint32_t word;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
} *shared;

static void die(const char *what)
{
	printf("unsupported %d %s\n", errno, what);
	exit(0);
}

static void must(long ret, const char *what)
{
	if (ret < 0)
		die(what);
}

static struct timespec after_ms(clockid_t clock, int ms)
{
	struct timespec at = { 0 };

	if (clock >= 0)
		clock_gettime(clock, &at);
	at.tv_sec += ms / 1000;
	at.tv_nsec += ms % 1000 * 1000000L;
	if (at.tv_nsec >= 1000000000) {
		at.tv_nsec -= 1000000000;
		at.tv_sec++;
	}
	return at;
}

static struct timespec relative(void)
{
	return after_ms(-1, duration_ms);
}

static void on_signal(int signo)
{
	(void)signo;
	handled++;
}

#include "calls_make.h"
#include "calls_setup.h"
#include "calls_wake.h"

struct call {
	const char *name;
	bool timed; // ends by itself after duration_ms
	void (*setup)(void);
	long (*run)(void);
	void (*wake)(void);
	void (*teardown)(void);
	long result;
	int error;
};

static const struct call calls[] = {
	{ "nanosleep", true, NULL, do_nanosleep, .result = 0 },
	{ "clock_nanosleep", true, NULL, do_clock_nanosleep, .result = 0 },
	{ "clock_nanosleep-abs", true, NULL, do_clock_nanosleep_abs, .result = 0 },
	{ "futex", false, NULL, do_futex, wake_futex, .result = 0 },
	{ "futex-timeout", true, NULL, do_futex_timeout, .result = -1, .error = ETIMEDOUT },
	{ "futex-abs", true, NULL, do_futex_abs, .result = -1, .error = ETIMEDOUT },
	{ "pthread_cond_timedwait", true, make_cond, do_cond_timedwait, .result = -1,
	  .error = ETIMEDOUT },
	{ "poll", false, make_pipe, do_poll, wake_write, .result = 1 },
	{ "poll-timeout", true, make_pipe, do_poll_timeout, .result = 0 },
	{ "ppoll", false, make_pipe, do_ppoll, wake_write, .result = 1 },
	{ "ppoll-timeout", true, make_pipe, do_ppoll_timeout, .result = 0 },
	{ "select", false, make_pipe, do_select, wake_write, .result = 1 },
	{ "select-timeout", true, make_pipe, do_select_timeout, .result = 0 },
	{ "pselect-timeout", true, make_pipe, do_pselect_timeout, .result = 0 },
	{ "epoll_wait", false, make_epoll, do_epoll_wait, wake_write, .result = 1 },
	{ "epoll_wait-timeout", true, make_epoll, do_epoll_wait_timeout, .result = 0 },
	{ "epoll_wait-handler", false, make_epoll, do_epoll_handler, wake_signal, .result = 1 },
	{ "epoll_pwait-timeout", true, make_epoll, do_epoll_pwait_timeout, .result = 0 },
	{ "epoll_pwait2", false, make_epoll, do_epoll_pwait2, wake_write, .result = 1 },
	{ "epoll_pwait2-timeout", true, make_epoll, do_epoll_pwait2_timeout, .result = 0 },
	{ "read-pipe", false, make_pipe, do_read, wake_write, .result = 8 },
	{ "write-pipe", false, fill_pipe, do_write, wake_read, .result = 10 },
	{ "write-pipe-long", false, make_pipe, do_write_long, wake_drain,
	  .result = sizeof(long_data) },
	{ "recv", false, make_sockets, do_recv, wake_write, .result = 8 },
	{ "recv-timeout", true, make_timed_sockets, do_recv, .result = -1, .error = EAGAIN },
	{ "recv-timeout-data", false, make_timed_sockets, do_recv, wake_write, .result = 8 },
	{ "recvmsg-timeout", true, make_timed_sockets, do_recvmsg, .result = -1, .error = EAGAIN },
	{ "recvmmsg-timeout", true, make_timed_sockets, do_recvmmsg, .result = -1,
	  .error = EAGAIN },
	{ "read-socket-timeout", true, make_timed_sockets, do_read, .result = -1,
	  .error = EAGAIN },
	{ "send-timeout", true, fill_timed_sockets, do_send, .result = -1, .error = EAGAIN },
	{ "recv-waitall", false, fill_half, do_recv_waitall, wake_write, .result = 16 },
	{ "send-long", false, make_sockets, do_send_long, wake_drain_socket,
	  .result = sizeof(long_data) },
	{ "accept", false, make_listener, do_accept, wake_connect, .result = 1 },
	{ "accept-timeout", true, make_timed_listener, do_accept, .result = -1, .error = EAGAIN },
	{ "connect", false, fill_listener, do_connect, wake_accept, .result = 0 },
	{ "connect-timeout", true, fill_timed_listener, do_connect, .result = -1,
	  .error = EAGAIN },
	{ "connect-tcp-timeout", true, fill_timed_tcp, do_connect_tcp, .result = -1,
	  .error = EINPROGRESS },
	{ "sigwaitinfo", false, block_signal, do_sigwaitinfo, wake_signal, .result = SIGUSR1 },
	{ "sigtimedwait", true, block_signal, do_sigtimedwait, .result = -1, .error = EAGAIN },
	{ "semop", false, make_sem, do_semop, wake_sem, remove_sem, 0, 0 },
	{ "semtimedop", true, make_sem, do_semtimedop, NULL, remove_sem, -1, EAGAIN },
	{ "msgrcv", false, make_queue, do_msgrcv, wake_msgrcv, remove_queue, 7, 0 },
	{ "msgsnd", false, fill_queue, do_msgsnd, wake_msgsnd, remove_queue, 0, 0 },
	{ "io_getevents", false, make_aio, do_io_getevents, wake_write, .result = 1 },
	{ "io_getevents-timeout", true, make_aio, do_io_getevents_timeout, .result = 0 },
	{ "io_uring_enter", false, make_uring, do_uring, wake_write, .result = 0 },
	{ "io_uring_enter-timeout", true, make_uring, do_uring_timeout, .result = -1,
	  .error = ETIME },
	{ "wait4", false, NULL, do_wait4, wake_exit, .result = 1 },
	{ "flock", false, make_file, do_flock, wake_lock, .result = 0 },
	{ "fcntl-F_SETLKW", false, make_file, do_setlkw, wake_lock, .result = 0 },
	{ "read-signalfd", false, make_signalfd, do_read_signalfd, wake_signal, .result = 1 },
	{ "read-timerfd", true, make_timerfd, do_read_timerfd, .result = 8 },
	{ "read-eventfd", false, make_eventfd, do_read, wake_write, .result = 8 },
	{ "read-inotify", false, make_inotify, do_inotify, wake_modify, .result = 1 },
	{ "pause", false, NULL, do_pause, wake_signal, .result = 1 },
	{ "sigsuspend", false, block_signal, do_sigsuspend, wake_signal, .result = 1 },
};

enum { N_CALLS = sizeof(calls) / sizeof(calls[0]) };

// The waker says that it is ready, waits for a byte, acts, and ends.
static void fork_waker(const struct call *call)
{
	int ready[2];
	char byte;

	must(pipe(ready), "pipe");
	must(waker = fork(), "fork");
	if (waker == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (call->wake == wake_lock)
			hold_lock();
		if (write(ready[1], "r", 1) == 1 && read(0, &byte, 1) == 1 && call->wake)
			call->wake();
		_exit(0);
	}
	must(read(ready[0], &byte, 1) == 1 ? 0 : -1, "waker");
	close(ready[0]);
	close(ready[1]);
}

static struct view before, after;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// The first line that is not what it was.
static void say_change(void)
{
	char *was = before.text, *is = after.text;

	while (was && is) {
		const char *const old_line = strsep(&was, "\n"), *const line = strsep(&is, "\n");

		if (strcmp(old_line, line) != 0) {
			printf("changed %s, was: %s\n", line, old_line);
			return;
		}
	}
	puts("ok");
}

static void make_call(const struct call *call)
{
	sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = on_signal }, NULL);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		die("mmap");
	if (call->setup)
		call->setup();
	view_take(&before, 0); // whatever it allocates is allocated then
	view_take(&before, 0);
	fork_waker(call);
	printf("ready %d\n", getpid());
	const int64_t began = now_ns();

	errno = 0;
	const long result = call->run();
	const int error = result == -1 ? errno : 0;
	const int64_t ended = now_ns();

	if (call->teardown)
		call->teardown();
	view_take(&after, waker);
	printf("%ld %d %lld %lld ", result, error, (long long)began, (long long)ended);
	if (result == call->result && error == call->error)
		say_change();
	else
		puts("wrong");
}

int main(int argc, char **argv)
{
	static char output[4096]; // else the first line would allocate it

	setvbuf(stdout, output, _IOLBF, sizeof(output));
	for (size_t i = 0; i < N_CALLS; i++) {
		if (argc == 2 && strcmp(argv[1], "list") == 0)
			printf("%s %s\n", calls[i].name, calls[i].timed ? "timed" : "woken");
		if (argc != 3 || strcmp(argv[1], calls[i].name) != 0)
			continue;
		duration_ms = atoi(argv[2]);
		make_call(&calls[i]);
		return 0;
	}
	return argc == 2 ? 0 : 2;
}
