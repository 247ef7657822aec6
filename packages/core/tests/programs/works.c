/* SPDX-License-Identifier: BSD-3-Clause */
// A process to dump again and again, which works and would notice if it were disturbed.
//
// works list                 the works, one a line
// works NAME [RELATION]      does one over and over: waits that time out, two threads that wait for
//                            each other, threads and processes that come and go, mappings
//
// RELATION says how the process stands to children and orphans: "init" (process 1 of a namespace of
// its own), "subreaper", "ignored" (SIGCHLD is), "nocldwait" (SA_NOCLDWAIT), or "plain".
//
// It says "ready", and then answers lines of its standard input between two rounds: "rounds" by
// their number, "view" by what it sees of itself (lab/pausing/view.h), in one line, "end" by "ok",
// and ends with 0. The first thing that is not as it should be ends it: it says what on standard
// error, and its status is 9.
//
// Every signal that is not its own has a handler, which complains. SIGCHLD is counted.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "view.h"

enum { COMPLAINT = 9, FAR = 1000000 /* s: no timer of that length ends here */ };

static volatile sig_atomic_t deaths; // SIGCHLDs that came
static long births;                  // children that sent one
static bool counts_deaths;           // has SIGCHLD its handler?
static bool reaps_itself;            // does the kernel collect the children?
static bool became;                  // is this a later program of the work "exec"?
static bool copied;                  // are dumps made that copy the process?
static const char *relation = "plain";
static long rounds;

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vdprintf(2, format, arguments);
	dprintf(2, " (errno %d)\n", errno);
	va_end(arguments);
	_exit(COMPLAINT);
}

// Calls that nobody disturbs return this.
static void expect(const char *what, long got, long wanted)
{
	if (got != wanted)
		complain("%s returned %ld in round %ld", what, got, rounds);
}

static void need(long got, const char *what)
{
	if (got < 0)
		complain("set-up: %s", what);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void on_death(int signo)
{
	(void)signo;
	deaths++;
}

static void on_foreign(int signo, siginfo_t *info, void *context)
{
	(void)context;
	complain("signal %d came, code %d from %d", signo, info->si_code, info->si_pid);
}

#include "works_waits.h" // what the others use, too

#include "works_births.h"
#include "works_pairs.h"
#include "works_rseq.h"

struct work {
	const char *name;
	void (*round)(void);
	void (*begin)(void);
	void (*serve)(void); // what the other thread does in each round
};

static const struct work works[] = {
	{ "nanosleep", wait_nanosleep, NULL, NULL },
	{ "clock_nanosleep", wait_clock_nanosleep, NULL, NULL },
	{ "futex-timeout", wait_futex, NULL, NULL },
	{ "cond-timeout", wait_cond, begin_cond, NULL },
	{ "poll-timeout", wait_poll, NULL, NULL },
	{ "select-timeout", wait_select, NULL, NULL },
	{ "epoll-timeout", wait_epoll, begin_epoll, NULL },
	{ "recv-timeout", wait_recv, begin_recv, NULL },
	{ "accept-timeout", wait_accept, begin_accept, NULL },
	{ "sigtimedwait", wait_signal, begin_signal, NULL },
	{ "semtimedop", wait_semaphore, begin_semaphore, NULL },
	{ "io_getevents", wait_aio, begin_aio, NULL },
	{ "io_uring", wait_uring, begin_uring, NULL },
	{ "timerfd", wait_timerfd, begin_timerfd, NULL },
	{ "timers", wait_timers, begin_timers, NULL },
	{ "futex", pair_futex, NULL, serve_futex },
	{ "cond", pair_cond, begin_cond, serve_cond },
	{ "pipe", pair_nothing, NULL, serve_nothing },
	{ "poll", pair_poll, NULL, serve_nothing },
	{ "select", pair_select, NULL, serve_nothing },
	{ "epoll", pair_epoll, begin_epoll, serve_nothing },
	{ "socket", pair_socket, begin_pair_socket, serve_socket },
	{ "accept", pair_accept, begin_pair_accept, serve_accept },
	{ "sigwaitinfo", pair_signal, begin_signal, serve_signal },
	{ "signalfd", pair_signalfd, begin_signalfd, serve_signal },
	{ "semop", pair_semaphore, begin_semaphore, serve_semaphore },
	{ "msgrcv", pair_message, begin_message, serve_message },
	{ "flock", pair_flock, begin_locks, serve_flock },
	{ "F_OFD_SETLKW", pair_ofd, begin_locks, serve_ofd },
	{ "mutex-pi", pair_mutex, begin_mutex_pi, serve_mutex },
	{ "mutex-robust", pair_robust, begin_mutex_robust, NULL },
	{ "threads", come_and_go, NULL, NULL },
	{ "fork", do_fork, NULL, NULL },
	{ "vfork-exec", do_vfork, NULL, NULL },
	{ "exec", do_exec, NULL, NULL },
	{ "mmap", map_and_unmap, NULL, NULL },
	{ "rseq", do_rseq, begin_rseq, NULL },
};

enum { N_WORKS = sizeof(works) / sizeof(works[0]) };

static void handle(int signo, void (*handler)(int), int flags)
{
	need(sigaction(signo, &(struct sigaction){ .sa_handler = handler, .sa_flags = flags },
		       NULL),
	     "sigaction");
}

static void handle_signals(void)
{
	const struct sigaction foreign = { .sa_sigaction = on_foreign, .sa_flags = SA_SIGINFO };

	for (int signo = 1; signo <= SIGRTMAX; signo++)
		if (signo != SIGKILL && signo != SIGSTOP && signo != SIGCHLD &&
		    (signo < 32 || signo >= SIGRTMIN))
			sigaction(signo, &foreign, NULL);
	counts_deaths = reaps_itself = false;
	if (strcmp(relation, "ignored") == 0) {
		handle(SIGCHLD, SIG_IGN, 0);
		reaps_itself = true;
	} else if (strcmp(relation, "nocldwait") == 0) {
		handle(SIGCHLD, on_death, SA_RESTART | SA_NOCLDWAIT);
		reaps_itself = true;
	} else {
		handle(SIGCHLD, on_death, SA_RESTART);
		counts_deaths = true;
	}
}

// A child is process 1; this one ends as it does.
static void become_init(void)
{
	int status;

	if (syscall(SYS_unshare, 0x20000000 /* CLONE_NEWPID */) < 0) {
		printf("impossible: no new pid namespace: %s\n", strerror(errno));
		exit(0);
	}
	const pid_t pid = fork();

	need(pid, "fork");
	if (pid == 0) {
		need(prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
		return;
	}
	close(0);
	close(1);
	need(waitpid(pid, &status, 0), "waitpid");
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : COMPLAINT);
}

// Descriptors, locks and timers that a dump must leave alone.
static void possess(void)
{
	char path[64];
	const int file = memfd_create("possession", 0);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	const struct itimerspec far = { .it_value.tv_sec = FAR };

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	const int other = open(path, O_RDWR | O_APPEND);

	need(write(file, "12345", 5), "write");
	need(flock(file, LOCK_EX), "flock");
	need(fcntl(file, F_SETLK, &lock), "F_SETLK");
	lock.l_start = 1;
	need(fcntl(other, F_OFD_SETLK, &lock), "F_OFD_SETLK");
	need(eventfd(3, EFD_NONBLOCK), "eventfd");
	need(timerfd_settime(timerfd_create(CLOCK_MONOTONIC, 0), 0, &far, NULL), "timerfd");
	need(setitimer(ITIMER_REAL, &(struct itimerval){ .it_value.tv_sec = FAR }, NULL),
	     "setitimer");
}

static timer_t far_timer;

static void arm_far_timer(void)
{
	const struct itimerspec far = { .it_value.tv_sec = FAR };

	need(timer_create(CLOCK_MONOTONIC, &(struct sigevent){ .sigev_notify = SIGEV_NONE },
			  &far_timer),
	     "timer_create");
	need(timer_settime(far_timer, 0, &far, NULL), "timer_settime");
}

// What is not in the view.
static void check_timers(bool has_timer)
{
	struct itimerspec left = { .it_value.tv_sec = FAR };
	struct itimerval real;

	if (has_timer)
		expect("timer_gettime", timer_gettime(far_timer, &left), 0);
	expect("getitimer", getitimer(ITIMER_REAL, &real), 0);
	if (left.it_value.tv_sec < FAR / 2 || real.it_value.tv_sec < FAR / 2)
		complain("a timer is not what it was");
}

static void check_round(void)
{
	int status;

	if (waitpid(-1, &status, WNOHANG) != -1 || errno != ECHILD)
		complain("there is a child after round %ld", rounds);
	// The new program of an execve gets one for a copy: see docs/pausing.md.
	if (counts_deaths && deaths != births && !(became && copied))
		complain("%d SIGCHLD came, of %ld children", (int)deaths, births);
}

static void say_view(void)
{
	static struct view view;

	view_take(&view, 0); // whatever it allocates is allocated then
	view_take(&view, 0);
	for (size_t i = 0; i + 1 < view.length; i++)
		if (view.text[i] == '\n')
			view.text[i] = '|';
	printf("%s", view.text);
}

// Does what a line says, if there is one. Returns false at the end.
static bool obey(bool has_timer)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };
	char line[32];

	const int found = poll(&input, 1, 0);

	expect("poll of the input", found < 0 ? -1 : 0, 0);
	if (!found)
		return true;
	const ssize_t length = read(0, line, sizeof(line));

	if (length <= 0)
		return false;
	if (line[0] == 'r') {
		printf("%ld\n", rounds);
	} else if (line[0] == 'v') {
		say_view();
	} else {
		check_timers(has_timer);
		puts("ok");
		return false;
	}
	return true;
}

static void do_work(const struct work *work)
{
	const bool has_timer = work->round != do_exec; // which would lose it

	handle_signals();
	if (!became) {
		if (strcmp(relation, "init") == 0)
			become_init();
		if (strcmp(relation, "subreaper") == 0)
			need(prctl(PR_SET_CHILD_SUBREAPER, 1), "PR_SET_CHILD_SUBREAPER");
		possess();
		if (has_timer)
			arm_far_timer();
		if (work->begin)
			work->begin();
		if (work->serve)
			start_server(work->serve);
		puts("ready");
	}
	while (obey(has_timer)) {
		rounds++;
		if (work->serve)
			ask();
		work->round();
		if (work->serve)
			await();
		check_round();
	}
}

int main(int argc, char **argv)
{
	static char output[32768]; // else the first line would allocate it

	const char *const says = getenv("COPIED");

	copied = says && says[0] == '1';
	setvbuf(stdout, output, _IOLBF, sizeof(output));
	if (argc > 1 && strcmp(argv[1], LEAF) == 0)
		return LEAF_STATUS;
	if (argc > 2)
		relation = argv[2];
	if (argc > 3) {
		rounds = atol(argv[3]);
		became = true;
	}
	for (size_t i = 0; argc > 1 && i < N_WORKS; i++) {
		if (strcmp(argv[1], "list") == 0)
			puts(works[i].name);
		if (strcmp(argv[1], works[i].name) == 0) {
			do_work(&works[i]);
			return 0;
		}
	}
	return argc > 1 && strcmp(argv[1], "list") == 0 ? 0 : 2;
}
