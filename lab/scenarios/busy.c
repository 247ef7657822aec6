/* SPDX-License-Identifier: BSD-3-Clause */
// Threads that never stop writing. Each writes its counter, which it keeps in a register, into a
// word of each of its pages, in order, again and again. So at any instant the pages hold the
// counter and then, from some page on, the counter less one: a core that holds anything else was
// not taken at one instant, or its registers and memory were taken at different ones.
#include "scenario.h"

#define STACK (64UL << 10)
#define THREADS 2
#define PAGES 512

struct writer {
	uint64_t base, pages;
};

void busy_write(uintptr_t base, size_t pages, _Atomic uint32_t *started) __attribute__((noreturn));

#ifdef __x86_64__
__asm__(".pushsection .text\n"
	".globl busy_write\n"
	"busy_write:\n"
	"	xor %r12d, %r12d\n"
	"	movl $1, (%rdx)\n"
	"1:	inc %r12\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rcx\n"
	"2:	mov %r12, (%rax)\n"
	"	add $4096, %rax\n"
	"	dec %rcx\n"
	"	jnz 2b\n"
	"	jmp 1b\n"
	".popsection\n");
#define COUNTER "r12"
#elif defined(__i386__)
__asm__(".pushsection .text\n"
	".globl busy_write\n"
	"busy_write:\n"
	"	mov 4(%esp), %edi\n"
	"	mov 8(%esp), %esi\n"
	"	mov 12(%esp), %edx\n"
	"	xor %ebx, %ebx\n"
	"	movl $1, (%edx)\n"
	"1:	inc %ebx\n"
	"	mov %edi, %eax\n"
	"	mov %esi, %ecx\n"
	"2:	mov %ebx, (%eax)\n"
	"	add $4096, %eax\n"
	"	dec %ecx\n"
	"	jnz 2b\n"
	"	jmp 1b\n"
	".popsection\n");
#define COUNTER "ebx"
#elif defined(__arm__)
__asm__(".pushsection .text\n" ARM_SYNTAX
	".thumb\n"
	".globl busy_write\n"
	".type busy_write, %function\n"
	".thumb_func\n"
	"busy_write:\n"
	"	mov r4, #0\n"
	"	mov r5, #1\n"
	"	str r5, [r2]\n"
	"1:	add r4, r4, #1\n"
	"	mov r5, r0\n"
	"	mov r6, r1\n"
	"2:	str r4, [r5]\n"
	"	add r5, r5, #4096\n"
	"	subs r6, r6, #1\n"
	"	bne 2b\n"
	"	b 1b\n"
	".popsection\n");
#define COUNTER "r4"
#elif defined(__aarch64__)
__asm__(".pushsection .text\n"
	".globl busy_write\n"
	".type busy_write, %function\n"
	"busy_write:\n"
	"	mov x19, #0\n"
	"	mov w9, #1\n"
	"	str w9, [x2]\n"
	"1:	add x19, x19, #1\n"
	"	mov x9, x0\n"
	"	mov x10, x1\n"
	"2:	str x19, [x9]\n"
	"	add x9, x9, #1, lsl #12\n"
	"	subs x10, x10, #1\n"
	"	b.ne 2b\n"
	"	b 1b\n"
	".popsection\n");
#define COUNTER "x19"
#endif

static char *regions[THREADS];
static _Atomic uint32_t started[THREADS];

static void *run(void *arg)
{
	const size_t i = (size_t)(uintptr_t)arg;
	busy_write((uintptr_t)regions[i], PAGES, &started[i]);
}

// The writers went on: their first page changes.
static const char *verify(void)
{
	for (size_t i = 0; i < THREADS; i++) {
		const volatile uint32_t *word = (const volatile uint32_t *)(void *)regions[i];
		const uint32_t before = *word;
		const time_t deadline = time(NULL) + AWAIT_SECONDS;
		while (*word == before) {
			if (time(NULL) > deadline)
				return "a writer stands still";
			sched_yield();
		}
	}
	return NULL;
}

int main(void)
{
	scenario_begin();
	for (size_t i = 0; i < THREADS; i++) {
		regions[i] = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (regions[i] == MAP_FAILED)
			scenario_die("mmap");
		memset(regions[i], 0, PAGES * PAGE);
		const pid_t tid = scenario_create(run, (void *)i, STACK);
		scenario_spinner(tid);
		while (!started[i] || *(volatile uint32_t *)(void *)regions[i] < 2)
			sched_yield();
		const struct writer writer = {(uintptr_t)regions[i], PAGES};
		truth_bytes("writer-" COUNTER, tid, &writer, sizeof(writer));
	}
	scenario_hold(verify, NULL);
}
