/* SPDX-License-Identifier: BSD-3-Clause */
// Both instruction sets of arm: a thread that spins in Thumb code and one in ARM code, and threads
// that wait in a call made by each, which the kernel restarts two or four bytes back.
#include "scenario.h"

#include "spin.h"

#ifndef __arm__
#error "this scenario is of arm"
#endif

#define STACK (64UL << 10)
#define CPSR_ANY (ARM_CPSR_NZCVQ | ARM_CPSR_T | ARM_CPSR_MODE)
#define CPSR_N 0x80000000U // what is left of comparing one with two
#define MARK 0x7400a320U

void spin_thumb(void *flag);
void spin_arm(void *flag);
long wait_in_thumb(uint32_t *futex, uintptr_t mark);
long wait_in_arm(uint32_t *futex, uintptr_t mark);
extern const char thumb_spin[], arm_spin[], thumb_svc[], arm_svc[];

// A spinner tells so before it compares, which takes no time.
#define SPIN                                                                                       \
	"	mov r1, #1\n"                                                                      \
	"	str r1, [r0]\n"                                                                    \
	"	cmp r1, #2\n"
#define WAIT                                                                                       \
	"	push {r4, r7, r8, lr}\n"                                                           \
	".cfi_def_cfa_offset 16\n"                                                                 \
	".cfi_offset lr, -4\n"                                                                     \
	".cfi_offset r8, -8\n"                                                                     \
	".cfi_offset r7, -12\n"                                                                    \
	".cfi_offset r4, -16\n"                                                                    \
	"	mov r8, r1\n"                                                                      \
	"	mov r1, #128\n" /* FUTEX_WAIT_PRIVATE */                                           \
	"	mov r2, #0\n"                                                                      \
	"	mov r3, #0\n" /* no timeout */                                                     \
	"	mov r7, #240\n"                                                                    \
	"	cmp r8, r8\n"

__asm__(".pushsection .text\n" ARM_SYNTAX
	".globl spin_thumb, spin_arm, wait_in_thumb, wait_in_arm\n"
	".globl thumb_spin, arm_spin, thumb_svc, arm_svc\n"
	".balign 4\n"
	".thumb\n"
	".type spin_thumb, %function\n"
	".thumb_func\n"
	"spin_thumb:\n" SPIN
	"	.balign 4\n"
	"	nop\n" // of 16 bits, so that the address is no multiple of four
	"thumb_spin:\n"
	"	b thumb_spin\n"
	".type wait_in_thumb, %function\n"
	".thumb_func\n"
	"wait_in_thumb:\n"
	".cfi_startproc\n" WAIT
	"thumb_svc:\n"
	"	svc #0\n"
	"	pop {r4, r7, r8, pc}\n"
	".cfi_endproc\n"
	".balign 4\n"
	".arm\n"
	".type spin_arm, %function\n"
	"spin_arm:\n" SPIN
	"arm_spin:\n"
	"	b arm_spin\n"
	".type wait_in_arm, %function\n"
	"wait_in_arm:\n"
	".cfi_startproc\n" WAIT
	"arm_svc:\n"
	"	svc #0\n"
	"	pop {r4, r7, r8, pc}\n"
	".cfi_endproc\n"
	".popsection\n");

static uint32_t *never; // a futex that nobody wakes while the scenario holds
static _Atomic uint32_t spinning[2], released;
static _Atomic long failed;

static const char *compare(const struct spinner *s, const ucontext_t *uc)
{
	const char *at = s->kind ? thumb_spin : arm_spin;
	if (uc->uc_mcontext.arm_pc != (uintptr_t)at)
		return "pc changed";
	const uint32_t want = CPSR_N | (s->kind ? ARM_CPSR_T : 0) | ARM_CPSR_USER;
	return (uc->uc_mcontext.arm_cpsr & CPSR_ANY) == want ? NULL : "cpsr changed";
}

static void start_spinner(bool thumb)
{
	const struct spinner *s =
		spin_start((struct spinner){.enter = thumb ? spin_thumb : spin_arm,
					    .compare = compare,
					    .pattern = (void *)(uintptr_t)&spinning[thumb],
					    .spinning = &spinning[thumb],
					    .kind = thumb});
	truth_register(s->tid, "pc", (uintptr_t)(thumb ? thumb_spin : arm_spin));
	truth_bits(s->tid, "cpsr", CPSR_ANY, CPSR_N | (thumb ? ARM_CPSR_T : 0) | ARM_CPSR_USER);
}

static void *wait(void *arg)
{
	const long ret = arg ? wait_in_thumb(never, MARK) : wait_in_arm(never, MARK);
	if (ret != 0)
		failed = ret;
	released++;
	return NULL;
}

static void start_waiter(bool thumb)
{
	const pid_t tid = scenario_create(wait, thumb ? never : NULL, STACK);
	scenario_thread(tid);
	scenario_await(tid, SYS_futex);
	truth_register(tid, "pc", (uintptr_t)(thumb ? thumb_svc : arm_svc));
	truth_register(tid, ARCH_MARK, MARK);
	truth_register(tid, ARCH_ARGUMENT, (uintptr_t)never);
	truth_bits(tid, "cpsr", CPSR_ANY,
		   0x60000000U | (thumb ? ARM_CPSR_T : 0) | ARM_CPSR_USER); // Z and C: equal
}

static const char *verify(void)
{
	return released ? "a futex wait came back" : spin_verify();
}

static const char *finish(void)
{
	const char *why = verify();
	if (why)
		return why;
	if (!scenario_wake(never, &released, 2))
		return "threads did not wake";
	return failed ? "a futex wait failed" : NULL;
}

int main(void)
{
	scenario_begin();
	never = calloc(1, sizeof(*never));
	if (!never)
		scenario_die("calloc");
	for (int thumb = 0; thumb <= 1; thumb++) {
		start_spinner(thumb);
		start_waiter(thumb);
	}
	scenario_hold(verify, finish);
}
