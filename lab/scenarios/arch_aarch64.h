/* SPDX-License-Identifier: BSD-3-Clause */
// What scenarios need to know of AArch64; see scenario.h.
//
// The kernel moves pc back to the svc, restores x0 and forgets the number of the call before a
// thread that waits in it stops (arch/arm64/kernel/signal.c: do_signal), so a core has the thread
// about to make its call, with the number in x8 and none in NT_ARM_SYSTEM_CALL.
#ifndef ARCH_AARCH64_H
#define ARCH_AARCH64_H

#define ARCH_PC "pc"
#define ARCH_SP "sp"
#define ARCH_NUMBER "x8"
#define ARCH_ARGUMENT "x0"
#define ARCH_MARK "x28"
#define ARCH_NOTES_THREAD_POINTER 1

#define ARM64_NT_PRFPREG 2
#define ARM64_NT_TLS 0x401
#define ARM64_NT_SYSTEM_CALL 0x404
#define ARM64_V_BYTES 512 // of v0 to v31; FPSR and FPCR follow
#define ARM64_FPSR 0x08000010U // saturated, was inexact
#define ARM64_FPCR 0x03400000U // default NaN, flush to zero, rounds towards plus
#define ARM64_PSTATE_NZCV 0xf0000000U
#define ARM64_PSTATE_MODE 0x1fU // 0 is EL0 in AArch64

#define ARM64_PATTERN(i) (0xa000b000c000d000U + 0x1000100010001U * (i)) // of register i

// For the assembly: loads v0 to v31, FPSR and FPCR from where the register points; spoils x9.
#define ARM64_LOAD(at)                                                                             \
	".irp i,0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30\n"                                      \
	"	ldr q\\i, [" at ", #\\i * 16]\n"                                                   \
	".endr\n"                                                                                  \
	".irp i,1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31\n"                                      \
	"	ldr q\\i, [" at ", #\\i * 16]\n"                                                   \
	".endr\n"                                                                                  \
	"	ldr w9, [" at ", #512]\n"                                                          \
	"	msr fpsr, x9\n"                                                                    \
	"	ldr w9, [" at ", #516]\n"                                                          \
	"	msr fpcr, x9\n"
// Puts the register's pattern into it.
#define ARM64_PATTERNS(registers)                                                                  \
	".irp i," registers "\n"                                                                   \
	"	movz x\\i, #0xa000 + \\i, lsl #48\n"                                               \
	"	movk x\\i, #0xb000 + \\i, lsl #32\n"                                               \
	"	movk x\\i, #0xc000 + \\i, lsl #16\n"                                               \
	"	movk x\\i, #0xd000 + \\i\n"                                                        \
	".endr\n"

// Puts every register into a known state and waits in read(0, line, 255); runs the command on its
// own stack; again. Never returns.
void scenario_park(struct park *park) __attribute__((noreturn));
extern const char scenario_parked[];
void arm64_load_vectors(const void *vectors);

__asm__(".pushsection .text\n"
	".balign 4\n"
	".globl scenario_park, scenario_parked, arm64_load_vectors\n"
	".type scenario_park, %function\n"
	"scenario_park:\n"
	".cfi_startproc\n"
	"	stp x29, x30, [sp, #-16]!\n"
	".cfi_def_cfa_offset 16\n"
	".cfi_offset 30, -8\n"
	".cfi_offset 29, -16\n"
	"	mov x19, x0\n"
	"	mov x9, sp\n"
	"	str x9, [x19, #576]\n"
	"1:\n" ARM64_LOAD("x19")
	"	add x1, x19, #600\n"
	"	mov x2, #255\n"
	ARM64_PATTERNS("3,4,5,6,7,9,10,11,12,13,14,15,16,17,18")
	ARM64_PATTERNS("20,21,22,23,24,25,26,27,28,29,30")
	"	mov x8, #63\n"
	"	mov x0, #0xa0000000\n" // N and C
	"	msr nzcv, x0\n"
	"	mov x0, #0\n"
	"scenario_parked:\n"
	"	svc #0\n"
	"	msr fpcr, xzr\n" // a command is C code
	"	mov x1, x0\n"
	"	mov x0, x19\n"
	"	ldr x9, [x19, #584]\n"
	"	mov sp, x9\n"
	"	ldr x9, [x19, #592]\n"
	"	blr x9\n"
	"	ldr x9, [x19, #576]\n"
	"	mov sp, x9\n"
	"	b 1b\n"
	".cfi_endproc\n"
	".size scenario_park, . - scenario_park\n"
	".type arm64_load_vectors, %function\n"
	"arm64_load_vectors:\n" ARM64_LOAD("x0")
	"	ret\n"
	".size arm64_load_vectors, . - arm64_load_vectors\n"
	".popsection\n");

_Static_assert(SYS_read == 63, "used by the assembly");

static void arch_set_park(struct park *park)
{
	const uint32_t control[2] = {ARM64_FPSR, ARM64_FPCR};
	for (size_t i = 0; i < ARM64_V_BYTES; i++)
		park->vectors[i] = (uint8_t)(0xa0 + i + i / 256);
	memcpy(park->vectors + ARM64_V_BYTES, control, sizeof(control));
}

// The rounding of the pattern is not for C code, which may compute something.
static void __attribute__((unused)) arch_load_vectors(void)
{
	arm64_load_vectors(arena->park.vectors);
	__asm__ volatile("msr fpcr, %0" : : "r"(0UL));
}

static void truth_parked(pid_t tid)
{
	const int32_t no_call = -1;
	char name[8];
	truth_register(tid, "pc", (uintptr_t)scenario_parked);
	truth_register(tid, "x0", STDIN_FILENO);
	truth_register(tid, "x1", (uintptr_t)arena->park.line);
	truth_register(tid, "x2", 255);
	truth_register(tid, "x8", SYS_read);
	truth_register(tid, "x19", (uintptr_t)&arena->park);
	for (unsigned int i = 3; i <= 30; i++) {
		snprintf(name, sizeof(name), "x%u", i);
		if (i != 8 && i != 19)
			truth_register(tid, name, ARM64_PATTERN(i));
	}
	truth_bits(tid, "pstate", ARM64_PSTATE_NZCV | ARM64_PSTATE_MODE, 0xa0000000U);
	truth_note(tid, ARM64_NT_PRFPREG, 0, arena->park.vectors, ARM64_V_BYTES + 8);
	truth_note(tid, ARM64_NT_SYSTEM_CALL, 0, &no_call, sizeof(no_call));
}

static long __attribute__((unused, noinline)) arch_wait_futex(uint32_t *futex, uintptr_t mark)
{
	register uint32_t *x0 __asm__("x0") = futex;
	register long x1 __asm__("x1") = 128; // FUTEX_WAIT_PRIVATE
	register long x2 __asm__("x2") = 0;
	register long x3 __asm__("x3") = 0; // no timeout
	register long x8 __asm__("x8") = SYS_futex;
	register uintptr_t x28 __asm__("x28") = mark;
	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x1), "r"(x2), "r"(x3), "r"(x8), "r"(x28)
			 : "memory");
	return (long)(uintptr_t)x0;
}

static uintptr_t __attribute__((unused)) arch_thread_pointer(void)
{
	return (uintptr_t)__builtin_thread_pointer();
}

static void __attribute__((unused)) truth_thread_pointer(pid_t tid, uintptr_t pointer)
{
	truth_note(tid, ARM64_NT_TLS, 0, &pointer, sizeof(pointer));
}

#endif
