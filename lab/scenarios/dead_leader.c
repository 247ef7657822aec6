/* SPDX-License-Identifier: BSD-3-Clause */
// Two threads, of which one holds, and the main thread that has exited: the kernel keeps what is left
// of it, without memory, until the others are gone.
#include "scenario.h"

#define STACK (256UL << 10)

static const uint64_t on_stack_value = 0x1eade41e55c0de00;
static volatile uint64_t *on_stack;
static pid_t leader, other;
static uint32_t *never; // a futex that nobody wakes

static const char *verify(void)
{
	return *on_stack == on_stack_value ? NULL : "the stack changed";
}

static void await_end_of_leader(void)
{
	char path[64], text[512];
	const time_t deadline = time(NULL) + AWAIT_SECONDS;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)leader);
	for (;;) {
		const int fd = open(path, O_RDONLY | O_CLOEXEC);
		const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (n <= 0)
			scenario_die("%s", path);
		close(fd);
		text[n] = 0;
		const char *state = strrchr(text, ')');
		if (state && state[1] == ' ' && state[2] == 'Z')
			return;
		if (time(NULL) > deadline)
			scenario_die("the main thread does not end");
		sched_yield();
	}
}

static void *wait_for_ever(void *arg)
{
	arch_wait_futex(never, (uintptr_t)on_stack_value);
	return arg;
}

static void *hold(void *arg)
{
	volatile uint64_t here = on_stack_value;

	(void)arg;
	on_stack = &here;
	await_end_of_leader();
	scenario_await(other, SYS_futex);
	truth_memory("a thread's stack", &here, &on_stack_value, sizeof(on_stack_value));
	truth_register(other, ARCH_MARK, (uintptr_t)on_stack_value);
	scenario_hold(verify, NULL);
}

int main(void)
{
	scenario_begin();
	leader = scenario_tid();
	never = calloc(1, sizeof(*never));
	if (!never)
		scenario_die("calloc");
	other = scenario_create(wait_for_ever, NULL, STACK);
	scenario_thread(other);
	scenario_create(hold, NULL, STACK);
	prctl(PR_SET_NAME, "leader", 0, 0, 0);
	syscall(SYS_exit, 0);
	return 1;
}
