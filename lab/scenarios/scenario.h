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
// One program is one .c file that includes this header once. What differs between architectures is
// in arch_*.h, which all offer the same:
//
//   ARCH_PC, ARCH_SP     the names of these registers in a core
//   ARCH_NUMBER          the register with the number of the call in which a thread waits
//   ARCH_ARGUMENT        the register with that call's first argument
//   ARCH_MARK            the register in which arch_wait_futex() keeps its mark
//   scenario_park()      puts every register into a known state, waits in read(2), runs commands
//   arch_set_park()      makes the state of the vector registers that scenario_park() loads
//   arch_load_vectors()  loads it in any thread
//   arch_wait_futex()    FUTEX_WAIT_PRIVATE with a mark in a register; where the kernel has no
//                        get_user_pages_fast(), a shared one that starts anew as its thread is
//                        killed ends with EINTR instead (mm/gup.c: __get_user_pages)
//   arch_thread_pointer(), truth_thread_pointer(), ARCH_NOTES_THREAD_POINTER
//   truth_parked()       says what the core has of the parked main thread
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

#define PAGE 4096UL
#define ARENA_TEXT (4UL << 20)
#define ARENA_STACK (256UL << 10)
#define AWAIT_SECONDS 20

// Where the main thread rests. The numbers are used by the assembly of the architectures.
struct park {
	uint8_t vectors[576]; // the vector registers, as the architecture loads them
	uint64_t sp;          // 576: the parked stack pointer
	uint64_t stack;       // 584: top of the stack on which commands run
	uint64_t command;     // 592: void (*)(struct park *, long)
	char line[256];       // 600: a command
	uint32_t how;         // 856: how to load the vector registers, in the architecture's words
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct park, sp) == 576, "used by scenario_park");
_Static_assert(offsetof(struct park, stack) == 584, "used by scenario_park");
_Static_assert(offsetof(struct park, command) == 592, "used by scenario_park");
_Static_assert(offsetof(struct park, line) == 600, "used by scenario_park");
_Static_assert(offsetof(struct park, how) == 856, "used by scenario_park");

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

#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)

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

// These bits of the register have this value.
static void __attribute__((unused)) truth_bits(pid_t tid, const char *name, uint64_t mask,
					       uint64_t value)
{
	scenario_append(arena->text, &arena->text_len,
			"{\"is\":\"bits\",\"tid\":%d,\"name\":\"%s\",\"mask\":%llu,\"value\":%llu},",
			(int)tid, name, (unsigned long long)mask, (unsigned long long)value);
}

// The thread's note of this type (NT_*) has these bytes at the offset; with none it is there.
static void __attribute__((unused)) truth_note(pid_t tid, unsigned int type, size_t offset,
					       const void *bytes, size_t size)
{
	char is[64];
	snprintf(is, sizeof(is), "note-%#x-%zu", type, offset);
	truth_bytes(is, tid, bytes, size);
}

#if defined(__x86_64__)
#include "arch_x86_64.h"
#elif defined(__i386__)
#include "arch_i386.h"
#elif defined(__arm__)
#include "arch_arm.h"
#elif defined(__aarch64__)
#include "arch_aarch64.h"
#else
#error "an arch_*.h is needed: see the list at the top of this file"
#endif

static void scenario_begin(void)
{
	// The harness may be killed: then nobody ends this program, unless it reads end of input.
	arena = mmap(NULL, sizeof(*arena), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (arena == MAP_FAILED || madvise(arena, sizeof(*arena), MADV_DONTDUMP) != 0)
		scenario_die("arena");
	arch_set_park(&arena->park);
	arena->park.stack = (uintptr_t)(arena->stack + sizeof(arena->stack));
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

// Wakes the threads that wait for a futex until as many have counted themselves as released.
static bool __attribute__((unused)) scenario_wake(uint32_t *futex, _Atomic uint32_t *released,
						  size_t threads)
{
	const time_t deadline = time(NULL) + AWAIT_SECONDS;
	while (*released < threads) {
		syscall(SYS_futex, futex, 129 /* FUTEX_WAKE_PRIVATE */, INT_MAX, NULL, NULL, 0);
		if (time(NULL) > deadline)
			return false;
		sched_yield();
	}
	return true;
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
	arch_load_vectors();
	start->tid = scenario_tid(); // start is gone after this
	return run(run_arg);
}

// A thread with a stack of stack_size bytes, or what this processor's signal frames need; returns
// its tid.
static pid_t __attribute__((unused)) scenario_create(void *(*run)(void *), void *arg,
						     size_t stack_size)
{
	struct scenario_start start = {.run = run, .arg = arg, .tid = 0};
	pthread_attr_t attr;
	pthread_t thread;
	pthread_attr_init(&attr);
	const size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN);
	errno = pthread_attr_setstacksize(&attr, stack_size > least ? stack_size : least);
	if (errno != 0)
		scenario_die("pthread_attr_setstacksize");
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
	truth_within(tid, ARCH_SP, (char *)__builtin_frame_address(0) - 4096, 8192);
	truth_parked(tid);
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
