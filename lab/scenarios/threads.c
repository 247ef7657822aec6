/* SPDX-License-Identifier: BSD-3-Clause */
// argv[1] threads that wait for a futex, each with a value of its own in a register and in memory.
#include "scenario.h"

#define STACK (64UL << 10)

static uint32_t *never; // a futex that nobody wakes while the scenario holds
static _Atomic uint32_t released;
static _Atomic uint32_t returned; // calls that came back

static uint64_t value_of(uint64_t index)
{
	return 0x7ead000000000000 | (index << 8) | 0x5a;
}

struct slot {
	uint64_t index;
	volatile uint64_t *on_stack;
	pid_t tid;
};

static struct slot *slots;
static size_t n_slots;

static void *run(void *arg)
{
	struct slot *slot = arg;
	volatile uint64_t mine = value_of(slot->index);
	slot->on_stack = &mine;
	const long ret = arch_wait_futex(never, (uintptr_t)mine);
	released++;
	if (ret != 0 || mine != value_of(slot->index))
		returned++;
	return NULL;
}

static const char *verify(void)
{
	if (released != 0)
		return "a futex wait came back";
	for (size_t i = 0; i < n_slots; i++) {
		if (*slots[i].on_stack != value_of(i))
			return scenario_why("the stack of thread %zu changed", i);
	}
	return NULL;
}

static const char *finish(void)
{
	const char *why = verify();
	if (why)
		return why;
	*never = 1;
	if (!scenario_wake(never, &released, n_slots))
		return "threads did not wake";
	return returned ? "a futex wait failed" : NULL;
}

int main(int argc, char **argv)
{
	scenario_begin();
	n_slots = argc > 1 ? strtoul(argv[1], NULL, 10) : 63;
	slots = calloc(n_slots, sizeof(*slots));
	never = calloc(1, sizeof(*never));
	if (!slots || !never)
		scenario_die("calloc");
	for (size_t i = 0; i < n_slots; i++) {
		slots[i].index = i;
		slots[i].tid = scenario_create(run, &slots[i], STACK);
		scenario_thread(slots[i].tid);
	}
	for (size_t i = 0; i < n_slots; i++) {
		const uint64_t value = value_of(i);
		scenario_await(slots[i].tid, SYS_futex);
		truth_memory("a thread's stack", slots[i].on_stack, &value, sizeof(value));
		truth_within(slots[i].tid, ARCH_SP, (char *)slots[i].on_stack - 1024, 2048);
		truth_within(slots[i].tid, ARCH_PC, (void *)(uintptr_t)arch_wait_futex, 128);
		truth_register(slots[i].tid, ARCH_MARK, (uintptr_t)value);
		truth_register(slots[i].tid, ARCH_ARGUMENT, (uintptr_t)never);
		truth_register(slots[i].tid, ARCH_NUMBER, SYS_futex);
	}
	truth_memory("the heap", slots, slots, n_slots * sizeof(*slots));
	scenario_hold(verify, finish);
}
