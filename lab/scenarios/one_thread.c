/* SPDX-License-Identifier: BSD-3-Clause */
// One thread and a little of every kind of its own memory: data, bss, heap, stack. An argument is
// what it writes to its coredump_filter.
#include "scenario.h"

static uint64_t data[4] = {0x0123456789abcdef, 0xfedcba9876543210, 0x1111, 0x2222};
static uint64_t bss[1024];
static const uint64_t on_stack_value = 0x57ac57ac57ac57ac;
static uint64_t *heap;
static volatile uint64_t *on_stack;

static const char *verify(void)
{
	if (data[0] != 0x0123456789abcdef || bss[1023] != 0xb55)
		return "data or bss changed";
	if (heap[100] != 0x4ea9)
		return "the heap changed";
	if (*on_stack != on_stack_value)
		return "the stack changed";
	return NULL;
}

static void set_filter(const char *mask)
{
	const int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
	const ssize_t size = (ssize_t)strlen(mask);
	if (fd < 0 || write(fd, mask, (size_t)size) != size)
		scenario_die("coredump_filter");
	close(fd);
}

int main(int argc, char **argv)
{
	scenario_begin();
	if (argc > 1)
		set_filter(argv[1]);
	volatile uint64_t here = on_stack_value;
	on_stack = &here;
	bss[1023] = 0xb55;
	heap = calloc(1024, sizeof(*heap));
	if (!heap)
		scenario_die("calloc");
	heap[100] = 0x4ea9;
	truth_memory("data", data, data, sizeof(data));
	truth_memory("bss", &bss[1020], &bss[1020], 4 * sizeof(bss[0]));
	truth_memory("heap", &heap[98], &heap[98], 4 * sizeof(heap[0]));
	truth_memory("stack", &here, &on_stack_value, sizeof(on_stack_value));
	scenario_hold(verify, NULL);
}
