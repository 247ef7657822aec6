/* SPDX-License-Identifier: BSD-3-Clause */
// A thread that waits in a signal handler on its alternate stack, inside a system call of which
// the signal interrupted another one.
#include "scenario.h"

#define STACK (64UL << 10)
#define ALTERNATE (32UL << 10)

static char *alternate;
static uint32_t *never, *go_on;
static volatile uint64_t *in_handler;
static _Atomic uint32_t entered, left;
static _Atomic long interrupted;

static void handler(int signo)
{
	volatile uint64_t here = 0xa17e57ac00000000 | (uint64_t)signo;
	arch_load_vectors(); // a handler begins with the initial state
	in_handler = &here;
	entered = 1;
	while (*(volatile uint32_t *)go_on == 0)
		syscall(SYS_futex, go_on, 0 /* FUTEX_WAIT */, 0, NULL, NULL, 0);
	if (here != (0xa17e57ac00000000 | (uint64_t)signo))
		left = 2;
}

static void *run(void *arg)
{
	(void)arg;
	const stack_t stack = {.ss_sp = alternate, .ss_size = ALTERNATE};
	const struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	if (sigaltstack(&stack, NULL) != 0 || sigaction(SIGUSR1, &action, NULL) != 0)
		scenario_die("sigaltstack");
	const long ret = syscall(SYS_futex, never, 0 /* FUTEX_WAIT */, 0, NULL, NULL, 0);
	interrupted = ret == -1 ? errno : 0;
	left = left ? left : 1;
	return NULL;
}

static const char *verify(void)
{
	if (!entered || left)
		return "the handler came back";
	return *in_handler == (0xa17e57ac00000000 | SIGUSR1) ? NULL
							      : "the alternate stack changed";
}

static const char *finish(void)
{
	const char *why = verify();
	if (why)
		return why;
	*(volatile uint32_t *)go_on = 1;
	syscall(SYS_futex, go_on, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
	const time_t deadline = time(NULL) + AWAIT_SECONDS;
	while (!left) {
		if (time(NULL) > deadline)
			return "the handler does not come back";
		sched_yield();
	}
	if (left != 1)
		return "the handler's frame changed";
	return interrupted == EINTR ? NULL : "the interrupted call did not return EINTR";
}

int main(void)
{
	scenario_begin();
	alternate = mmap(NULL, ALTERNATE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			 0);
	never = calloc(1, sizeof(*never));
	go_on = calloc(1, sizeof(*go_on));
	if (alternate == MAP_FAILED || !never || !go_on)
		scenario_die("memory");
	const pid_t tid = scenario_create(run, NULL, STACK);
	scenario_thread(tid);
	scenario_await(tid, SYS_futex);
	syscall(SYS_tgkill, getpid(), tid, SIGUSR1);
	while (!entered)
		sched_yield();
	scenario_await(tid, SYS_futex);
	const uint64_t value = *in_handler;
	truth_memory("a handler's frame", in_handler, &value, sizeof(value));
	truth_within(tid, ARCH_SP, alternate, ALTERNATE);
	truth_register(tid, ARCH_ARGUMENT, (uintptr_t)go_on);
	truth_register(tid, ARCH_NUMBER, SYS_futex);
	scenario_hold(verify, finish);
}
