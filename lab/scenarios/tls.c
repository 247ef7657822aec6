/* SPDX-License-Identifier: BSD-3-Clause */
// Thread-local variables: each thread's value, and where its thread pointer stands.
#include "scenario.h"

#define STACK (64UL << 10)
#define THREADS 4

static __thread uint64_t initialised[4] = {0x715a, 0x715b, 0x715c, 0x715d};
static __thread uint64_t written;

struct slot {
	uint64_t value;
	volatile uint64_t *written, *initialised;
	uintptr_t pointer;
	_Atomic uint32_t ready;
	pid_t tid;
};

static struct slot slots[THREADS + 1];
static uint32_t never;

static void fill(struct slot *slot)
{
	written = slot->value;
	slot->written = &written;
	slot->initialised = initialised;
	slot->pointer = arch_thread_pointer();
	slot->ready = 1;
}

static void *run(void *arg)
{
	fill(arg);
	arch_wait_futex(&never, arch_thread_pointer());
	return NULL;
}

static const char *verify(void)
{
	for (size_t i = 0; i <= THREADS; i++) {
		if (*slots[i].written != slots[i].value || slots[i].initialised[3] != 0x715d)
			return scenario_why("thread-local variables of thread %zu changed", i);
	}
	return written == slots[THREADS].value ? NULL : "the thread pointer changed";
}

int main(void)
{
	scenario_begin();
	for (size_t i = 0; i <= THREADS; i++) {
		struct slot *slot = &slots[i];
		slot->value = 0x7150000 + i;
		slot->tid = scenario_tid();
		if (i < THREADS)
			slot->tid = scenario_create(run, slot, STACK);
		else
			fill(slot);
		while (!slot->ready)
			sched_yield();
		if (i < THREADS) {
			scenario_thread(slot->tid);
			scenario_await(slot->tid, SYS_futex);
		}
		static const uint64_t want[4] = {0x715a, 0x715b, 0x715c, 0x715d};
		truth_memory("__thread, written", slot->written, &slot->value,
			     sizeof(slot->value));
		truth_memory("__thread, initialised", slot->initialised, want, sizeof(want));
		// Where no note has it, it is in a register of the threads that wait.
		if (ARCH_NOTES_THREAD_POINTER || i < THREADS)
			truth_thread_pointer(slot->tid, slot->pointer);
	}
	scenario_hold(verify, NULL);
}
