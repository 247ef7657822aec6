/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A process whose core is known beforehand: it prints what it is made of, one "name value" a line,
 * then either loads every register with a known value and dies of SIGILL, or (with an argument)
 * says "ready 1" and waits to be killed.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS 3
#define PAGE	4096UL

static sem_t published;
static int tids[THREADS];
#if defined(__x86_64__)
static unsigned char vector[16] = "0123456789abcdef";
#endif

static void *wait_forever(void *slot)
{
	*(int *)slot = (int)syscall(SYS_gettid);
	sem_post(&published);
	for (;;)
		pause();
	return NULL;
}

static void *map(unsigned long pages, int prot, int flags)
{
	return mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

static void die(void)
{
#if defined(__x86_64__)
	__asm__ volatile("movdqu %0, %%xmm5\n\t"
			 "movabs $0x1000000000000001, %%rax\n\t"
			 "movabs $0x1000000000000002, %%rbx\n\t"
			 "movabs $0x1000000000000003, %%rcx\n\t"
			 "movabs $0x1000000000000004, %%rdx\n\t"
			 "movabs $0x1000000000000005, %%rsi\n\t"
			 "movabs $0x1000000000000006, %%rdi\n\t"
			 "movabs $0x1000000000000007, %%rbp\n\t"
			 "movabs $0x1000000000000008, %%rsp\n\t"
			 "movabs $0x1000000000000009, %%r8\n\t"
			 "movabs $0x100000000000000a, %%r9\n\t"
			 "movabs $0x100000000000000b, %%r10\n\t"
			 "movabs $0x100000000000000c, %%r11\n\t"
			 "movabs $0x100000000000000d, %%r12\n\t"
			 "movabs $0x100000000000000e, %%r13\n\t"
			 "movabs $0x100000000000000f, %%r14\n\t"
			 "movabs $0x1000000000000010, %%r15\n\t"
			 ".globl crash_here\n\t"
			 "crash_here: ud2"
			 :
			 : "m"(vector));
#elif defined(__i386__)
	__asm__ volatile("movl $0x10000001, %eax\n\t"
			 "movl $0x10000002, %ebx\n\t"
			 "movl $0x10000003, %ecx\n\t"
			 "movl $0x10000004, %edx\n\t"
			 "movl $0x10000005, %esi\n\t"
			 "movl $0x10000006, %edi\n\t"
			 "movl $0x10000007, %ebp\n\t"
			 "movl $0x10000008, %esp\n\t"
			 ".globl crash_here\n\t"
			 "crash_here: ud2");
#elif defined(__aarch64__)
	__asm__ volatile("ldr x0, =0x1000000000000020\n\t"
			 "mov sp, x0\n\t"
			 ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,"
			 " 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30\n\t"
			 "ldr x\\n, =0x1000000000000001 + \\n\n\t"
			 ".endr\n\t"
			 ".globl crash_here\n\t"
			 "crash_here: udf #0\n\t"
			 ".ltorg");
#elif defined(__arm__)
	__asm__ volatile(".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14\n\t"
			 "ldr r\\n, =0x10000001 + \\n\n\t"
			 ".endr\n\t"
			 ".globl crash_here\n\t"
			 "crash_here: udf #0\n\t"
			 ".ltorg");
#else
#error "which registers are there to plant?"
#endif
}

extern char crash_here[];

int main(int argc, char **argv)
{
	pthread_t thread;

	(void)argv;
	sem_init(&published, 0, 0);
	for (int i = 0; i < THREADS; i++) {
		pthread_create(&thread, NULL, wait_forever, &tids[i]);
		sem_wait(&published);
		printf("tid %d\n", tids[i]);
	}

	unsigned char *pattern = map(512, PROT_READ | PROT_WRITE, 0);
	for (unsigned long i = 0; i < PAGE; i++)
		pattern[256 * PAGE + i] = (unsigned char)(i * 7);
	unsigned char *left_out = map(2, PROT_READ | PROT_WRITE, 0);
	memset(left_out, 1, 2 * PAGE);
	madvise(left_out, 2 * PAGE, MADV_DONTDUMP);

	printf("pid %d\nparent %d\npattern %lu\nleft_out %lu\ncrash %lu\n", getpid(), getppid(),
	       (unsigned long)pattern, (unsigned long)left_out, (unsigned long)crash_here);
	fflush(stdout);
	if (argc > 1) {
		printf("ready 1\n");
		fflush(stdout);
		for (;;)
			pause();
	}
	die();
	return 1;
}
