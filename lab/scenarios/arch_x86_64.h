/* SPDX-License-Identifier: BSD-3-Clause */
// What scenarios need to know of x86-64; see scenario.h.
#ifndef ARCH_X86_64_H
#define ARCH_X86_64_H

#include "arch_x86.h"

#define ARCH_PC "rip"
#define ARCH_SP "rsp"
#define ARCH_NUMBER "orig_rax"
#define ARCH_ARGUMENT "rdi"
#define ARCH_MARK "r15"
#define ARCH_NOTES_THREAD_POINTER 1

#define PATTERN_R8 0x1122334455667788
#define PATTERN_R9 0x99aabbccddeeff00
#define PATTERN_R10 0x0123456789abcdef
#define PATTERN_R12 0xfedcba9876543210
#define PATTERN_R13 0x8000000000000001
#define PATTERN_R14 0xdeadbeefcafef00d
#define PATTERN_R15 0x5555aaaa3333cccc

// Puts every register into a known state and waits in read(0, line, 255); runs the command on its
// own stack; again. Never returns.
void scenario_park(struct park *park) __attribute__((noreturn));
extern const char scenario_parked[];

__asm__(".pushsection .text\n"
	".globl scenario_park, scenario_parked\n"
	".type scenario_park, @function\n"
	"scenario_park:\n"
	".cfi_startproc\n"
	"	mov %rdi, %rbx\n"
	"	mov %rsp, 576(%rbx)\n"
	"1:\n" X86_LOAD("%rbx")
	"	lea 600(%rbx), %rsi\n"
	"	movabs $" STRINGIFY(PATTERN_R8) ", %r8\n"
	"	movabs $" STRINGIFY(PATTERN_R9) ", %r9\n"
	"	movabs $" STRINGIFY(PATTERN_R10) ", %r10\n"
	"	movabs $" STRINGIFY(PATTERN_R12) ", %r12\n"
	"	movabs $" STRINGIFY(PATTERN_R13) ", %r13\n"
	"	movabs $" STRINGIFY(PATTERN_R14) ", %r14\n"
	"	movabs $" STRINGIFY(PATTERN_R15) ", %r15\n"
	"	mov $255, %edx\n"
	"	xor %ebx, %ebx\n"
	"	xor %ebp, %ebp\n"
	"	xor %edi, %edi\n"
	"	xor %eax, %eax\n"
	"	syscall\n"
	"scenario_parked:\n"
	"	lea -600(%rsi), %rbx\n"
	"	mov 584(%rbx), %rsp\n"
	"	mov %rbx, %rdi\n"
	"	mov %rax, %rsi\n"
	"	call *592(%rbx)\n"
	"	mov 576(%rbx), %rsp\n"
	"	jmp 1b\n"
	".cfi_endproc\n"
	".size scenario_park, . - scenario_park\n"
	".popsection\n");

static void truth_parked(pid_t tid)
{
	truth_register(tid, "rip", (uintptr_t)scenario_parked);
	truth_register(tid, "orig_rax", SYS_read);
	truth_register(tid, "rax", (uint64_t)-512); // -ERESTARTSYS: a read(2) that was stopped
	truth_register(tid, "rbx", 0);
	truth_register(tid, "rbp", 0);
	truth_register(tid, "rdx", 255);
	truth_register(tid, "rsi", (uintptr_t)arena->park.line);
	truth_register(tid, "r8", PATTERN_R8);
	truth_register(tid, "r9", PATTERN_R9);
	truth_register(tid, "r10", PATTERN_R10);
	truth_register(tid, "r12", PATTERN_R12);
	truth_register(tid, "r13", PATTERN_R13);
	truth_register(tid, "r14", PATTERN_R14);
	truth_register(tid, "r15", PATTERN_R15);
	truth_parked_vectors(tid);
}

static long __attribute__((unused, noinline)) arch_wait_futex(uint32_t *futex, uintptr_t mark)
{
	long ret;
	register long r10 __asm__("r10") = 0; // no timeout
	register uintptr_t r15 __asm__("r15") = mark;
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(SYS_futex), "D"(futex), "S"(128 /* FUTEX_WAIT_PRIVATE */), "d"(0), "r"(r10),
			   "r"(r15)
			 : "rcx", "r11", "memory");
	return ret;
}

static uintptr_t __attribute__((unused)) arch_thread_pointer(void)
{
	uintptr_t pointer;
	__asm__("mov %%fs:0, %0" : "=r"(pointer)); // it points to itself
	return pointer;
}

static void __attribute__((unused)) truth_thread_pointer(pid_t tid, uintptr_t pointer)
{
	truth_register(tid, "fs_base", pointer);
}

#endif
