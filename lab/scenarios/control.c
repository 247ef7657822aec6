/* SPDX-License-Identifier: BSD-3-Clause */
// What arm64 keeps for a thread besides its registers, each in a note of its own: the thread
// pointer (libc needs its own, so a thread that has another makes no call of libc),
// hardware breakpoints and watchpoints, the mask of pointer authentication and which of its keys
// are enabled, and whether tagged addresses may be passed to the kernel.
#include "scenario.h"

#include <asm/hwcap.h>
#include <asm/ptrace.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#ifndef __aarch64__
#error "this scenario is of arm64"
#endif

#define STACK (64UL << 10)
#define NT_HW_BREAK 0x402
#define NT_HW_WATCH 0x403
#define WATCH_STORES_OF_8 (0xffU << 5 | 2U << 3 | 2U << 1 | 1U) // of EL0; enabled
#define NT_PAC_MASK 0x406
#define NT_PAC_ENABLED_KEYS 0x40a
#define NT_TAGGED_ADDR_CTRL 0x409
#define THREAD_POINTER 0x0000715a0000715bUL

#ifndef PR_PAC_SET_ENABLED_KEYS
#define PR_PAC_SET_ENABLED_KEYS 60
#endif

#define ALL_KEYS (PR_PAC_APIAKEY | PR_PAC_APIBKEY | PR_PAC_APDAKEY | PR_PAC_APDBKEY)
#define SOME_KEYS (PR_PAC_APIAKEY | PR_PAC_APDBKEY)

static uint32_t *never;
static _Atomic uint32_t released;
static _Atomic long failed;
static bool pac, tagged;
static uint64_t watched[2]; // nobody writes to it
static pid_t tids[2];

// The bits that hold the signature of an address of user space: those that are cleared from it.
static uint64_t pac_mask(void)
{
	register uint64_t x30 __asm__("x30") = 0x007fffffffffffff;
	__asm__ volatile("hint #7" : "+r"(x30)); // xpaclri
	return 0x007fffffffffffff & ~x30;
}

// Both are the thread's own: some keys of pointer authentication, and tagged addresses in calls.
static void set_controls(void)
{
	if (pac)
		pac = prctl(PR_PAC_SET_ENABLED_KEYS, ALL_KEYS, SOME_KEYS, 0, 0) == 0;
	tagged = prctl(PR_SET_TAGGED_ADDR_CTRL, PR_TAGGED_ADDR_ENABLE, 0, 0, 0) == 0;
}

static void *run(void *arg)
{
	const uintptr_t own = arch_thread_pointer();
	if (!arg)
		set_controls();
	__asm__ volatile("msr tpidr_el0, %0" : : "r"(THREAD_POINTER + (uintptr_t)arg));
	const long ret = arch_wait_futex(never, own);
	uintptr_t pointer;
	__asm__ volatile("mrs %0, tpidr_el0" : "=r"(pointer));
	__asm__ volatile("msr tpidr_el0, %0" : : "r"(own));
	if (ret != 0 || pointer != THREAD_POINTER + (uintptr_t)arg)
		failed = 1;
	released++;
	return NULL;
}

// Gives a thread a watchpoint. Only a tracer can, and what it leaves behind stays with the thread
// (arch/arm64/kernel/ptrace.c: ptrace_hbp_set), so a child traces it for that moment.
static bool watch(pid_t tid, const uint64_t *address)
{
	const struct user_hwdebug_state state = {
		.dbg_regs[0] = {.addr = (uintptr_t)address, .ctrl = WATCH_STORES_OF_8},
	};
	const size_t size = offsetof(struct user_hwdebug_state, dbg_regs[1]);
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	const pid_t child = fork();
	if (child == 0) {
		struct iovec iov = {(void *)(uintptr_t)&state, size};
		int status;
		if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0 ||
		    ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) != 0 ||
		    waitpid(tid, &status, __WALL) != tid)
			_exit(1);
		const long ret = ptrace(PTRACE_SETREGSET, tid, (void *)NT_HW_WATCH, &iov);
		ptrace(PTRACE_DETACH, tid, NULL, NULL);
		_exit(ret == 0 ? 0 : 1);
	}
	int status = 1;
	if (child < 0 || waitpid(child, &status, 0) != child)
		scenario_die("a child that traces");
	prctl(PR_SET_PTRACER, 0);
	return status == 0;
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
	if (!scenario_wake(never, &released, 2))
		return "threads did not wake";
	return failed ? "a futex wait failed, or a thread pointer changed" : NULL;
}

static void say_truths(size_t i)
{
	const uint64_t pointer = THREAD_POINTER + i;
	const uint64_t masks[2] = {pac_mask(), pac_mask()};
	const uint64_t keys = i == 0 ? SOME_KEYS : ALL_KEYS;
	const uint64_t tags = i == 0 ? PR_TAGGED_ADDR_ENABLE : 0;
	truth_thread_pointer(tids[i], pointer);
	truth_note(tids[i], NT_HW_BREAK, 0, NULL, 0);
	truth_note(tids[i], NT_HW_WATCH, 0, NULL, 0);
	if (watch(tids[i], &watched[i])) {
		const uint64_t address = (uintptr_t)&watched[i];
		const uint32_t control = WATCH_STORES_OF_8;
		const size_t at = offsetof(struct user_hwdebug_state, dbg_regs);
		truth_note(tids[i], NT_HW_WATCH, at, &address, sizeof(address));
		truth_note(tids[i], NT_HW_WATCH, at + 8, &control, sizeof(control));
	}
	scenario_await(tids[i], SYS_futex);
	if (pac) {
		truth_note(tids[i], NT_PAC_MASK, 0, masks, sizeof(masks));
		truth_note(tids[i], NT_PAC_ENABLED_KEYS, 0, &keys, sizeof(keys));
	}
	if (tagged)
		truth_note(tids[i], NT_TAGGED_ADDR_CTRL, 0, &tags, sizeof(tags));
}

int main(void)
{
	scenario_begin();
	pac = (getauxval(AT_HWCAP) & HWCAP_PACA) != 0;
	never = calloc(1, sizeof(*never));
	if (!never)
		scenario_die("calloc");
	for (size_t i = 0; i < 2; i++) {
		tids[i] = scenario_create(run, (void *)i, STACK);
		scenario_thread(tids[i]);
		scenario_await(tids[i], SYS_futex);
	}
	for (size_t i = 0; i < 2; i++)
		say_truths(i);
	scenario_hold(verify, finish);
}
