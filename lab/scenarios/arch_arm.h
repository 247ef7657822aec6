/* SPDX-License-Identifier: BSD-3-Clause */
// What scenarios need to know of 32-bit ARM; see scenario.h.
//
// The kernel moves pc back to the svc and restores r0 before a thread that waits in a call stops
// (arch/arm/kernel/signal.c and arch/arm64/kernel/signal.c: do_signal), so a core has the thread
// about to make its call, with the number in r7.
#ifndef ARCH_ARM_H
#define ARCH_ARM_H

#include <sys/auxv.h>

#define ARCH_PC "pc"
#define ARCH_SP "sp"
#define ARCH_NUMBER "r7"
#define ARCH_ARGUMENT "r0"
#define ARCH_MARK "r8"
#define ARCH_NOTES_THREAD_POINTER 0

#define ARM_NT_VFP 0x400
#define ARM_HWCAP_VFPD32 (1UL << 19) // d16 to d31 exist
#define ARM_VFP_BYTES 256            // of d0 to d31; FPSCR follows
#define ARM_CPSR_MODE 0x1fU
#define ARM_CPSR_USER 0x10U
#define ARM_CPSR_T 0x20U
#define ARM_CPSR_NZCVQ 0xf8000000U

#define ARM_PATTERN(i) (0xa000b000U + 0x10001U * (i)) // of register i while parked
#define ARM_FPSCR 0x03400010U // flush to zero, default NaN, rounds towards plus, was inexact

// For the assembly, which uses d32 only where it exists.
#define ARM_SYNTAX ".syntax unified\n.arch armv7-a\n.fpu neon\n"
// Loads d0 to d31 and FPSCR from where r0 points; spoils r0 and r1. r1: whether d16 exists.
#define ARM_LOAD                                                                                   \
	"	vldmia r0!, {d0-d15}\n"                                                            \
	"	cmp r1, #0\n"                                                                      \
	"	ite eq\n"                                                                          \
	"	addeq r0, #128\n"                                                                  \
	"	vldmiane r0!, {d16-d31}\n"                                                         \
	"	ldr r1, [r0]\n"                                                                    \
	"	vmsr fpscr, r1\n"

// Puts every register into a known state and waits in read(0, line, 255); runs the command on its
// own stack; again. Never returns.
void scenario_park(struct park *park) __attribute__((noreturn));
extern const char scenario_parked[];
long arch_wait_futex(uint32_t *futex, uintptr_t mark);
void arm_load_vectors(const void *vectors, uint32_t wide);

__asm__(".pushsection .text\n" ARM_SYNTAX
	".thumb\n"
	".balign 4\n"
	".globl scenario_park, scenario_parked, arch_wait_futex, arm_load_vectors\n"
	".type scenario_park, %function\n"
	".thumb_func\n"
	"scenario_park:\n"
	".cfi_startproc\n"
	"	str lr, [sp, #-8]!\n"
	".cfi_def_cfa_offset 8\n"
	".cfi_offset lr, -8\n"
	"	mov r4, r0\n"
	"	str sp, [r4, #576]\n"
	"1:	mov r0, r4\n"
	"	ldr r1, [r4, #856]\n" ARM_LOAD
	"	add r1, r4, #600\n"
	"	mov r2, #255\n"
	".irp i,3,5,6,8,9,10,11,12,14\n"
	"	movw r\\i, #0xb000 + \\i\n"
	"	movt r\\i, #0xa000 + \\i\n"
	".endr\n"
	"	mov r7, #3\n"
	"	mov r0, #0xa0000000\n" // N and C
	"	msr apsr_nzcvqg, r0\n" // GE too, which string functions leave behind
	"	mov r0, #0\n"
	"scenario_parked:\n"
	"	svc #0\n"
	"	mov r1, #0\n"
	"	vmsr fpscr, r1\n" // a command is C code
	"	mov r1, r0\n"
	"	mov r0, r4\n"
	"	ldr sp, [r4, #584]\n"
	"	ldr r12, [r4, #592]\n"
	"	blx r12\n"
	"	ldr sp, [r4, #576]\n"
	"	b 1b\n"
	".cfi_endproc\n"
	".size scenario_park, . - scenario_park\n"
	".type arch_wait_futex, %function\n"
	".thumb_func\n"
	"arch_wait_futex:\n"
	".cfi_startproc\n"
	"	push {r4, r7, r8, lr}\n"
	".cfi_def_cfa_offset 16\n"
	".cfi_offset lr, -4\n"
	".cfi_offset r8, -8\n"
	".cfi_offset r7, -12\n"
	".cfi_offset r4, -16\n"
	"	mov r8, r1\n"
	"	mov r1, #128\n" // FUTEX_WAIT_PRIVATE
	"	mov r2, #0\n"
	"	mov r3, #0\n" // no timeout
	"	mov r7, #240\n"
	"	svc #0\n"
	"	pop {r4, r7, r8, pc}\n"
	".cfi_endproc\n"
	".size arch_wait_futex, . - arch_wait_futex\n"
	".type arm_load_vectors, %function\n"
	".thumb_func\n"
	"arm_load_vectors:\n" ARM_LOAD
	"	bx lr\n"
	".size arm_load_vectors, . - arm_load_vectors\n"
	".popsection\n");

_Static_assert(SYS_read == 3 && SYS_futex == 240, "used by the assembly");

static uint32_t arm_wide(void)
{
	return (getauxval(AT_HWCAP) & ARM_HWCAP_VFPD32) != 0;
}

static void arch_set_park(struct park *park)
{
	const uint32_t fpscr = ARM_FPSCR;
	park->how = arm_wide();
	for (size_t i = 0; i < (park->how ? ARM_VFP_BYTES : ARM_VFP_BYTES / 2); i++)
		park->vectors[i] = (uint8_t)(0xa0 + i);
	memcpy(park->vectors + ARM_VFP_BYTES, &fpscr, sizeof(fpscr));
}

// The rounding of the pattern is not for C code, which may compute something.
static void __attribute__((unused)) arch_load_vectors(void)
{
	arm_load_vectors(arena->park.vectors, arena->park.how);
	__asm__ volatile("vmsr fpscr, %0" : : "r"(0));
}

static void truth_parked(pid_t tid)
{
	char name[8];
	truth_register(tid, "pc", (uintptr_t)scenario_parked);
	truth_register(tid, "r0", STDIN_FILENO);
	truth_register(tid, "r1", (uintptr_t)arena->park.line);
	truth_register(tid, "r2", 255);
	truth_register(tid, "r4", (uintptr_t)&arena->park);
	truth_register(tid, "r7", SYS_read);
	truth_register(tid, "orig_r0", STDIN_FILENO);
	truth_register(tid, "lr", ARM_PATTERN(14));
	for (unsigned int i = 3; i <= 12; i++) {
		snprintf(name, sizeof(name), "r%u", i);
		if (i != 4 && i != 7)
			truth_register(tid, name, ARM_PATTERN(i));
	}
	truth_bits(tid, "cpsr", ARM_CPSR_NZCVQ | ARM_CPSR_T | ARM_CPSR_MODE,
		   0xa0000000U | ARM_CPSR_T | ARM_CPSR_USER);
	truth_note(tid, ARM_NT_VFP, 0, arena->park.vectors, ARM_VFP_BYTES + sizeof(uint32_t));
}

static uintptr_t __attribute__((unused)) arch_thread_pointer(void)
{
	return (uintptr_t)__builtin_thread_pointer();
}

// No note has TPIDRURO. A thread that waits by arch_wait_futex() has it as its mark.
static void __attribute__((unused)) truth_thread_pointer(pid_t tid, uintptr_t pointer)
{
	truth_register(tid, ARCH_MARK, pointer);
}

#endif
