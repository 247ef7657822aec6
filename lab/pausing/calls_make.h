/* SPDX-License-Identifier: BSD-3-Clause */
// Part of calls.c: the calls. Each returns what the system call returned; -2 when the
// data that came with it is wrong.

static long do_nanosleep(void)
{
	const struct timespec time = relative();

	return nanosleep(&time, NULL);
}

static long from_errno(int error)
{
	errno = error;
	return error ? -1 : 0;
}

static long do_clock_nanosleep(void)
{
	const struct timespec time = relative();

	return from_errno(clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL));
}

static long do_clock_nanosleep_abs(void)
{
	const struct timespec time = after_ms(CLOCK_MONOTONIC, duration_ms);

	return from_errno(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL));
}

static long do_futex(void)
{
	return syscall(SYS_futex, &shared->word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static long do_futex_timeout(void)
{
	const long time[2] = { duration_ms / 1000, duration_ms % 1000 * 1000000L };

	return syscall(SYS_futex, &shared->word, FUTEX_WAIT, 0, time, NULL, 0);
}

static long do_futex_abs(void)
{
	const struct timespec at = after_ms(CLOCK_MONOTONIC, duration_ms);
	const long time[2] = { (long)at.tv_sec, (long)at.tv_nsec };

	return syscall(SYS_futex, &shared->word, FUTEX_WAIT_BITSET, 0, time, NULL, 1);
}

static long do_cond_timedwait(void)
{
	const struct timespec at = after_ms(CLOCK_REALTIME, duration_ms);

	pthread_mutex_lock(&shared->mutex);
	return from_errno(pthread_cond_timedwait(&shared->cond, &shared->mutex, &at));
}

static long poll_for(int ms)
{
	struct pollfd poll_fd = { .fd = fds[0], .events = POLLIN };

	return poll(&poll_fd, 1, ms);
}

static long do_poll(void)
{
	return poll_for(-1);
}

static long do_poll_timeout(void)
{
	return poll_for(duration_ms);
}

static long ppoll_for(const struct timespec *time)
{
	struct pollfd poll_fd = { .fd = fds[0], .events = POLLIN };
	sigset_t all;

	sigfillset(&all);
	return ppoll(&poll_fd, 1, time, &all);
}

static long do_ppoll(void)
{
	return ppoll_for(NULL);
}

static long do_ppoll_timeout(void)
{
	const struct timespec time = relative();

	return ppoll_for(&time);
}

static long do_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	return select(fds[0] + 1, &set, NULL, NULL, NULL);
}

static long do_select_timeout(void)
{
	struct timeval time = { duration_ms / 1000, duration_ms % 1000 * 1000 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	return select(fds[0] + 1, &set, NULL, NULL, &time);
}

static long do_pselect_timeout(void)
{
	const struct timespec time = relative();
	sigset_t all;
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	sigfillset(&all);
	return pselect(fds[0] + 1, &set, NULL, NULL, &time, &all);
}

static long epoll_for(int ms)
{
	struct epoll_event event = { 0 };
	const long ret = epoll_wait(ipc_id, &event, 1, ms);

	return ret == 1 && event.data.u32 != 77 ? -2 : ret;
}

static long do_epoll_wait(void)
{
	return epoll_for(-1);
}

static long do_epoll_wait_timeout(void)
{
	return epoll_for(duration_ms);
}

static long do_epoll_pwait_timeout(void)
{
	struct epoll_event event;
	sigset_t all;

	sigfillset(&all);
	return epoll_pwait(ipc_id, &event, 1, duration_ms, &all);
}

static long epoll2_for(const struct __kernel_timespec *time)
{
	struct epoll_event event;

	return syscall(SYS_epoll_pwait2, ipc_id, &event, 1, time, NULL, 8);
}

static long do_epoll_pwait2(void)
{
	return epoll2_for(NULL);
}

static struct __kernel_timespec relative64(void)
{
	return (struct __kernel_timespec){ duration_ms / 1000, duration_ms % 1000 * 1000000LL };
}

static long do_epoll_pwait2_timeout(void)
{
	const struct __kernel_timespec time = relative64();

	return epoll2_for(&time);
}

static long do_read(void)
{
	return read(fds[0], data, sizeof(data));
}

static long do_read_timerfd(void)
{
	const struct itimerspec once = { .it_value = relative() };

	must(timerfd_settime(fds[0], 0, &once, NULL), "timerfd_settime");
	return do_read();
}

static long do_read_signalfd(void)
{
	struct signalfd_siginfo info = { 0 };

	return read(fds[0], &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGUSR1 ? 1 :
												-2;
}

static long do_write(void)
{
	return write(fds[1], "0123456789", 10);
}

static long do_write_long(void)
{
	return write(fds[1], long_data, sizeof(long_data));
}

static long do_send_long(void)
{
	return send(fds[0], long_data, sizeof(long_data), MSG_NOSIGNAL);
}

static long do_recv_waitall(void)
{
	return recv(fds[0], data, 16, MSG_WAITALL);
}

static long do_recv(void)
{
	return recv(fds[0], data, sizeof(data), 0);
}

static long do_recvmsg(void)
{
	struct iovec iov = { .iov_base = data, .iov_len = sizeof(data) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	return recvmsg(fds[0], &message, 0);
}

static long do_recvmmsg(void)
{
	struct iovec iov = { .iov_base = data, .iov_len = sizeof(data) };
	struct mmsghdr message = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };

	return recvmmsg(fds[0], &message, 1, 0, NULL);
}

static long do_send(void)
{
	return send(fds[0], "0123456789", 10, MSG_NOSIGNAL);
}

static long do_accept(void)
{
	const int fd = accept(listener, NULL, NULL);

	return fd > 0 ? close(fd) + 1 : fd;
}

static long do_connect(void)
{
	return connect(fds[0], (struct sockaddr *)&address, sizeof(address));
}

static long do_connect_tcp(void)
{
	return connect(fds[0], (struct sockaddr *)&tcp_address, sizeof(tcp_address));
}

static long sigwait_for(const struct timespec *time)
{
	siginfo_t info = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	const long ret = sigtimedwait(&set, &info, time);

	return ret == SIGUSR1 && info.si_pid != waker ? -2 : ret;
}

static long do_sigwaitinfo(void)
{
	return sigwait_for(NULL);
}

static long do_sigtimedwait(void)
{
	const struct timespec time = relative();

	return sigwait_for(&time);
}

static long do_semop(void)
{
	struct sembuf take = { .sem_op = -1 };

	return semop(ipc_id, &take, 1);
}

static long do_semtimedop(void)
{
	const struct timespec time = relative();
	struct sembuf take = { .sem_op = -1 };

	return semtimedop(ipc_id, &take, 1, &time);
}

static long do_msgrcv(void)
{
	struct message message = { 0 };
	const long ret = msgrcv(ipc_id, &message, sizeof(message.text), 0, 0);

	return ret == sizeof(message.text) && message.type == 7 ? 7 : ret < 0 ? ret : -2;
}

static long do_msgsnd(void)
{
	const struct message message = { .type = 7 };

	return msgsnd(ipc_id, &message, sizeof(message.text), 0);
}

static long getevents_for(const long *time)
{
	struct io_event events[1];
	const long ret = syscall(SYS_io_getevents, aio, 1, 1, events, time);

	return ret == 1 && events[0].data != 77 ? -2 : ret;
}

static long do_io_getevents(void)
{
	return getevents_for(NULL);
}

static long do_io_getevents_timeout(void)
{
	const long time[2] = { duration_ms / 1000, duration_ms % 1000 * 1000000L };

	return getevents_for(time);
}

static long do_uring(void)
{
	return syscall(SYS_io_uring_enter, ipc_id, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
}

static long do_uring_timeout(void)
{
	const struct __kernel_timespec time = relative64();
	const struct io_uring_getevents_arg arg = { .ts = (uint64_t)(uintptr_t)&time };

	return syscall(SYS_io_uring_enter, ipc_id, 0, 1,
		       IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof(arg));
}

static long do_wait4(void)
{
	int status;
	const pid_t pid = waitpid(waker, &status, 0);

	return pid == waker && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 1 : pid < 0 ? pid : -2;
}

static long do_flock(void)
{
	const int ret = flock(fds[0], LOCK_EX);

	flock(fds[0], LOCK_UN);
	return ret;
}

static long do_setlkw(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };

	const int ret = fcntl(fds[0], F_SETLKW, &lock);

	lock.l_type = F_UNLCK;
	fcntl(fds[0], F_SETLK, &lock);
	return ret;
}

static long do_inotify(void)
{
	char buffer[512];

	return read(fds[1], buffer, sizeof(buffer)) > 0 ? 1 : -1;
}

// With a handler that ran, EINTR is right: the result says how often it did.
static long handled_or(long ret)
{
	return ret == -1 && errno == EINTR && handled ? handled : ret;
}

static long do_pause(void)
{
	return handled_or(pause());
}

static long do_sigsuspend(void)
{
	sigset_t none;

	sigemptyset(&none);
	return handled_or(sigsuspend(&none));
}

// A handler must make epoll_wait fail with EINTR, also after a dump.
static long do_epoll_handler(void)
{
	return handled_or(epoll_for(-1));
}
