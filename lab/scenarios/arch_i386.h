/* SPDX-License-Identifier: BSD-3-Clause */
// What scenarios need to know of x86-32; see scenario.h.
#ifndef ARCH_I386_H
#define ARCH_I386_H

#include "arch_x86.h"

#define ARCH_PC "eip"
#define ARCH_SP "esp"
#define ARCH_NUMBER "orig_eax"
#define ARCH_ARGUMENT "ebx"
#define ARCH_MARK "edi"
#define ARCH_NOTES_THREAD_POINTER 1

#define PATTERN_SI 0x51515151

// Puts every register into a known state and waits in read(0, line, 255); runs the command on its
// own stack; again. Never returns.
void scenario_park(struct park *park) __attribute__((noreturn));
extern const char scenario_parked[];

__asm__(".pushsection .text\n"
	".globl scenario_park, scenario_parked\n"
	".type scenario_park, @function\n"
	"scenario_park:\n"
	".cfi_startproc\n"
	"	mov 4(%esp), %edi\n"
	"	mov %esp, 576(%edi)\n"
	"1:\n" X86_LOAD("%edi")
	"	lea 600(%edi), %ecx\n"
	"	mov $" STRINGIFY(PATTERN_SI) ", %esi\n"
	"	mov $255, %edx\n"
	"	xor %ebx, %ebx\n"
	"	xor %ebp, %ebp\n"
	"	mov $3, %eax\n"
	"	int $0x80\n"
	"scenario_parked:\n"
	"	mov 584(%edi), %esp\n"
	"	sub $8, %esp\n"
	"	push %eax\n"
	"	push %edi\n"
	"	call *592(%edi)\n"
	"	mov 576(%edi), %esp\n"
	"	jmp 1b\n"
	".cfi_endproc\n"
	".size scenario_park, . - scenario_park\n"
	".popsection\n");

static void truth_parked(pid_t tid)
{
	truth_register(tid, "eip", (uintptr_t)scenario_parked);
	truth_register(tid, "orig_eax", SYS_read);
	truth_register(tid, "eax", (uint32_t)-512); // -ERESTARTSYS: a read(2) that was stopped
	truth_register(tid, "ebx", 0);
	truth_register(tid, "ecx", (uintptr_t)arena->park.line);
	truth_register(tid, "edx", 255);
	truth_register(tid, "esi", PATTERN_SI);
	truth_register(tid, "edi", (uintptr_t)&arena->park);
	truth_register(tid, "ebp", 0);
	truth_parked_vectors(tid);
}

static long __attribute__((unused, noinline)) arch_wait_futex(uint32_t *futex, uintptr_t mark)
{
	long ret;
	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "a"(SYS_futex), "b"(futex), "c"(128 /* FUTEX_WAIT_PRIVATE */), "d"(0), "S"(0),
			   "D"(mark)
			 : "memory");
	return ret;
}

static uintptr_t __attribute__((unused)) arch_thread_pointer(void)
{
	uintptr_t pointer;
	__asm__("mov %%gs:0, %0" : "=r"(pointer)); // it points to itself
	return pointer;
}

static void __attribute__((unused)) truth_thread_pointer(pid_t tid, uintptr_t pointer)
{
	truth_bytes("tls386", tid, &pointer, sizeof(pointer));
}

#endif
