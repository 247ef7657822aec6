/* SPDX-License-Identifier: BSD-3-Clause */
// Segment descriptors of a program's own on x86: threads that wait with a selector of the LDT
// (modify_ldt) in a segment register that libc leaves alone, and on x86-32 a thread with one of its
// three TLS descriptors (set_thread_area). Each segment begins at a word that tells the thread.
#include "scenario.h"

#include <asm/ldt.h>

#if !defined(__x86_64__) && !defined(__i386__)
#error "this scenario is of x86"
#endif

#define STACK (64UL << 10)
#define WORD(i) (0x5e900000U + (uint32_t)(i))
#define LDT_SELECTOR(i) ((uint16_t)((i) << 3 | 7)) // table 1, privilege 3
#define GDT_SELECTOR(i) ((uint16_t)((i) << 3 | 3))

// libc has its thread pointer in the other one.
#ifdef __x86_64__
#define FREE "gs"
#define THREADS 2
#else
#define FREE "fs"
#define THREADS 3 // the last one with a TLS descriptor
#endif

struct slot {
	uint32_t *segment; // its first word; below 4 GiB, where a descriptor can point
	uint16_t selector;
	_Atomic uint32_t selected; // 1: done, 2: impossible
	pid_t tid;
};

static struct slot slots[THREADS];
static uint32_t *never;
static _Atomic uint32_t released, wrong;

static struct user_desc descriptor(const struct slot *slot, unsigned int entry)
{
	return (struct user_desc){
		.entry_number = entry,
		.base_addr = (unsigned int)(uintptr_t)slot->segment,
		.limit = PAGE - 1,
		.seg_32bit = 1,
		.useable = 1,
	};
}

// Gives the slot a selector; false if this kernel has no such thing.
static bool describe(struct slot *slot, unsigned int i)
{
#ifdef __i386__
	if (i == THREADS - 1) {
		struct user_desc own = descriptor(slot, (unsigned int)-1); // any that is free
		if (syscall(SYS_set_thread_area, &own) != 0)
			scenario_die("set_thread_area");
		slot->selector = GDT_SELECTOR(own.entry_number);
		return true;
	}
#endif
	struct user_desc entry = descriptor(slot, 3 + 2 * i);
	if (syscall(SYS_modify_ldt, 0x11, &entry, sizeof(entry)) != 0) {
		if (errno != ENOSYS)
			scenario_die("modify_ldt");
		return false;
	}
	slot->selector = LDT_SELECTOR(3 + 2 * i);
	return true;
}

static uint32_t first_word(void)
{
	uint32_t word;
	__asm__ volatile("movl %%" FREE ":0, %0" : "=r"(word));
	return word;
}

static void *run(void *arg)
{
	struct slot *slot = arg;
	const unsigned int i = (unsigned int)(slot - slots);
	if (!describe(slot, i)) {
		slot->selected = 2;
		return NULL;
	}
	__asm__ volatile("mov %0, %%" FREE : : "r"(slot->selector) : "memory");
	slot->selected = 1;
	const long ret = arch_wait_futex(never, WORD(i));
	uint16_t selector;
	__asm__ volatile("mov %%" FREE ", %0" : "=r"(selector));
	if (ret != 0 || selector != slot->selector || first_word() != WORD(i))
		wrong++;
	released++;
	return NULL;
}

static const char *verify(void)
{
	return released ? "a futex wait came back" : NULL;
}

static const char *finish(void)
{
	const char *why = verify();
	if (why)
		return why;
	if (!scenario_wake(never, &released, THREADS))
		return "threads did not wake";
	return wrong ? "a futex wait failed, or a segment changed" : NULL;
}

static void say_truths(unsigned int i)
{
	const struct slot *slot = &slots[i];
	const uint32_t word = WORD(i);
	truth_register(slot->tid, FREE, slot->selector);
	truth_register(slot->tid, ARCH_MARK, word);
	truth_memory("the segment", slot->segment, &word, sizeof(word));
#ifdef __x86_64__
	truth_register(slot->tid, "gs_base", (uintptr_t)slot->segment);
#else
	if (i == THREADS - 1) {
		const uint32_t base = (uint32_t)(uintptr_t)slot->segment;
		truth_bytes("tls386", slot->tid, &base, sizeof(base));
	}
#endif
}

int main(void)
{
	scenario_begin();
	never = calloc(1, sizeof(*never));
#ifdef __x86_64__
	char *at = mmap(NULL, THREADS * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
#else
	char *at = mmap(NULL, THREADS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
#endif
	if (at == MAP_FAILED || !never)
		scenario_die("memory");
	for (unsigned int i = 0; i < THREADS; i++) {
		struct slot *slot = &slots[i];
		slot->segment = (uint32_t *)(void *)(at + i * PAGE);
		*slot->segment = WORD(i);
		slot->tid = scenario_create(run, slot, STACK);
		while (!slot->selected)
			sched_yield();
		if (slot->selected == 2)
			scenario_impossible("this kernel has no modify_ldt (CONFIG_MODIFY_LDT_SYSCALL)");
		scenario_thread(slot->tid);
		scenario_await(slot->tid, SYS_futex);
		say_truths(i);
	}
	scenario_hold(verify, finish);
}
