/* SPDX-License-Identifier: BSD-3-Clause */
// Part of works.c: restartable sequences. Threads add to a counter of the processor that they run on,
// by plain instructions: a sequence that is interrupted must begin again, or an increment is lost.
#include <sys/rseq.h>

enum { COUNTERS = 4096, ADDERS = 3, ADDS = 1000 };

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

// 0, or 1 when it has to begin again. `area` is the thread's struct rseq, `description` the struct
// rseq_cs of the sequence (include/uapi/linux/rseq.h).
int add_here(void *area, unsigned long *counters, const void *description);
extern const char add_here_cs[];

// The sequence lasts from 1 to 2; it is left to 3, before which the signature stands.
#define DESCRIPTION(address)                                                                      \
	".data\n.balign 32\n.globl add_here_cs\nadd_here_cs: .long 0, 0\n" address "1f\n" address \
	"2f - 1f\n" address "3f\n.text\n.balign 16\n.globl add_here\n"
#if defined(__aarch64__)
#define SIGNATURE ".long " TEXT(RSEQ_SIG_CODE) "\n"
#else
#define SIGNATURE ".long " TEXT(RSEQ_SIG) "\n"
#endif
// Addresses have 64 bits there; the upper half of a 32-bit one is 0.
#define LONG_PAIR ".macro wide value:vararg\n.long \\value, 0\n.endm\n"

#if defined(__x86_64__)
__asm__(DESCRIPTION(".quad ") ".type add_here, @function\nadd_here:\n"
			      "mov %rdx, 8(%rdi)\n"
			      "1: mov (%rdi), %eax\n"
			      "mov (%rsi,%rax,8), %rdx\n"
			      "mov $200, %ecx\n"
			      "4: dec %ecx\n"
			      "jnz 4b\n"
			      "inc %rdx\n"
			      "mov %rdx, (%rsi,%rax,8)\n"
			      "2: xor %eax, %eax\n"
			      "ret\n" SIGNATURE "3: mov $1, %eax\n"
			      "ret\n.size add_here, . - add_here\n");
#elif defined(__i386__)
__asm__(LONG_PAIR DESCRIPTION("wide ") ".type add_here, @function\nadd_here:\n"
				       "push %ebx\n"
				       "push %esi\n"
				       "mov 12(%esp), %ebx\n"
				       "mov 16(%esp), %esi\n"
				       "mov 20(%esp), %eax\n"
				       "mov %eax, 8(%ebx)\n"
				       "1: mov (%ebx), %eax\n"
				       "mov (%esi,%eax,4), %edx\n"
				       "mov $200, %ecx\n"
				       "4: dec %ecx\n"
				       "jnz 4b\n"
				       "inc %edx\n"
				       "mov %edx, (%esi,%eax,4)\n"
				       "2: xor %eax, %eax\n"
				       "5: pop %esi\n"
				       "pop %ebx\n"
				       "ret\n" SIGNATURE "3: mov $1, %eax\n"
				       "jmp 5b\n.size add_here, . - add_here\n");
#elif defined(__aarch64__)
__asm__(DESCRIPTION(".quad ") ".type add_here, %function\nadd_here:\n"
			      "str x2, [x0, #8]\n"
			      "1: ldr w3, [x0]\n"
			      "ldr x4, [x1, x3, lsl #3]\n"
			      "mov w5, #200\n"
			      "4: subs w5, w5, #1\n"
			      "b.ne 4b\n"
			      "add x4, x4, #1\n"
			      "str x4, [x1, x3, lsl #3]\n"
			      "2: mov w0, #0\n"
			      "ret\n" SIGNATURE "3: mov w0, #1\n"
			      "ret\n.size add_here, . - add_here\n");
#elif defined(__arm__)
__asm__(LONG_PAIR DESCRIPTION("wide ") ".arm\n.type add_here, %function\nadd_here:\n"
				       "str r2, [r0, #8]\n"
				       "1: ldr r3, [r0]\n"
				       "ldr r12, [r1, r3, lsl #2]\n"
				       "mov r2, #200\n"
				       "4: subs r2, r2, #1\n"
				       "bne 4b\n"
				       "add r12, r12, #1\n"
				       "str r12, [r1, r3, lsl #2]\n"
				       "2: mov r0, #0\n"
				       "bx lr\n" SIGNATURE "3: mov r0, #1\n"
				       "bx lr\n.size add_here, . - add_here\n"
#if defined(__thumb__)
				       ".thumb\n"
#endif
);
#endif

static unsigned long counters[COUNTERS];

static void *add(void *unused)
{
	char *const area = (char *)__builtin_thread_pointer() + __rseq_offset;

	for (int i = 0; i < ADDS; i++)
		while (add_here(area, counters, add_here_cs))
			;
	return unused;
}

static void begin_rseq(void)
{
	if (__rseq_size == 0 || get_nprocs_conf() > COUNTERS)
		lacks("restartable sequences");
}

static void do_rseq(void)
{
	pthread_t threads[ADDERS];
	unsigned long sum = 0;

	for (int i = 0; i < ADDERS; i++)
		expect("pthread_create", pthread_create(&threads[i], NULL, add, NULL), 0);
	for (int i = 0; i < ADDERS; i++)
		expect("pthread_join", pthread_join(threads[i], NULL), 0);
	for (int i = 0; i < COUNTERS; i++)
		sum += counters[i];
	if (sum != (unsigned long)rounds * ADDERS * ADDS)
		complain("%lu additions in %ld rounds", sum, rounds);
}
