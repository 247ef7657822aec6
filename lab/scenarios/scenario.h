/* SPDX-License-Identifier: BSD-3-Clause */
// What every scenario program shares. A scenario sets a state up, prints one line of JSON (truths
// about itself: the ready event), holds, and answers commands that come by standard input.
//
// H: the harness   S: the main thread of the scenario
//
//   S: sets its state up
//   S: {"pid":…,"tids":[…],"spins":[…],"truths":[…]}\n   on standard output
//   S: parked in read(0) with known registers             H: stops, dumps, compares
//   H: "verify\n"        S: checks its state               S: "ok\n" or "fail <why>\n"
//   H: "finish\n"        S: completes what it held, checks S: "ok\n" or "fail <why>\n"
//   H: end of input      S: exits
//
// The state of the process must be the same before and after a command, or else a core taken
// before it would differ from one taken after it. So a command runs on a stack of its own and
// writes only there: in the arena, a mapping with MADV_DONTDUMP. When the main thread is parked
// again it has the same registers as before. Code that runs in a command must not change memory
// outside the arena: no allocation, no stdio, no failing libc call (errno is in TLS).
//
// One program is one .c file that includes this header once.
#ifndef SCENARIO_H
#define SCENARIO_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#if !defined(__x86_64__) && !defined(__i386__)
#error "scenario_park is written for x86-64 and x86-32"
#endif

#define PAGE 4096UL
#define ARENA_TEXT (4UL << 20)
#define ARENA_STACK (256UL << 10)
#define AWAIT_SECONDS 20
#define XMM_BYTES 128 // of xmm0 to xmm7

// Where the main thread rests. The numbers are used by the assembly below.
struct park {
	uint8_t xsave[576]; // for XRSTOR: SSE with a pattern, the other components initial
	uint64_t sp;        // 576: the parked stack pointer
	uint64_t stack;     // 584: top of the stack on which commands run
	uint64_t command;   // 592: void (*)(struct park *, long)
	char line[256];     // 600: a command
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct park, sp) == 576, "used by scenario_park");
_Static_assert(offsetof(struct park, stack) == 584, "used by scenario_park");
_Static_assert(offsetof(struct park, command) == 592, "used by scenario_park");
_Static_assert(offsetof(struct park, line) == 600, "used by scenario_park");

typedef const char *(*scenario_check)(void); // NULL, or why it fails (in the arena or constant)

struct arena {
	struct park park;
	scenario_check verify, finish;
	char why[512];   // for scenario_why()
	size_t text_len; // the truths, as JSON objects
	size_t tids_len, spins_len;
	char tids[128 << 10];
	char spins[1 << 10];
	char text[ARENA_TEXT];
	uint8_t scratch[64 << 10] __attribute__((aligned(64))); // free for the scenario
	uint8_t stack[ARENA_STACK] __attribute__((aligned(64)));
};

static struct arena *arena;

#define PATTERN_R8 0x1122334455667788
#define PATTERN_R9 0x99aabbccddeeff00
#define PATTERN_R10 0x0123456789abcdef
#define PATTERN_R12 0xfedcba9876543210
#define PATTERN_R13 0x8000000000000001
#define PATTERN_R14 0xdeadbeefcafef00d
#define PATTERN_R15 0x5555aaaa3333cccc
#define PATTERN_SI 0x51515151
#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)

// Puts every register into a known state and waits in read(0, line, 255); runs the command on its
// own stack; again. Never returns. 0xe7: x87, SSE, AVX, opmask and both ZMM parts, not PKRU, whose
// initial state would lift protections.
void scenario_park(struct park *park) __attribute__((noreturn));
extern const char scenario_parked[];

#ifdef __x86_64__
__asm__(".pushsection .text\n"
	".globl scenario_park, scenario_parked\n"
	".type scenario_park, @function\n"
	"scenario_park:\n"
	".cfi_startproc\n"
	"	mov %rdi, %rbx\n"
	"	mov %rsp, 576(%rbx)\n"
	"1:	mov $0xe7, %eax\n"
	"	xor %edx, %edx\n"
	"	xrstor (%rbx)\n"
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
#else
__asm__(".pushsection .text\n"
	".globl scenario_park, scenario_parked\n"
	".type scenario_park, @function\n"
	"scenario_park:\n"
	".cfi_startproc\n"
	"	mov 4(%esp), %edi\n"
	"	mov %esp, 576(%edi)\n"
	"1:	mov $0xe7, %eax\n"
	"	xor %edx, %edx\n"
	"	xrstor (%edi)\n"
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
#endif

static inline pid_t scenario_tid(void)
{
	return (pid_t)syscall(SYS_gettid);
}

static void scenario_write(const char *text, size_t size)
{
	while (size > 0) {
		const ssize_t n = write(STDOUT_FILENO, text, size);
		if (n <= 0)
			_exit(3);
		text += n;
		size -= (size_t)n;
	}
}

// Ends a scenario that could not set its state up: the harness sees no ready line but this text.
static void __attribute__((noreturn, format(printf, 1, 2))) scenario_die(const char *format, ...)
{
	const int saved = errno;
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(saved));
	_exit(2);
}

// A state that this system does not offer: the row is skipped with this reason.
static void __attribute__((noreturn, unused)) scenario_impossible(const char *reason)
{
	char line[512];
	const int n = snprintf(line, sizeof(line), "{\"impossible\":\"%s\"}\n", reason);
	scenario_write(line, (size_t)n);
	_exit(0);
}

// A reason for a check that fails, in the arena.
static __attribute__((format(printf, 1, 2), unused)) const char *scenario_why(const char *format,
									      ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(arena->why, sizeof(arena->why), format, args);
	va_end(args);
	return arena->why;
}

static void scenario_begin(void)
{
	// The harness may be killed: then nobody ends this program, unless it reads end of input.
	arena = mmap(NULL, sizeof(*arena), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (arena == MAP_FAILED || madvise(arena, sizeof(*arena), MADV_DONTDUMP) != 0)
		scenario_die("arena");
	// MXCSR, XSTATE_BV and xmm0 to xmm7. Not all initial: whether SSE that holds zeros counts as
	// in use is for the processor to say, and it says now this and now that.
	const uint32_t mxcsr = 0x1f80, in_use = 2;
	memcpy(arena->park.xsave + 24, &mxcsr, sizeof(mxcsr));
	memcpy(arena->park.xsave + 512, &in_use, sizeof(in_use));
	for (size_t i = 0; i < XMM_BYTES; i++)
		arena->park.xsave[160 + i] = (uint8_t)(0xa0 + i);
	arena->park.stack = (uintptr_t)(arena->stack + sizeof(arena->stack));
}

static void __attribute__((format(printf, 3, 4))) scenario_append(char *text, size_t *len,
								  const char *format, ...)
{
	const size_t size = text == arena->text   ? sizeof(arena->text)
			    : text == arena->tids ? sizeof(arena->tids)
						  : sizeof(arena->spins);
	va_list args;
	va_start(args, format);
	const int n = vsnprintf(text + *len, size - *len, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= size - *len) {
		errno = ENOSPC;
		scenario_die("truths");
	}
	*len += (size_t)n;
}

static void scenario_hex(const void *bytes, size_t size)
{
	const uint8_t *p = bytes;
	for (size_t i = 0; i < size; i++)
		scenario_append(arena->text, &arena->text_len, "%02x", p[i]);
}

// The core has these bytes at this address.
static void __attribute__((unused)) truth_memory(const char *why, const volatile void *address,
						 const void *bytes, size_t size)
{
	scenario_append(arena->text, &arena->text_len,
			"{\"is\":\"memory\",\"why\":\"%s\",\"address\":%llu,\"hex\":\"", why,
			(unsigned long long)(uintptr_t)address);
	scenario_hex(bytes, size);
	scenario_append(arena->text, &arena->text_len, "\"},");
}

// The core has a segment for the range but no bytes of it.
static void __attribute__((unused)) truth_absent(const char *why, const volatile void *address,
						 size_t size)
{
	scenario_append(arena->text, &arena->text_len,
			"{\"is\":\"absent\",\"why\":\"%s\",\"address\":%llu,\"size\":%llu},", why,
			(unsigned long long)(uintptr_t)address, (unsigned long long)size);
}

// The thread has this value in this register, named as gdb does.
static void __attribute__((unused)) truth_register(pid_t tid, const char *name, uint64_t value)
{
	scenario_append(arena->text, &arena->text_len,
			"{\"is\":\"register\",\"tid\":%d,\"name\":\"%s\",\"value\":%llu},",
			(int)tid, name, (unsigned long long)value);
}

// The register points into this range.
static void __attribute__((unused)) truth_within(pid_t tid, const char *name,
						 const volatile void *address, size_t size)
{
	scenario_append(arena->text, &arena->text_len,
			"{\"is\":\"within\",\"tid\":%d,\"name\":\"%s\",\"address\":%llu,"
			"\"size\":%llu},",
			(int)tid, name, (unsigned long long)(uintptr_t)address,
			(unsigned long long)size);
}

// Something else, of which the test of this scenario knows: bytes by name.
static void __attribute__((unused)) truth_bytes(const char *is, long long number,
						const void *bytes, size_t size)
{
	scenario_append(arena->text, &arena->text_len,
			"{\"is\":\"%s\",\"number\":%lld,\"hex\":\"", is, number);
	scenario_hex(bytes, size);
	scenario_append(arena->text, &arena->text_len, "\"},");
}

// The process has this thread, and it waits in the kernel while the scenario holds.
static void scenario_thread(pid_t tid)
{
	scenario_append(arena->tids, &arena->tids_len, "%d,", (int)tid);
}

// The process has this thread, and it spins in user mode while the scenario holds.
static void __attribute__((unused)) scenario_spinner(pid_t tid)
{
	scenario_thread(tid);
	scenario_append(arena->spins, &arena->spins_len, "%d,", (int)tid);
}

// Waits until a thread of this process waits in the kernel, in the given system call if nr >= 0.
static void __attribute__((unused)) scenario_await(pid_t tid, long nr)
{
	char path[64], text[512];
	const time_t deadline = time(NULL) + AWAIT_SECONDS;
	for (;;) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (n <= 0)
			scenario_die("%s", path);
		close(fd);
		text[n] = 0;
		const char *state = strrchr(text, ')');
		const bool sleeps = state && state[1] == ' ' && state[2] == 'S';
		snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int)tid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (n <= 0)
			scenario_die("%s", path);
		close(fd);
		text[n] = 0;
		if (sleeps && text[0] != 'r' && (nr < 0 || strtol(text, NULL, 10) == nr))
			return;
		if (time(NULL) > deadline) {
			errno = ETIMEDOUT;
			scenario_die("thread %d is not in call %ld: %s", (int)tid, nr, text);
		}
		sched_yield();
	}
}

// Reads memory of this process without touching it: also what is PROT_NONE.
static bool __attribute__((unused)) scenario_peek(const volatile void *address, void *bytes,
						  size_t size)
{
	const int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	const ssize_t n = pread64(fd, bytes, size, (off64_t)(uintptr_t)address);
	close(fd);
	return n == (ssize_t)size;
}

// Puts the pattern into SSE and the other components into their initial state.
static void scenario_load_xmm(void)
{
	__asm__ volatile("xrstor %0" : : "m"(arena->park.xsave), "a"(0xe7), "d"(0) : "memory");
}

struct scenario_start {
	void *(*run)(void *);
	void *arg;
	_Atomic pid_t tid;
};

static void *scenario_trampoline(void *arg)
{
	struct scenario_start *start = arg;
	void *(*run)(void *) = start->run;
	void *run_arg = start->arg;
	scenario_load_xmm();
	start->tid = scenario_tid(); // start is gone after this
	return run(run_arg);
}

// A thread with a stack of stack_size bytes; returns its tid.
static pid_t __attribute__((unused)) scenario_create(void *(*run)(void *), void *arg,
						     size_t stack_size)
{
	struct scenario_start start = {.run = run, .arg = arg, .tid = 0};
	pthread_attr_t attr;
	pthread_t thread;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack_size);
	errno = pthread_create(&thread, &attr, scenario_trampoline, &start);
	if (errno != 0)
		scenario_die("pthread_create");
	pthread_attr_destroy(&attr);
	while (start.tid == 0)
		sched_yield();
	return start.tid;
}

#ifdef SCENARIO_CORESNAP
#include "self.h"
#endif

static void scenario_command(struct park *park, long n)
{
	if (n <= 0)
		_exit(n == 0 ? 0 : 3);
	park->line[n] = 0;
#ifdef SCENARIO_CORESNAP
	if (strncmp(park->line, "dump-self ", 10) == 0) {
		scenario_dump_self(park->line);
		return;
	}
#endif
	scenario_check check = NULL;
	if (strcmp(park->line, "verify\n") == 0)
		check = arena->verify;
	else if (strcmp(park->line, "finish\n") == 0)
		check = arena->finish ? arena->finish : arena->verify;
	const char *why = check ? check() : "unknown command";
	char answer[600];
	const int len = why ? snprintf(answer, sizeof(answer), "fail %s\n", why)
			    : snprintf(answer, sizeof(answer), "ok\n");
	scenario_write(answer, (size_t)len);
}

static const char *scenario_nothing(void)
{
	return NULL;
}

// Says ready and holds. verify: is the state as it was set up? May run any number of times and
// changes nothing. finish: lets everything that waits complete, and checks the results; once.
static void __attribute__((noreturn, noinline)) scenario_hold(scenario_check verify,
							      scenario_check finish)
{
	const pid_t tid = scenario_tid();
	// scenario_park is called with its return address at sp: no frame of this function is
	// needed, but the value is known only there. The harness checks that it is in the stack.
	scenario_thread(tid);
	arena->verify = verify ? verify : scenario_nothing;
	arena->finish = finish;
	arena->park.command = (uintptr_t)scenario_command;
#ifdef __x86_64__
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
	truth_within(tid, "rsp", (char *)__builtin_frame_address(0) - 4096, 8192);
#else
	truth_register(tid, "eip", (uintptr_t)scenario_parked);
	truth_register(tid, "orig_eax", SYS_read);
	truth_register(tid, "eax", (uint32_t)-512);
	truth_register(tid, "ebx", 0);
	truth_register(tid, "ecx", (uintptr_t)arena->park.line);
	truth_register(tid, "edx", 255);
	truth_register(tid, "esi", PATTERN_SI);
	truth_register(tid, "edi", (uintptr_t)&arena->park);
	truth_register(tid, "ebp", 0);
	truth_within(tid, "esp", (char *)__builtin_frame_address(0) - 4096, 8192);
#endif
	truth_bytes("xstate-1-0", tid, arena->park.xsave + 160, XMM_BYTES);
	arena->tids[arena->tids_len - 1] = 0; // the last comma
	if (arena->spins_len > 0)
		arena->spins[arena->spins_len - 1] = 0;
	arena->text[arena->text_len - 1] = 0;
	char head[64];
	const int len = snprintf(head, sizeof(head), "{\"pid\":%d,\"tids\":[", (int)getpid());
	scenario_write(head, (size_t)len);
	scenario_write(arena->tids, strlen(arena->tids));
	scenario_write("],\"spins\":[", 11);
	scenario_write(arena->spins, strlen(arena->spins));
	scenario_write("],\"truths\":[", 12);
	scenario_write(arena->text, strlen(arena->text));
	scenario_write("]}\n", 3);
	scenario_park(&arena->park);
}

#endif
