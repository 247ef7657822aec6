/* SPDX-License-Identifier: BSD-3-Clause */
// Part of calls.c: what the waker does to end a call.

static void wake_futex(void)
{
	syscall(SYS_futex, &shared->word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void wake_write(void)
{
	if (write(fds[1] >= 0 ? fds[1] : fds[0], "12345678", 8) != 8)
		_exit(1);
}

static void wake_read(void)
{
	static char buffer[65536];

	if (read(fds[0], buffer, sizeof(buffer)) < 0)
		_exit(1);
}

// Takes everything that long_data has.
static void drain(int fd)
{
	static char buffer[65536];

	for (size_t left = sizeof(long_data); left > 0;) {
		const ssize_t n = read(fd, buffer, left < sizeof(buffer) ? left : sizeof(buffer));

		if (n <= 0)
			_exit(1);
		left -= (size_t)n;
	}
}

static void wake_drain(void)
{
	drain(fds[0]);
}

static void wake_drain_socket(void)
{
	drain(fds[1]);
}

static void wake_connect(void)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		_exit(1);
}

static void wake_accept(void)
{
	if (accept(listener, NULL, NULL) < 0)
		_exit(1);
}

static void wake_signal(void)
{
	kill(getppid(), SIGUSR1);
}

static void wake_sem(void)
{
	struct sembuf give = { .sem_op = 1 };

	semop(ipc_id, &give, 1);
}

static void wake_msgrcv(void)
{
	const struct message message = { .type = 7 };

	msgsnd(ipc_id, &message, sizeof(message.text), 0);
}

static void wake_msgsnd(void)
{
	struct message message;

	msgrcv(ipc_id, &message, sizeof(message.text), 0, 0);
}

static void hold_lock(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };

	must(flock(lock_fd, LOCK_EX), "flock");
	must(fcntl(lock_fd, F_SETLK, &lock), "fcntl");
}

static void wake_lock(void)
{
	struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_len = 1 };

	flock(lock_fd, LOCK_UN);
	fcntl(lock_fd, F_SETLK, &lock);
}

static void wake_modify(void)
{
	if (pwrite(lock_fd, "x", 1, 0) != 1)
		_exit(1);
}

static void wake_exit(void)
{
	_exit(0);
}
