/* SPDX-License-Identifier: BSD-3-Clause */
// Part of calls.c: what each call needs before it can block.

static void make_pipe(void)
{
	must(pipe(fds), "pipe");
}

static void fill_pipe(void)
{
	static const char zeros[4096];

	make_pipe();
	must(fcntl(fds[1], F_SETFL, O_NONBLOCK), "fcntl");
	while (write(fds[1], zeros, sizeof(zeros)) > 0)
		;
	must(fcntl(fds[1], F_SETFL, 0), "fcntl");
}

static void make_sockets(void)
{
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair");
}

static void fill_half(void)
{
	make_sockets();
	must(write(fds[1], "12345678", 8), "write");
}

static void limit_socket(int fd)
{
	const struct timeval timeout = { duration_ms / 1000, duration_ms % 1000 * 1000 };

	must(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), "SO_RCVTIMEO");
	must(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)), "SO_SNDTIMEO");
}

static void make_timed_sockets(void)
{
	make_sockets();
	limit_socket(fds[0]);
}

static void fill_timed_sockets(void)
{
	static const char zeros[4096];

	make_timed_sockets();
	while (send(fds[0], zeros, sizeof(zeros), MSG_DONTWAIT) > 0)
		;
}

// A listener with an abstract name.
static void make_listener(void)
{
	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "calls-%d", getpid());
	must(listener = socket(AF_UNIX, SOCK_STREAM, 0), "socket");
	must(bind(listener, (struct sockaddr *)&address, sizeof(address)), "bind");
	must(listen(listener, 0), "listen");
}

static void make_timed_listener(void)
{
	make_listener();
	limit_socket(listener);
}

// One whose queue is full, so that connect(2) blocks.
static void fill_listener(void)
{
	make_listener();
	must(fds[1] = socket(AF_UNIX, SOCK_STREAM, 0), "socket");
	must(connect(fds[1], (struct sockaddr *)&address, sizeof(address)), "connect");
	must(fds[0] = socket(AF_UNIX, SOCK_STREAM, 0), "socket");
}

static void fill_timed_listener(void)
{
	fill_listener();
	limit_socket(fds[0]);
}

// A TCP listener whose queue is full: it drops the handshake, and connect(2) waits.
static void fill_timed_tcp(void)
{
	socklen_t len = sizeof(tcp_address);

	must(listener = socket(AF_INET, SOCK_STREAM, 0), "socket");
	must(bind(listener, (struct sockaddr *)&tcp_address, sizeof(tcp_address)), "bind");
	must(listen(listener, 0), "listen");
	must(getsockname(listener, (struct sockaddr *)&tcp_address, &len), "getsockname");
	must(fds[1] = socket(AF_INET, SOCK_STREAM, 0), "socket");
	must(connect(fds[1], (struct sockaddr *)&tcp_address, sizeof(tcp_address)), "connect");
	must(fds[0] = socket(AF_INET, SOCK_STREAM, 0), "socket");
	limit_socket(fds[0]);
}

static void make_epoll(void)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = 77 };

	make_pipe();
	must(ipc_id = epoll_create1(0), "epoll_create1");
	must(epoll_ctl(ipc_id, EPOLL_CTL_ADD, fds[0], &event), "epoll_ctl");
}

static void block_signal(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static void make_signalfd(void)
{
	sigset_t set;

	block_signal();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	must(fds[0] = signalfd(-1, &set, 0), "signalfd");
}

static void make_timerfd(void)
{
	must(fds[0] = timerfd_create(CLOCK_MONOTONIC, 0), "timerfd_create");
}

static void make_eventfd(void)
{
	must(fds[0] = eventfd(0, 0), "eventfd");
}

static void make_file(void)
{
	char path[64];

	must(fds[0] = memfd_create("calls", 0), "memfd_create");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
	must(lock_fd = open(path, O_RDWR), "open");
}

static void make_inotify(void)
{
	char path[64];

	make_file();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", lock_fd);
	must(fds[1] = inotify_init1(0), "inotify_init1");
	must(inotify_add_watch(fds[1], path, IN_MODIFY), "inotify_add_watch");
}

static void make_sem(void)
{
	must(ipc_id = semget(IPC_PRIVATE, 1, 0600), "semget");
}

static void remove_sem(void)
{
	semctl(ipc_id, 0, IPC_RMID);
}

static void make_queue(void)
{
	must(ipc_id = msgget(IPC_PRIVATE, 0600), "msgget");
}

static void fill_queue(void)
{
	const struct message message = { .type = 7 };

	make_queue();
	while (msgsnd(ipc_id, &message, sizeof(message.text), IPC_NOWAIT) == 0)
		;
}

static void remove_queue(void)
{
	msgctl(ipc_id, IPC_RMID, NULL);
}

static void make_aio(void)
{
	static struct iocb block;
	struct iocb *list[1] = { &block };

	make_pipe();
	block = (struct iocb){ .aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = (uint32_t)fds[0],
			       .aio_buf = POLLIN, .aio_data = 77 };
	must(syscall(SYS_io_setup, 4, &aio), "io_setup");
	must(syscall(SYS_io_submit, aio, 1, list), "io_submit");
}

static void make_uring(void)
{
	make_pipe();
	must(ipc_id = (int)syscall(SYS_io_uring_setup, 4, &ring), "io_uring_setup");
	uint8_t *const sq = mmap(NULL, ring.sq_off.array + 4 * sizeof(uint32_t),
				 PROT_READ | PROT_WRITE, MAP_SHARED, ipc_id, IORING_OFF_SQ_RING);
	struct io_uring_sqe *const sqes = mmap(NULL, 4 * sizeof(struct io_uring_sqe),
					       PROT_READ | PROT_WRITE, MAP_SHARED, ipc_id,
					       IORING_OFF_SQES);

	if (sq == MAP_FAILED || sqes == MAP_FAILED)
		die("mmap of the ring");
	sqes[0] = (struct io_uring_sqe){ .opcode = IORING_OP_POLL_ADD, .fd = fds[0],
					 .poll_events = POLLIN, .user_data = 77 };
	memcpy(sq + ring.sq_off.array, &(uint32_t){ 0 }, sizeof(uint32_t));
	__atomic_store_n((uint32_t *)(void *)(sq + ring.sq_off.tail), 1, __ATOMIC_RELEASE);
	must(syscall(SYS_io_uring_enter, ipc_id, 1, 0, 0, NULL, 0), "io_uring_enter");
}

static void make_cond(void)
{
	pthread_mutexattr_t mutex;
	pthread_condattr_t cond;

	pthread_mutexattr_init(&mutex);
	pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
	pthread_condattr_init(&cond);
	pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&shared->mutex, &mutex);
	pthread_cond_init(&shared->cond, &cond);
}
