/* SPDX-License-Identifier: BSD-3-Clause */
// One thread in each call that waits. argv[1] is the timeout in seconds of those that have one.
//
// verify: no call came back: not with a result, not with EINTR, not too early. finish: each call
// completes by the event it waits for, or by its timeout when that is short, with the right result.
//
// System V queues and semaphores outlive a process that is killed, so they live in an IPC namespace
// of the scenario's own; without the right to make one (CAP_SYS_ADMIN) these calls are left out.
#include "scenario.h"

#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/un.h>

#define STACK (64UL << 10)
#define TICKS_MS 50     // by which a timeout in ticks is short when the last ones came late
#define LONG_SECONDS 60 // a timeout that does not end while the scenario holds
#define SIG_WAIT (SIGRTMIN + 1)
#define SIG_SUSPEND (SIGRTMIN + 2)

struct call {
	const char *name;
	long (*enter)(struct call *call);
	void (*release)(struct call *call); // makes the call complete; NULL: only time does
	bool timed;                         // has a timeout
	long on_event;                      // result when released; -1 comes with errno event_errno
	int event_errno;
	long on_timeout;
	int timeout_errno;
	// filled at run time
	int fd[2], id;
	uint32_t word;
	pid_t tid;
	struct timespec began;
	_Atomic uint32_t done;
	long ret;
	int err;
	uint64_t elapsed_ms;
};

static long seconds = 3600;
static bool own_ipc;

static uint64_t milliseconds_since(const struct timespec *began)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)(((int64_t)now.tv_sec - began->tv_sec) * 1000 +
			  ((int64_t)now.tv_nsec - began->tv_nsec) / 1000000);
}

static struct timespec timeout_of(const struct call *call)
{
	return (struct timespec){call->timed ? seconds : 3600, 0};
}

static int timeout_ms(const struct call *call)
{
	return call->timed ? (int)(seconds * 1000) : -1;
}

static long enter_nanosleep(struct call *call)
{
	const struct timespec time = timeout_of(call);
	return nanosleep(&time, NULL);
}

static long enter_clock_nanosleep(struct call *call)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	time.tv_sec += timeout_of(call).tv_sec;
	const int err = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
	errno = err;
	return err ? -1 : 0;
}

static long enter_poll(struct call *call)
{
	struct pollfd poll_fd = {.fd = call->fd[0], .events = POLLIN};
	return poll(&poll_fd, 1, timeout_ms(call));
}

static long enter_ppoll(struct call *call)
{
	struct pollfd poll_fd = {.fd = call->fd[0], .events = POLLIN};
	const struct timespec time = timeout_of(call);
	return ppoll(&poll_fd, 1, call->timed ? &time : NULL, NULL);
}

static long enter_select(struct call *call)
{
	fd_set set;
	FD_ZERO(&set);
	FD_SET(call->fd[0], &set);
	struct timeval time = {timeout_of(call).tv_sec, 0};
	return select(call->fd[0] + 1, &set, NULL, NULL, call->timed ? &time : NULL);
}

static long enter_pselect(struct call *call)
{
	fd_set set;
	FD_ZERO(&set);
	FD_SET(call->fd[0], &set);
	const struct timespec time = timeout_of(call);
	return pselect(call->fd[0] + 1, &set, NULL, NULL, call->timed ? &time : NULL, NULL);
}

static long enter_epoll(struct call *call)
{
	struct epoll_event event;
	return epoll_wait(call->id, &event, 1, timeout_ms(call));
}

static long enter_futex(struct call *call)
{
	// Without a timeout, so that the width of its fields does not matter.
	return syscall(SYS_futex, &call->word, 0 /* FUTEX_WAIT */, 0, NULL, NULL, 0);
}

static long enter_timed_lock(struct call *call)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
	struct timespec time;
	clock_gettime(CLOCK_REALTIME, &time);
	time.tv_sec += timeout_of(call).tv_sec;
	pthread_mutex_lock(&mutex);
	errno = pthread_cond_timedwait(&condition, &mutex, &time);
	pthread_mutex_unlock(&mutex);
	return errno ? -1 : 0;
}

static long enter_read(struct call *call)
{
	char byte;
	return read(call->fd[0], &byte, 1);
}

static long enter_write(struct call *call)
{
	return write(call->fd[1], "x", 1); // into a pipe that is full
}

static long enter_recv(struct call *call)
{
	char byte;
	return recv(call->fd[0], &byte, 1, 0);
}

static long enter_accept(struct call *call)
{
	return accept(call->fd[0], NULL, NULL) >= 0 ? 0 : -1;
}

static long enter_sigwait(struct call *call)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIG_WAIT);
	const struct timespec time = timeout_of(call);
	return (call->timed ? sigtimedwait(&set, NULL, &time) : sigwaitinfo(&set, NULL)) == SIG_WAIT
		       ? 0
		       : -1;
}

static long enter_sigsuspend(struct call *call)
{
	(void)call;
	sigset_t set;
	sigfillset(&set);
	sigdelset(&set, SIG_SUSPEND);
	sigdelset(&set, SIGABRT);
	return sigsuspend(&set);
}

static long enter_msgrcv(struct call *call)
{
	struct {
		long type;
		char text[8];
	} message;
	return msgrcv(call->id, &message, sizeof(message.text), 0, 0);
}

static long enter_semop(struct call *call)
{
	struct sembuf op = {.sem_num = 0, .sem_op = -1};
	const struct timespec time = timeout_of(call);
	return call->timed ? semtimedop(call->id, &op, 1, &time) : semop(call->id, &op, 1);
}

static long enter_io_getevents(struct call *call)
{
	aio_context_t context = 0;
	struct io_event event;
	if (syscall(SYS_io_setup, 1, &context) != 0)
		return -2;
	const long ret = syscall(SYS_io_getevents, context, 1, 1, &event, NULL);
	(void)call;
	return ret;
}

static long enter_lock(struct call *call)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	return fcntl(call->fd[1], F_OFD_SETLKW, &lock);
}

static void release_byte(struct call *call)
{
	(void)!write(call->fd[1], "x", 1);
}

static void release_drain(struct call *call)
{
	char bytes[8192];
	(void)!read(call->fd[0], bytes, sizeof(bytes));
}

static void release_futex(struct call *call)
{
	syscall(SYS_futex, &call->word, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
}

static void release_connect(struct call *call)
{
	struct sockaddr_un name;
	socklen_t size = sizeof(name);
	getsockname(call->fd[0], (struct sockaddr *)&name, &size);
	connect(call->fd[1], (struct sockaddr *)&name, size);
}

static void release_sigwait(struct call *call)
{
	syscall(SYS_tgkill, getpid(), call->tid, SIG_WAIT);
}

static void release_sigsuspend(struct call *call)
{
	syscall(SYS_tgkill, getpid(), call->tid, SIG_SUSPEND);
}

static void release_msg(struct call *call)
{
	const struct {
		long type;
		char text[8];
	} message = {1, "message"};
	msgsnd(call->id, &message, sizeof(message.text), 0);
}

static void release_sem(struct call *call)
{
	struct sembuf op = {.sem_num = 0, .sem_op = 1};
	semop(call->id, &op, 1);
}

static void release_lock(struct call *call)
{
	struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
	fcntl(call->fd[0], F_OFD_SETLK, &lock);
}

static struct call calls[] = {
	{.name = "nanosleep", .enter = enter_nanosleep, .timed = true},
	{.name = "clock_nanosleep", .enter = enter_clock_nanosleep, .timed = true},
	{.name = "poll", .enter = enter_poll, .release = release_byte, .on_event = 1},
	{.name = "poll, timed", .enter = enter_poll, .timed = true},
	{.name = "ppoll", .enter = enter_ppoll, .release = release_byte, .on_event = 1},
	{.name = "ppoll, timed", .enter = enter_ppoll, .timed = true},
	{.name = "select", .enter = enter_select, .release = release_byte, .on_event = 1},
	{.name = "select, timed", .enter = enter_select, .timed = true},
	{.name = "pselect", .enter = enter_pselect, .release = release_byte, .on_event = 1},
	{.name = "pselect, timed", .enter = enter_pselect, .timed = true},
	{.name = "epoll_wait", .enter = enter_epoll, .release = release_byte, .on_event = 1},
	{.name = "epoll_wait, timed", .enter = enter_epoll, .release = release_byte, .timed = true,
	 .on_event = 1},
	{.name = "futex", .enter = enter_futex, .release = release_futex},
	{.name = "pthread_cond_timedwait", .enter = enter_timed_lock, .timed = true,
	 .on_timeout = -1, .timeout_errno = ETIMEDOUT},
	{.name = "read", .enter = enter_read, .release = release_byte, .on_event = 1},
	{.name = "write", .enter = enter_write, .release = release_drain, .on_event = 1},
	{.name = "recv", .enter = enter_recv, .release = release_byte, .on_event = 1},
	{.name = "recv, SO_RCVTIMEO", .enter = enter_recv, .release = release_byte, .timed = true,
	 .on_event = 1, .on_timeout = -1, .timeout_errno = EAGAIN},
	{.name = "accept", .enter = enter_accept, .release = release_connect},
	{.name = "accept, SO_RCVTIMEO", .enter = enter_accept, .release = release_connect,
	 .timed = true, .on_timeout = -1, .timeout_errno = EAGAIN},
	{.name = "sigwaitinfo", .enter = enter_sigwait, .release = release_sigwait},
	{.name = "sigtimedwait", .enter = enter_sigwait, .release = release_sigwait, .timed = true,
	 .on_timeout = -1, .timeout_errno = EAGAIN},
	{.name = "sigsuspend", .enter = enter_sigsuspend, .release = release_sigsuspend,
	 .on_event = -1, .event_errno = EINTR},
	{.name = "msgrcv", .enter = enter_msgrcv, .release = release_msg, .on_event = 8},
	{.name = "semop", .enter = enter_semop, .release = release_sem},
	{.name = "semtimedop", .enter = enter_semop, .release = release_sem, .timed = true,
	 .on_timeout = -1, .timeout_errno = EAGAIN},
	{.name = "io_getevents", .enter = enter_io_getevents},
	{.name = "F_OFD_SETLKW", .enter = enter_lock, .release = release_lock},
};

#define CALLS (sizeof(calls) / sizeof(calls[0]))

static bool is_ipc(const struct call *call)
{
	return call->enter == enter_msgrcv || call->enter == enter_semop;
}

static void need(int result, const struct call *call)
{
	if (result < 0)
		scenario_die("%s", call->name);
}

static void set_up_socket(struct call *call)
{
	if (call->enter == enter_recv) {
		need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, call->fd), call);
	} else {
		const struct sockaddr_un name = {.sun_family = AF_UNIX};
		for (int i = 0; i < 2; i++)
			need(call->fd[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), call);
		need(bind(call->fd[0], (const struct sockaddr *)&name, sizeof(sa_family_t)), call);
		need(listen(call->fd[0], 1), call);
	}
	const struct timeval time = {seconds, 0};
	if (call->timed)
		need(setsockopt(call->fd[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time)), call);
}

static void set_up(struct call *call)
{
	if (call->enter == enter_recv || call->enter == enter_accept) {
		set_up_socket(call);
	} else if (call->enter == enter_lock) {
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
		for (int i = 0; i < 2; i++)
			need(call->fd[i] = open("lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600), call);
		need(fcntl(call->fd[0], F_OFD_SETLK, &lock), call);
	} else if (call->enter == enter_msgrcv) {
		need(call->id = msgget(IPC_PRIVATE, IPC_CREAT | 0600), call);
	} else if (call->enter == enter_semop) {
		need(call->id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600), call);
	} else {
		need(pipe2(call->fd, O_CLOEXEC), call);
	}
	if (call->enter == enter_epoll) {
		struct epoll_event event = {.events = EPOLLIN};
		need(call->id = epoll_create1(EPOLL_CLOEXEC), call);
		need(epoll_ctl(call->id, EPOLL_CTL_ADD, call->fd[0], &event), call);
	}
	if (call->enter == enter_write) {
		static const char full[4096];
		need(fcntl(call->fd[1], F_SETPIPE_SZ, sizeof(full)), call);
		need((int)write(call->fd[1], full, sizeof(full)), call);
	}
}

static void *run(void *arg)
{
	struct call *call = arg;
	clock_gettime(CLOCK_MONOTONIC, &call->began);
	errno = 0;
	call->ret = call->enter(call);
	call->err = errno;
	call->elapsed_ms = milliseconds_since(&call->began);
	call->done = 1;
	return NULL;
}

static const char *verify(void)
{
	for (size_t i = 0; i < CALLS; i++) {
		if (calls[i].done)
			return scenario_why("%s came back after %llu ms with %ld, errno %d",
					    calls[i].name, (unsigned long long)calls[i].elapsed_ms,
					    calls[i].ret, calls[i].err);
	}
	return NULL;
}

static const char *check(const struct call *call, bool by_time)
{
	const long ret = by_time ? call->on_timeout : call->on_event;
	const int err = by_time ? call->timeout_errno : call->event_errno;
	if (call->ret != ret || (ret == -1 && call->err != err))
		return scenario_why("%s returned %ld, errno %d", call->name, call->ret, call->err);
	// SO_RCVTIMEO counts ticks (net/core/sock.c: sock_set_timeout), the others have hrtimers.
	const bool in_ticks = call->enter == enter_recv || call->enter == enter_accept;
	if (by_time && call->elapsed_ms + (in_ticks ? TICKS_MS : 0) < (uint64_t)seconds * 1000)
		return scenario_why("%s ended after %llu ms", call->name,
				    (unsigned long long)call->elapsed_ms);
	return NULL;
}

static const char *finish(void)
{
	const bool by_time = seconds < LONG_SECONDS;
	for (size_t i = 0; i < CALLS; i++) {
		struct call *call = &calls[i];
		const bool waits = by_time && call->timed;
		if (!call->tid || (!call->release && !waits))
			continue;
		if (call->release && !waits)
			call->release(call);
		const time_t deadline = time(NULL) + AWAIT_SECONDS + (waits ? seconds : 0);
		while (!call->done) {
			if (time(NULL) > deadline)
				return scenario_why("%s does not complete", call->name);
			sched_yield();
		}
		const char *why = check(call, waits);
		if (why)
			return why;
	}
	return NULL;
}

static void nothing(int signo)
{
	(void)signo;
}

int main(int argc, char **argv)
{
	scenario_begin();
	if (argc > 1)
		seconds = strtol(argv[1], NULL, 10);
	own_ipc = syscall(SYS_unshare, 0x08000000 /* CLONE_NEWIPC */) == 0;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIG_WAIT);
	sigaddset(&set, SIG_SUSPEND);
	sigprocmask(SIG_BLOCK, &set, NULL); // inherited by the threads
	const struct sigaction action = {.sa_handler = nothing};
	sigaction(SIG_SUSPEND, &action, NULL);
	for (size_t i = 0; i < CALLS; i++) {
		struct call *call = &calls[i];
		if (is_ipc(call) && !own_ipc)
			continue;
		set_up(call);
		call->tid = scenario_create(run, call, STACK);
		scenario_thread(call->tid);
		scenario_await(call->tid, -1);
	}
	scenario_hold(verify, finish);
}
