/* SPDX-License-Identifier: BSD-3-Clause */
// Part of works.c: two threads that wait for each other. In each round the main thread asks the
// other one, does its part while that one serves, and waits for its answer. Between two rounds the
// other one waits to be asked.
#include <sys/msg.h>
#include <sys/signalfd.h>

enum { TIMES = 50 }; // that a mutex is taken in a round

static int question[2], reply[2];
static pid_t main_tid;

static void ask(void)
{
	expect("write of a question", write(question[1], "?", 1), 1);
}

static void await(void)
{
	char byte;

	expect("read of an answer", read(reply[0], &byte, 1), 1);
}

static void answer_now(void)
{
	expect("write of an answer", write(reply[1], "!", 1), 1);
}

static void *serve_all(void *serve)
{
	void (*const *const part)(void) = serve;
	char byte;

	for (;;) {
		expect("read of a question", read(question[0], &byte, 1), 1);
		(*part)();
		answer_now();
	}
	return NULL;
}

static void start_server(void (*serve)(void))
{
	static void (*part)(void);
	sigset_t all, before;
	pthread_t thread;

	part = serve;
	main_tid = (pid_t)syscall(SYS_gettid);
	need(pipe(question), "pipe");
	need(pipe(reply), "pipe");
	sigfillset(&all); // signals of the process are the main thread's
	pthread_sigmask(SIG_BLOCK, &all, &before);
	need(-pthread_create(&thread, NULL, serve_all, &part), "pthread_create");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void brief(void)
{
	const struct timespec time = { .tv_nsec = NAP_NS / 4 };

	nanosleep(&time, NULL);
}

static void pair_nothing(void)
{
}

static void serve_nothing(void)
{
	brief();
}

// -- futexes ---------------------------------------------------------------------------------------

static uint32_t word;

static void await_word(uint32_t value)
{
	uint32_t now;

	while ((now = __atomic_load_n(&word, __ATOMIC_ACQUIRE)) != value) {
		const long ret = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);

		if (ret != 0 && (ret != -1 || errno != EAGAIN))
			complain("futex returned %ld", ret);
	}
}

static void set_word(uint32_t value)
{
	__atomic_store_n(&word, value, __ATOMIC_RELEASE);
	expect("futex wake", syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) < 0,
	       0);
}

static void pair_futex(void)
{
	await_word(1);
	set_word(0);
}

static void serve_futex(void)
{
	brief();
	set_word(1);
	await_word(0);
}

static bool condition;

static void pair_cond(void)
{
	struct timespec at;
	int error = 0;

	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += FAR;
	pthread_mutex_lock(&cond_mutex);
	while (!condition && !error)
		error = pthread_cond_timedwait(&cond, &cond_mutex, &at);
	condition = false;
	pthread_mutex_unlock(&cond_mutex);
	expect("pthread_cond_timedwait", error, 0);
}

static void serve_cond(void)
{
	brief();
	pthread_mutex_lock(&cond_mutex);
	condition = true;
	pthread_cond_signal(&cond);
	pthread_mutex_unlock(&cond_mutex);
}

static pthread_mutex_t mutex;
static long counted, counted_by[2]; // under the mutex

static void make_mutex(int protocol, int robust)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setprotocol(&attributes, protocol);
	pthread_mutexattr_setrobust(&attributes, robust);
	need(-pthread_mutex_init(&mutex, &attributes), "pthread_mutex_init");
}

static void begin_mutex_pi(void)
{
	make_mutex(PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED);
}

static void begin_mutex_robust(void)
{
	make_mutex(PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_ROBUST);
}

// Each thread also counts what it did, so that an increment that is lost is seen.
static void count_up(long *own)
{
	for (int i = 0; i < TIMES; i++) {
		expect("pthread_mutex_lock", pthread_mutex_lock(&mutex), 0);
		counted++;
		(*own)++;
		if (counted != counted_by[0] + counted_by[1])
			complain("two threads were in the mutex in round %ld", rounds);
		if (i % 8 == 0)
			sched_yield(); // who waits for it sleeps
		expect("pthread_mutex_unlock", pthread_mutex_unlock(&mutex), 0);
	}
}

static void pair_mutex(void)
{
	count_up(&counted_by[0]);
}

static void serve_mutex(void)
{
	count_up(&counted_by[1]);
}

static void *die_as_owner(void *unused)
{
	expect("pthread_mutex_lock", pthread_mutex_lock(&mutex), 0);
	return unused;
}

// A thread ends and owns the mutex: the next one is told.
static void pair_robust(void)
{
	pthread_t thread;

	expect("pthread_create", pthread_create(&thread, NULL, die_as_owner, NULL), 0);
	expect("pthread_join", pthread_join(thread, NULL), 0);
	expect("pthread_mutex_lock", pthread_mutex_lock(&mutex), EOWNERDEAD);
	expect("pthread_mutex_consistent", pthread_mutex_consistent(&mutex), 0);
	expect("pthread_mutex_unlock", pthread_mutex_unlock(&mutex), 0);
}

// -- descriptors -----------------------------------------------------------------------------------

static void pair_poll(void)
{
	struct pollfd answer = { .fd = reply[0], .events = POLLIN };

	expect("poll", poll(&answer, 1, -1), 1);
}

static void pair_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(reply[0], &set);
	expect("select", select(reply[0] + 1, &set, NULL, NULL, NULL), 1);
}

static void pair_epoll(void)
{
	static bool added;
	struct epoll_event event = { .events = EPOLLIN };

	if (!added)
		need(epoll_ctl(waited_fd, EPOLL_CTL_ADD, reply[0], &event), "epoll_ctl");
	added = true;
	expect("epoll_wait", epoll_wait(waited_fd, &event, 1, -1), 1);
}

static void begin_pair_socket(void)
{
	const struct timeval long_time = { .tv_sec = FAR };

	need(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), "socketpair");
	need(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &long_time, sizeof(long_time)),
	     "SO_RCVTIMEO");
}

static void pair_socket(void)
{
	char byte;

	expect("recv", recv(sockets[0], &byte, 1, 0), 1);
	expect("send", send(sockets[0], &byte, 1, 0), 1);
}

static void serve_socket(void)
{
	char byte = 'x';

	brief();
	expect("send", send(sockets[1], &byte, 1, 0), 1);
	expect("recv", recv(sockets[1], &byte, 1, 0), 1);
}

static void begin_pair_accept(void)
{
	const struct sockaddr_un name = { .sun_family = AF_UNIX };

	need(waited_fd = socket(AF_UNIX, SOCK_STREAM, 0), "socket");
	need(bind(waited_fd, (const struct sockaddr *)&name, sizeof(sa_family_t)), "bind");
	need(listen(waited_fd, 1), "listen");
}

static void pair_accept(void)
{
	const int fd = accept(waited_fd, NULL, NULL);

	if (fd < 0)
		complain("accept failed in round %ld", rounds);
	expect("close", close(fd), 0);
}

static void serve_accept(void)
{
	struct sockaddr_un name;
	socklen_t size = sizeof(name);
	const int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	brief();
	expect("getsockname", getsockname(waited_fd, (struct sockaddr *)&name, &size), 0);
	expect("connect", connect(fd, (struct sockaddr *)&name, size), 0);
	expect("close", close(fd), 0);
}

static void begin_signalfd(void)
{
	begin_signal();
	need(waited_fd = signalfd(-1, &waited_signals, 0), "signalfd");
}

static void pair_signalfd(void)
{
	struct signalfd_siginfo info = { 0 };

	expect("read of a signalfd", read(waited_fd, &info, sizeof(info)), sizeof(info));
	expect("the signal", (long)info.ssi_signo, SIGUSR1);
}

static void pair_signal(void)
{
	siginfo_t info;

	expect("sigwaitinfo", sigwaitinfo(&waited_signals, &info), SIGUSR1);
	expect("its sender", info.si_pid, getpid());
}

static void serve_signal(void)
{
	brief();
	expect("tgkill", syscall(SYS_tgkill, getpid(), main_tid, SIGUSR1), 0);
}

// -- System V --------------------------------------------------------------------------------------

static void move_semaphore(unsigned short number, short by)
{
	struct sembuf move = { .sem_num = number, .sem_op = by };

	expect("semop", semop(ipc_id, &move, 1), 0);
}

static void pair_semaphore(void)
{
	move_semaphore(0, -1);
	move_semaphore(1, 1);
}

static void serve_semaphore(void)
{
	brief();
	move_semaphore(0, 1);
	move_semaphore(1, -1);
}

struct message {
	long type;
	long round;
};

static void begin_message(void)
{
	own_ipc();
	need(ipc_id = msgget(IPC_PRIVATE, 0600), "msgget");
}

static void pair_message(void)
{
	struct message message = { 0 };

	expect("msgrcv", msgrcv(ipc_id, &message, sizeof(message.round), 1, 0),
	       sizeof(message.round));
	expect("the message", message.round, rounds);
}

static void serve_message(void)
{
	const struct message message = { 1, rounds };

	brief();
	expect("msgsnd", msgsnd(ipc_id, &message, sizeof(message.round), 0), 0);
}

// -- locks -----------------------------------------------------------------------------------------

static int lock_fds[2]; // of two openings of one file

static void begin_locks(void)
{
	char path[64];

	need(lock_fds[0] = memfd_create("lock", 0), "memfd_create");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", lock_fds[0]);
	need(lock_fds[1] = open(path, O_RDWR), "open");
}

// The other thread takes the lock first, and has it when it has said so.
static void pair_flock(void)
{
	await();
	expect("flock", flock(lock_fds[0], LOCK_EX), 0);
	expect("flock", flock(lock_fds[0], LOCK_UN), 0);
}

static void serve_flock(void)
{
	expect("flock", flock(lock_fds[1], LOCK_EX), 0);
	answer_now();
	brief();
	expect("flock", flock(lock_fds[1], LOCK_UN), 0);
}

static int move_lock(int fd, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_len = 1 };

	return fcntl(fd, F_OFD_SETLKW, &lock);
}

static void pair_ofd(void)
{
	await();
	expect("F_OFD_SETLKW", move_lock(lock_fds[0], F_WRLCK), 0);
	expect("F_OFD_SETLKW", move_lock(lock_fds[0], F_UNLCK), 0);
}

static void serve_ofd(void)
{
	expect("F_OFD_SETLKW", move_lock(lock_fds[1], F_WRLCK), 0);
	answer_now();
	brief();
	expect("F_OFD_SETLKW", move_lock(lock_fds[1], F_UNLCK), 0);
}
