/* SPDX-License-Identifier: BSD-3-Clause */
#include "restart.h"

#include <errno.h>

#include "check.h"

// user_regs_struct: where each architecture has the result, the number and the arguments.
struct slots {
	const struct arch *arch;
	size_t word, ret, nr, args[6];
};

// ax, orig_ax, di, si, dx, r10, r8, r9
static const struct slots wide = { &arch_x86_64, 8, 80, 120, { 112, 104, 96, 56, 72, 64 } };
// eax, orig_eax, ebx, ecx, edx, esi, edi, ebp
static const struct slots narrow = { &arch_i386, 4, 24, 44, { 0, 4, 8, 12, 16, 20 } };

// When an interrupted call is made to restart.
enum restarts {
	NEVER,      // the kernel restarts it itself, or it does not sleep
	ALWAYS,     // it has no timeout
	NOT_STRICT, // with a timeout: unless strict timeouts are asked for
};

struct row {
	const struct slots *slots;
	const char *call;
	int nr;
	enum restarts restarts;
	unsigned int arg; // this argument has this value, the others are 0
	int64_t value;
};

static const struct row rows[] = {
	// signal(7), "never restarted after being interrupted by a signal handler", and those whose
	// sockets have SO_RCVTIMEO or SO_SNDTIMEO, without which no EINTR is seen.
	{ &wide, "read", 0, NOT_STRICT, 0, 0 },
	{ &wide, "write", 1, NOT_STRICT, 0, 0 },
	{ &wide, "readv", 19, NOT_STRICT, 0, 0 },
	{ &wide, "writev", 20, NOT_STRICT, 0, 0 },
	{ &wide, "connect", 42, NOT_STRICT, 0, 0 },
	{ &wide, "accept", 43, NOT_STRICT, 0, 0 },
	{ &wide, "sendto", 44, NOT_STRICT, 0, 0 },
	{ &wide, "recvfrom", 45, NOT_STRICT, 0, 0 },
	{ &wide, "sendmsg", 46, NOT_STRICT, 0, 0 },
	{ &wide, "recvmsg", 47, NOT_STRICT, 0, 0 },
	{ &wide, "accept4", 288, NOT_STRICT, 0, 0 },
	{ &wide, "recvmmsg", 299, NOT_STRICT, 0, 0 },
	{ &wide, "sendmmsg", 307, NOT_STRICT, 0, 0 },
	{ &wide, "semop", 65, ALWAYS, 0, 0 },
	{ &wide, "semtimedop", 220, ALWAYS, 3, 0 },
	{ &wide, "semtimedop, timeout", 220, NOT_STRICT, 3, 0x7fff12345678 },
	{ &wide, "rt_sigtimedwait", 128, ALWAYS, 2, 0 },
	{ &wide, "rt_sigtimedwait, timeout", 128, NOT_STRICT, 2, 0x7fff12345678 },
	{ &wide, "io_getevents", 208, ALWAYS, 4, 0 },
	{ &wide, "io_getevents, timeout", 208, NOT_STRICT, 4, 0x7f0000000000 },
	{ &wide, "io_pgetevents", 333, ALWAYS, 4, 0 },
	{ &wide, "io_pgetevents, timeout", 333, NOT_STRICT, 4, 1 },
	{ &wide, "epoll_wait, for ever", 232, ALWAYS, 3, -1 },
	{ &wide, "epoll_wait, upper half dirty", 232, ALWAYS, 3, 0x1ffffffff },
	{ &wide, "epoll_wait, upper half dirty", 232, NOT_STRICT, 3, -4294966296 },
	{ &wide, "epoll_wait, any negative", 232, ALWAYS, 3, INT32_MIN },
	{ &wide, "epoll_wait, timeout", 232, NOT_STRICT, 3, 1000 },
	{ &wide, "epoll_wait, 0 ms", 232, NOT_STRICT, 3, 0 },
	{ &wide, "epoll_pwait", 281, ALWAYS, 3, 0xffffffff },
	{ &wide, "epoll_pwait, timeout", 281, NOT_STRICT, 3, INT32_MAX },
	{ &wide, "epoll_pwait2", 441, ALWAYS, 3, 0 },
	{ &wide, "epoll_pwait2, timeout", 441, NOT_STRICT, 3, 8 },
	{ &wide, "io_uring_enter", 426, ALWAYS, 3, 1 },
	{ &wide, "io_uring_enter, EXT_ARG", 426, NOT_STRICT, 3, 1 | 8 },
	{ &wide, "nanosleep", 35, NEVER, 0, 0 },
	{ &wide, "poll", 7, NEVER, 0, 0 },
	{ &wide, "select", 23, NEVER, 0, 0 },
	{ &wide, "futex", 202, NEVER, 0, 0 },
	{ &wide, "pause", 34, NEVER, 0, 0 },
	{ &wide, "restart_syscall", 219, NEVER, 0, 0 },
	{ &wide, "close", 3, NEVER, 0, 0 },
	{ &wide, "x32 read", 0x40000000, NEVER, 0, 0 },
	{ &wide, "no call", -1, NEVER, 0, 0 },
	{ &wide, "an interrupt's vector", -37, NEVER, 0, 0 },

	{ &narrow, "read", 3, NOT_STRICT, 0, 0 },
	{ &narrow, "write", 4, NOT_STRICT, 0, 0 },
	{ &narrow, "readv", 145, NOT_STRICT, 0, 0 },
	{ &narrow, "writev", 146, NOT_STRICT, 0, 0 },
	{ &narrow, "socketcall", 102, NOT_STRICT, 0, 10 },
	{ &narrow, "recvmmsg", 337, NOT_STRICT, 0, 0 },
	{ &narrow, "sendmmsg", 345, NOT_STRICT, 0, 0 },
	{ &narrow, "connect", 362, NOT_STRICT, 0, 0 },
	{ &narrow, "accept4", 364, NOT_STRICT, 0, 0 },
	{ &narrow, "sendto", 369, NOT_STRICT, 0, 0 },
	{ &narrow, "sendmsg", 370, NOT_STRICT, 0, 0 },
	{ &narrow, "recvfrom", 371, NOT_STRICT, 0, 0 },
	{ &narrow, "recvmsg", 372, NOT_STRICT, 0, 0 },
	{ &narrow, "recvmmsg_time64", 417, NOT_STRICT, 0, 0 },
	{ &narrow, "ipc, semop", 117, ALWAYS, 0, 1 },
	{ &narrow, "ipc, semop of version 1", 117, ALWAYS, 0, 0x10001 },
	{ &narrow, "ipc, semtimedop for ever", 117, ALWAYS, 0, 4 },
	{ &narrow, "ipc, msgrcv", 117, NEVER, 0, 12 },
	{ &narrow, "ipc, msgsnd", 117, NEVER, 0, 11 },
	{ &narrow, "ipc, semget", 117, NEVER, 0, 2 },
	{ &narrow, "rt_sigtimedwait", 177, ALWAYS, 2, 0 },
	{ &narrow, "rt_sigtimedwait, timeout", 177, NOT_STRICT, 2, 0xffffd000 },
	{ &narrow, "rt_sigtimedwait_time64", 421, NOT_STRICT, 2, 4 },
	{ &narrow, "io_getevents", 247, ALWAYS, 4, 0 },
	{ &narrow, "io_getevents, timeout", 247, NOT_STRICT, 4, 4 },
	{ &narrow, "io_pgetevents, timeout", 385, NOT_STRICT, 4, 4 },
	{ &narrow, "io_pgetevents_time64, timeout", 416, NOT_STRICT, 4, 4 },
	{ &narrow, "semtimedop_time64", 420, ALWAYS, 3, 0 },
	{ &narrow, "semtimedop_time64, timeout", 420, NOT_STRICT, 3, 4 },
	{ &narrow, "epoll_wait, for ever", 256, ALWAYS, 3, -1 },
	{ &narrow, "epoll_wait, timeout", 256, NOT_STRICT, 3, 100 },
	{ &narrow, "epoll_pwait, for ever", 319, ALWAYS, 3, -1 },
	{ &narrow, "epoll_pwait2, timeout", 441, NOT_STRICT, 3, 4 },
	{ &narrow, "io_uring_enter", 426, ALWAYS, 3, 0 },
	{ &narrow, "nanosleep", 162, NEVER, 0, 0 },
	{ &narrow, "poll", 168, NEVER, 0, 0 },
	{ &narrow, "no call", -1, NEVER, 0, 0 },
};

static void put(uint8_t *gregs, size_t at, size_t size, int64_t value)
{
	memcpy(gregs + at, &value, size); // little-endian
}

static void make_thread(struct thread *t, const struct row *row, int64_t result)
{
	const struct slots *slots = row->slots;

	*t = (struct thread){ .state = THREAD_STOPPED };
	memset(t->gregs, 0x5a, sizeof(t->gregs));
	for (size_t i = 0; i < 6; i++)
		put(t->gregs, slots->args[i], slots->word, 0);
	put(t->gregs, slots->args[row->arg], slots->word, row->value);
	put(t->gregs, slots->nr, slots->word, row->nr);
	put(t->gregs, slots->ret, slots->word, result);
	memcpy(t->gregs_out, t->gregs, sizeof(t->gregs));
}

static void run(struct thread *threads, size_t n, const struct arch *arch, bool strict)
{
	struct target target = { .arch = arch };
	struct freeze freeze = { .target = &target,
				 .threads = threads,
				 .n_threads = n,
				 .strict_timeouts = strict };

	restart_calls(&freeze);
}

static void check_row(const struct row *row, bool strict)
{
	const bool restarts = row->restarts == ALWAYS || (row->restarts == NOT_STRICT && !strict);
	struct thread t, before;

	make_thread(&t, row, -EINTR);
	before = t;
	run(&t, 1, row->slots->arch, strict);
	if (t.changed != restarts)
		fprintf(stderr, "%s %s\n", row->slots->arch->name, row->call);
	CHECK_EQ(t.changed, restarts);
	if (restarts) // ERESTARTNOHAND, and nothing else
		put(before.gregs_out, row->slots->ret, row->slots->word, -514);
	CHECK(memcmp(t.gregs_out, before.gregs_out, sizeof(t.gregs_out)) == 0);
	CHECK(memcmp(t.gregs, before.gregs, sizeof(t.gregs)) == 0);
}

static void table(void)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		check_row(&rows[i], false);
		check_row(&rows[i], true);
	}
}

// ipc(2) has the operation in its first argument and the timeout of semtimedop in its sixth.
static void ipc_with_timeout(void)
{
	const struct row row = { &narrow, "ipc", 117, NEVER, 0, 4 };
	struct thread t;

	make_thread(&t, &row, -EINTR);
	put(t.gregs, narrow.args[5], 4, 0xffffd000);
	run(&t, 1, &arch_i386, true);
	CHECK(!t.changed);
	run(&t, 1, &arch_i386, false);
	CHECK(t.changed);
	// That register means nothing to semop.
	make_thread(&t, &(struct row){ &narrow, "ipc", 117, NEVER, 0, 1 }, -EINTR);
	put(t.gregs, narrow.args[5], 4, 0xffffd000);
	run(&t, 1, &arch_i386, true);
	CHECK(t.changed);
}

// Only a call that failed with EINTR; another result stays, and so does the kernel's own restart.
static void other_results(void)
{
	static const int64_t results[] = { 0, 1, 4, -1, -3, -5, -11, -512, -513, -514, -516,
					   0xfffffffc, INT64_MIN };
	const struct row row = { &wide, "epoll_wait", 232, NEVER, 3, -1 };
	struct thread t;

	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		make_thread(&t, &row, results[i]);
		run(&t, 1, &arch_x86_64, false);
		CHECK(!t.changed);
		CHECK(memcmp(t.gregs, t.gregs_out, sizeof(t.gregs)) == 0);
	}
}

// A thread that runs its own code: orig_ax is negative, whatever ax has.
static void user_mode(void)
{
	static const struct slots *const both[] = { &wide, &narrow };
	struct thread t;

	for (size_t i = 0; i < 2; i++) {
		make_thread(&t, &(struct row){ both[i], "", -1, NEVER, 3, -1 }, -EINTR);
		run(&t, 1, both[i]->arch, false);
		CHECK(!t.changed);
		CHECK(memcmp(t.gregs, t.gregs_out, sizeof(t.gregs)) == 0);
	}
}

static void only_stopped_threads(void)
{
	const struct row row = { &wide, "epoll_wait", 232, NEVER, 3, -1 };
	struct thread threads[5];

	for (size_t i = 0; i < 5; i++)
		make_thread(&threads[i], &row, -EINTR);
	threads[0].state = THREAD_SEIZED;
	threads[1].state = THREAD_MISSED;
	threads[3].state = THREAD_GONE;
	run(threads, 5, &arch_x86_64, false);
	CHECK(!threads[0].changed && !threads[1].changed && !threads[3].changed);
	CHECK(threads[2].changed && threads[4].changed);
	run(NULL, 0, &arch_x86_64, false);
}

static void find_arch(void)
{
	CHECK(arch_find(216, 2) == &arch_x86_64);
	CHECK(arch_find(68, 1) == &arch_i386);
	CHECK(arch_find(72, 1) == &arch_arm);
	CHECK(arch_find(272, 2) == &arch_aarch64);
	CHECK(!arch_find(216, 1)); // x32
	CHECK(!arch_find(68, 2));  // a 64-bit process, by a 32-bit dumper
	CHECK(!arch_find(72, 2));
	CHECK(!arch_find(0, 0));
	// The executable could not be read.
	CHECK(arch_find(216, 0) == &arch_x86_64);
	CHECK(arch_find(68, 0) == &arch_i386);
	CHECK(arch_find(72, 0) == &arch_arm);
	CHECK(arch_find(272, 0) == &arch_aarch64);
	CHECK(arch_of_elf(2, 62) == &arch_x86_64);
	CHECK(arch_of_elf(1, 3) == &arch_i386);
	CHECK(arch_of_elf(1, 40) == &arch_arm);
	CHECK(arch_of_elf(2, 183) == &arch_aarch64);
	CHECK(!arch_of_elf(1, 62)); // x32
}

static void register_words(void)
{
	uint8_t gregs[16];

	memset(gregs, 0xff, sizeof(gregs));
	arch_set(&arch_i386, gregs, 4, 0x123456789abcdef0);
	CHECK_EQ(arch_get(&arch_i386, gregs, 4), 0x9abcdef0);
	CHECK_EQ(arch_get_signed(&arch_i386, gregs, 4), (int32_t)0x9abcdef0);
	CHECK_EQ(arch_get(&arch_i386, gregs, 8), 0xffffffff);
	CHECK_EQ(arch_get_signed(&arch_i386, gregs, 8), -1);
	arch_set(&arch_x86_64, gregs, 8, 0x123456789abcdef0);
	CHECK_EQ(arch_get(&arch_x86_64, gregs, 8), 0x123456789abcdef0);
	CHECK_EQ(arch_get(&arch_x86_64, gregs, 0), 0x9abcdef0ffffffff);
}

static const struct check_case cases[] = {
	CASE(table),
	CASE(ipc_with_timeout),
	CASE(other_results),
	CASE(user_mode),
	CASE(only_stopped_threads),
	CASE(find_arch),
	CASE(register_words),
};

CHECK_MAIN(cases)
