/* SPDX-License-Identifier: BSD-3-Clause */
// Signals that are blocked and pending: sent to a thread and to the process, realtime ones with
// values, queued in order.
#include "scenario.h"

#define STACK (64UL << 10)
#define VALUE(i) (0x5e0 + (i))

static uint32_t *never;
static pid_t main_tid, worker_tid;
static uint64_t main_hold, worker_hold; // masks of blocked signals
static uint64_t main_pending, worker_pending, shared_pending;
static _Atomic uint32_t returned;
static int rt_thread, rt_process, rt_worker;

static uint64_t bit(int signo)
{
	return (uint64_t)1 << (signo - 1);
}

static void block(uint64_t mask)
{
	if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask)) != 0)
		scenario_die("sigprocmask");
}

static void queue(pid_t tid, int signo, int value)
{
	siginfo_t info;
	memset(&info, 0, sizeof(info));
	info.si_code = SI_QUEUE;
	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = value;
	const long ret = tid ? syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, signo, &info)
			     : syscall(SYS_rt_sigqueueinfo, getpid(), signo, &info);
	if (ret != 0)
		scenario_die("sigqueue %d", signo);
}

static void *run(void *arg)
{
	(void)arg;
	block(worker_hold);
	syscall(SYS_futex, never, 0 /* FUTEX_WAIT */, 0, NULL, NULL, 0);
	returned++;
	return NULL;
}

// A mask as /proc shows it for a thread, without stdio.
static bool status_mask(pid_t tid, const char *key, uint64_t *mask)
{
	char path[64], text[4096];
	snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)tid);
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	const ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = 0;
	const char *at = strstr(text, key);
	if (!at)
		return false;
	*mask = strtoull(at + strlen(key), NULL, 16);
	return true;
}

static const char *verify(void)
{
	const struct {
		pid_t tid;
		const char *key;
		uint64_t want;
	} masks[] = {
		{main_tid, "SigPnd:", main_pending},     {main_tid, "SigBlk:", main_hold},
		{main_tid, "ShdPnd:", shared_pending},   {worker_tid, "SigPnd:", worker_pending},
		{worker_tid, "SigBlk:", worker_hold},
	};
	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		uint64_t have;
		if (!status_mask(masks[i].tid, masks[i].key, &have))
			return "cannot read /proc/self/task/TID/status";
		if (have != masks[i].want)
			return scenario_why("%s of %d is %llx, not %llx", masks[i].key,
					    (int)masks[i].tid, (unsigned long long)have,
					    (unsigned long long)masks[i].want);
	}
	return returned ? "a futex wait came back" : NULL;
}

// Takes one pending signal of this thread or the process.
static bool take(int signo, int value)
{
	siginfo_t info;
	const uint64_t mask = bit(signo);
	const struct timespec zero = {0, 0};
	if (syscall(SYS_rt_sigtimedwait, &mask, &info, &zero, sizeof(mask)) != signo)
		return false;
	return value == 0 || (info.si_code == SI_QUEUE && info.si_value.sival_int == value);
}

static const char *finish(void)
{
	const char *why = verify();
	if (why)
		return why;
	if (!take(rt_thread, VALUE(1)) || !take(rt_thread, VALUE(2)) || !take(rt_thread, VALUE(3)))
		return "the thread's realtime signals are not those that were sent";
	if (!take(rt_process, VALUE(4)) || !take(rt_process, VALUE(5)))
		return "the process's realtime signals are not those that were sent";
	if (!take(SIGUSR1, 0) || !take(SIGUSR2, 0))
		return "SIGUSR1 or SIGUSR2 is lost";
	return take(rt_thread, 0) || take(rt_process, 0) ? "a signal came twice" : NULL;
}

static void truth_mask(const char *is, pid_t tid, uint64_t mask)
{
	truth_bytes(is, tid, &mask, sizeof(mask));
}

int main(void)
{
	scenario_begin();
	rt_thread = SIGRTMIN + 3;
	rt_process = SIGRTMIN + 4;
	rt_worker = SIGRTMIN + 5;
	never = calloc(1, sizeof(*never));
	if (!never)
		scenario_die("calloc");
	main_tid = scenario_tid();
	// SIGUSR1 and rt_process go to the process, so both threads must block them.
	main_hold = bit(SIGUSR1) | bit(SIGUSR2) | bit(SIGTERM) | bit(rt_thread) | bit(rt_process);
	worker_hold = bit(SIGUSR1) | bit(SIGHUP) | bit(rt_process) | bit(rt_worker);
	block(main_hold);
	worker_tid = scenario_create(run, NULL, STACK);
	scenario_thread(worker_tid);
	scenario_await(worker_tid, SYS_futex);

	queue(main_tid, rt_thread, VALUE(1));
	queue(main_tid, rt_thread, VALUE(2));
	queue(main_tid, rt_thread, VALUE(3));
	syscall(SYS_tgkill, getpid(), main_tid, SIGUSR2);
	main_pending = bit(rt_thread) | bit(SIGUSR2);
	queue(0, rt_process, VALUE(4));
	queue(0, rt_process, VALUE(5));
	kill(getpid(), SIGUSR1);
	shared_pending = bit(rt_process) | bit(SIGUSR1);
	queue(worker_tid, rt_worker, VALUE(6));
	syscall(SYS_tgkill, getpid(), worker_tid, SIGHUP);
	worker_pending = bit(rt_worker) | bit(SIGHUP);

	truth_mask("sigpend", main_tid, main_pending);
	truth_mask("sighold", main_tid, main_hold);
	truth_mask("sigpend", worker_tid, worker_pending);
	truth_mask("sighold", worker_tid, worker_hold);
	scenario_hold(verify, finish);
}
