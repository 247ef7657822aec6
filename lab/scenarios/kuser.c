/* SPDX-License-Identifier: BSD-3-Clause */
// What the kernel maps into every program of arm: the vectors page with the kuser helpers
// (Documentation/arm/kernel_user_helpers.rst), which has a fixed address above the program's own
// and stands in a core, and the page with the code that returns from signals. Two threads count to
// a number by the helpers, and wait with the thread pointer that they got from a helper.
#include "scenario.h"

#ifndef __arm__
#error "this scenario is of arm"
#endif

#define STACK (64UL << 10)
#define VECTORS 0xffff0000UL
#define HELPERS_END 0x1000
#define THREADS 2
#define COUNTS 1000 // of each thread

static const int32_t *const helper_version = (const int32_t *)(VECTORS + 0xffc);
static void *(*const get_tls)(void) = (void *(*)(void))(VECTORS + 0xfe0);
static int (*const cmpxchg)(int old, int new, volatile int *at) =
	(int (*)(int, int, volatile int *))(VECTORS + 0xfc0);

static uint32_t *never;
static volatile int counter;
static _Atomic uint32_t released;
static uintptr_t pointers[THREADS];

static void *run(void *arg)
{
	for (int i = 0; i < COUNTS; i++) {
		int old;
		do {
			old = counter;
		} while (cmpxchg(old, old + 1, &counter) != 0);
	}
	*(uintptr_t *)arg = (uintptr_t)get_tls();
	arch_wait_futex(never, arch_thread_pointer());
	released++;
	return arg;
}

// The range of a mapping of this process by its name in /proc/PID/maps.
static bool find(const char *name, uintptr_t *start, uintptr_t *end)
{
	char line[512];
	bool found = false;
	FILE *maps = fopen("/proc/self/maps", "re");
	if (!maps)
		scenario_die("/proc/self/maps");
	while (!found && fgets(line, sizeof(line), maps)) {
		char *dash;
		*start = strtoul(line, &dash, 16);
		*end = strtoul(dash + 1, NULL, 16);
		found = strstr(line, name) != NULL;
	}
	fclose(maps);
	return found;
}

static void truth_page(const char *name, uintptr_t start, size_t size)
{
	truth_memory(name, (const void *)start, (const void *)start, size);
}

static const char *verify(void)
{
	if (counter != THREADS * COUNTS || released)
		return "the counter changed, or a futex wait came back";
	if (cmpxchg(counter, counter, &counter) != 0 || cmpxchg(0, 1, &counter) == 0)
		return "__kuser_cmpxchg is wrong";
	return (uintptr_t)get_tls() == arch_thread_pointer() ? NULL : "__kuser_get_tls is wrong";
}

static const char *finish(void)
{
	const char *why = verify();
	if (why)
		return why;
	if (!scenario_wake(never, &released, THREADS))
		return "threads did not wake";
	return NULL;
}

int main(void)
{
	uintptr_t start, end;
	scenario_begin();
	if (!find("[vectors]", &start, &end) || *helper_version < 2)
		scenario_impossible("this kernel has no kuser helpers (CONFIG_KUSER_HELPERS)");
	if (start != VECTORS)
		scenario_impossible("this kernel has its vectors elsewhere");
	// *helper_version helpers of 32 bytes each stand at the end of the page.
	const size_t helpers = 32 * (size_t)*helper_version;
	truth_page("the kuser helpers", VECTORS + HELPERS_END - helpers, helpers);
	if (find("[sigpage]", &start, &end))
		truth_page("the page of sigreturn", start, end - start);
	never = calloc(1, sizeof(*never));
	if (!never)
		scenario_die("calloc");
	for (size_t i = 0; i < THREADS; i++) {
		const pid_t tid = scenario_create(run, &pointers[i], STACK);
		scenario_thread(tid);
		scenario_await(tid, SYS_futex);
		truth_thread_pointer(tid, pointers[i]);
	}
	const int counted = THREADS * COUNTS;
	truth_memory("the counter", &counter, &counted, sizeof(counted));
	scenario_hold(verify, finish);
}
