/* SPDX-License-Identifier: BSD-3-Clause */
// A process to dump that makes it hard in one way, which argv[1] names (the table `modes` at the end).
//
// It says "ready" first, and then answers each line of its standard input by a line: "ping" by
// "pong", "check" by "ok" or "damaged", "rounds" by how far a thread of it has come; "touch" makes
// it write to the memory that it has filled, "go on" ends what it was held up by. The answering
// needs hardly any stack, and no system calls but read and write.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "hard_filters.h"

#define PAGE       4096
#define CANARY     65536
#define TINY_STACK 512

// include/uapi/linux/userfaultfd.h of Linux 5.11
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static char *name_of_this; // argv[0]
static volatile unsigned int rounds;
static volatile int failures;

// -- canaries: bytes that nobody may change --------------------------------------------------------

static struct {
	const uint8_t *at;
	size_t size;
} canaries[64];
static size_t n_canaries;

static void *guard(void *at, size_t size)
{
	memset(at, 0x5a, size);
	canaries[n_canaries].at = at;
	canaries[n_canaries++].size = size;
	return at;
}

static volatile uint8_t *filled;
static size_t filled_size;
static int filled_advice = MADV_NOHUGEPAGE;

static int damaged(void)
{
	for (size_t i = 0; i < n_canaries; i++)
		for (size_t at = 0; at < canaries[i].size; at++)
			if (canaries[i].at[at] != 0x5a)
				return 1;
	return failures;
}

static uint8_t *map(size_t size)
{
	void *const at =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		_exit(3);
	return at;
}

// A stack with canaries below and above.
static uint8_t *map_stack(size_t size)
{
	uint8_t *const at = map(CANARY + size + PAGE);

	guard(at, CANARY);
	guard(at + CANARY + size, PAGE);
	return at + CANARY;
}

// -- answers ---------------------------------------------------------------------------------------

static void say(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		_exit(4);
}

static void say_number(unsigned int number)
{
	static char text[16];
	char *at = text + sizeof(text) - 1;

	*--at = '\n';
	do
		*--at = (char)('0' + number % 10);
	while (number /= 10);
	say(at);
}

// One line; false when it was "go on".
static int answer(void)
{
	static char line[64];
	const ssize_t n = read(0, line, sizeof(line));

	if (n <= 0)
		syscall(SYS_exit, 0); // all that strict seccomp allows
	switch (line[0]) {
	case 'p':
		say("pong\n");
		return 1;
	case 'c':
		say(damaged() ? "damaged\n" : "ok\n");
		return 1;
	case 'r':
		say_number(rounds);
		return 1;
	case 't':
		// Soon to some of each huge page, so that none is given back as a whole.
		for (size_t i = 0; i < filled_size / PAGE; i++)
			filled[i * 521 % (filled_size / PAGE) * PAGE] = 0x5a;
		say("ok\n");
		return 1;
	default:
		say("ok\n");
		return 0;
	}
}

static void serve(void)
{
	for (;;)
		answer();
}

// -- stacks ----------------------------------------------------------------------------------------

static ucontext_t back, coroutine;

static void run_on_tiny_stack(const char *more)
{
	(void)more;
	uint8_t *const stack = map_stack(TINY_STACK);

	getcontext(&coroutine);
	coroutine.uc_stack.ss_sp = stack;
	coroutine.uc_stack.ss_size = TINY_STACK;
	coroutine.uc_link = &back;
	makecontext(&coroutine, serve, 0);
	say("ready\n");
	swapcontext(&back, &coroutine);
}

// The same, when all of the main stack is in use that the kernel maps beforehand.
static void run_below_deep_stack(const char *more)
{
	uint8_t used[126 << 10];

	guard(used, sizeof(used));
	run_on_tiny_stack(more);
}

static void handler(int number)
{
	(void)number;
	serve();
}

static void run_on_alternate_stack(const char *more)
{
	(void)more;
	const struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
	long least = sysconf(_SC_MINSIGSTKSZ);

	if (least < MINSIGSTKSZ)
		least = MINSIGSTKSZ;
	// What the kernel needs, and room for three small functions.
	const size_t size = ((size_t)least + TINY_STACK + 63) & ~(size_t)63;
	const stack_t stack = { .ss_sp = map_stack(size), .ss_size = size };

	if (sigaltstack(&stack, NULL) < 0 || sigaction(SIGUSR1, &action, NULL) < 0)
		_exit(5);
	say("ready\n");
	raise(SIGUSR1);
}

// -- threads ---------------------------------------------------------------------------------------

static int wake[2]; // nobody writes to it

static void *wait_for_ever(void *arg)
{
	char byte;

	// Nothing comes, and no error either.
	if (syscall(SYS_read, wake[0], &byte, 1) != 0)
		failures++;
	return arg;
}

static void start(void *(*run)(void *), void *stack, size_t size)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	if (stack)
		pthread_attr_setstack(&attr, stack, size);
	else
		pthread_attr_setstacksize(&attr, size);
	if (pthread_create(&thread, &attr, run, NULL) != 0)
		_exit(6);
}

static void have_small_stacks(const char *more)
{
	(void)more;
	const size_t size = ((size_t)PTHREAD_STACK_MIN + PAGE - 1) & ~(size_t)(PAGE - 1);

	for (int i = 0; i < 16; i++)
		start(wait_for_ever, map_stack(size), size);
}

static void have_threads(const char *count)
{
	for (int i = atoi(count); i > 0; i--)
		start(wait_for_ever, NULL, 131072);
}

static void *end_at_once(void *arg)
{
	return arg;
}

static void *make_threads(void *arg)
{
	for (;; rounds++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, end_at_once, NULL) != 0 ||
		    pthread_join(thread, NULL) != 0)
			failures++;
	}
	return arg;
}

static void *serve_in_thread(void *arg)
{
	say("ready\n");
	serve();
	return arg;
}

static void leave_leader(const char *more)
{
	prctl(PR_SET_DUMPABLE, strcmp(more, "undumpable") != 0, 0, 0, 0);
	start(serve_in_thread, NULL, 131072);
	pthread_exit(NULL);
}

// -- memory ----------------------------------------------------------------------------------------

static void *map_and_unmap(void *arg)
{
	for (;; rounds++) {
		uint8_t *const at = map(64 * PAGE);

		memset(at, 0x5a, 8 * PAGE);
		munmap(at + 16 * PAGE, 16 * PAGE);
		if (at[7 * PAGE] != 0x5a)
			failures++;
		munmap(at, 64 * PAGE);
	}
	return arg;
}

static void fill(const char *mebibytes)
{
	const size_t size = (size_t)atoi(mebibytes) << 20;

	uint8_t *const at = map(size);

	madvise(at, size, filled_advice);
	filled = guard(at, size);
	filled_size = size;
}

// Memory that is promised, and not used.
static void reserve(const char *mebibytes)
{
	map((size_t)atoi(mebibytes) << 20);
}

// As "fill", but not before it is asked.
static void fill_later(const char *mebibytes)
{
	say("ready\n");
	while (answer())
		;
	fill(mebibytes);
}

static void fill_huge_pages_later(const char *mebibytes)
{
	filled_advice = MADV_HUGEPAGE;
	fill_later(mebibytes);
}

static void have_huge_page(const char *more)
{
	(void)more;
	void *const at = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (at == MAP_FAILED)
		_exit(7);
	filled = guard(at, 2 << 20);
	filled_size = 2 << 20;
}

// Memory whose pages it would supply itself, were it asked; and a round if the kernel lets it.
static void watch_memory(const char *more)
{
	const int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range = { .start = (uintptr_t)map(16 * PAGE),
						    .len = 16 * PAGE },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };

	(void)more;
	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &range) == 0)
		rounds = 1;
}

static void be_undumpable(const char *more)
{
	(void)more;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

#include "hard_names.h"

// -- held up ---------------------------------------------------------------------------------------

// The child answers for its parent, which waits for it.
static void wait_in_vfork(const char *more)
{
	const pid_t child = vfork();

	(void)more;
	if (child == 0) {
		say("ready\n");
		while (answer())
			;
		_exit(0);
	}
	if (child < 0)
		failures++;
}

// The child says that it runs, and waits for the other thread of its parent.
static int held[2];
static volatile int in_vfork;

static void *hang_in_vfork(void *arg)
{
	const pid_t child = vfork();
	char byte;

	if (child == 0) {
		close(held[1]);
		in_vfork = 1;
		_exit(read(held[0], &byte, 1) != 0);
	}
	if (child < 0)
		failures++;
	rounds++;
	return arg;
}

static void have_vfork(const char *more)
{
	(void)more;
	if (pipe(held) < 0)
		_exit(12);
	start(hang_in_vfork, NULL, 131072);
	while (!in_vfork)
		poll(NULL, 0, 1);
	say("ready\n");
	while (answer())
		;
	close(held[1]);
}

#include "hard_slow.h"

// Answers at most one line, and is another process image again.
static void become_itself(char **argv)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };

	if (!argv[2]) {
		argv = (char *[]){ argv[0], argv[1], "again", NULL };
		say("ready\n");
	}
	if (poll(&input, 1, 0) > 0)
		answer();
	execv("/proc/self/exe", argv);
	_exit(13);
}

// --------------------------------------------------------------------------------------------------

static void have_making_thread(const char *more)
{
	(void)more;
	start(make_threads, NULL, 131072);
}

static void have_mapping_thread(const char *more)
{
	(void)more;
	start(map_and_unmap, NULL, 131072);
}

static const struct {
	const char *name;
	void (*run)(const char *more); // argv[2]
	int says_ready;
} modes[] = {
	{ "alternate-stack", run_on_alternate_stack, 1 },
	{ "confusing", confuse, 0 },
	{ "coroutine", run_on_tiny_stack, 1 },
	{ "coroutine-deep", run_below_deep_stack, 1 },
	{ "dead-leader", leave_leader, 1 },
	{ "exiting", have_making_thread, 0 },
	{ "fill", fill, 0 },
	{ "huge-page", have_huge_page, 0 },
	{ "later", fill_later, 1 },
	{ "later-huge", fill_huge_pages_later, 1 },
	{ "mapping", have_mapping_thread, 0 },
	{ "no-fork", kill_forks, 0 },
	{ "reserve", reserve, 0 },
	{ "slow", wait_for_slow_file, 1 },
	{ "slow-thread", have_slow_thread, 0 },
	{ "slow-threads", have_slow_threads, 0 },
	{ "small-stacks", have_small_stacks, 0 },
	{ "strict", be_strict, 0 },
	{ "threads", have_threads, 0 },
	{ "undumpable", be_undumpable, 0 },
	{ "userfault", watch_memory, 0 },
	{ "vfork", wait_in_vfork, 1 },
	{ "vfork-thread", have_vfork, 1 },
};

int main(int argc, char **argv)
{
	const char *const mode = argc > 1 ? argv[1] : "plain";
	int says_ready = 0;

	name_of_this = argv[0];
	if (strcmp(mode, "execs") == 0)
		become_itself(argv);
	if (strcmp(mode, "filtered") == 0)
		begin_filtered(argv);
	if (pipe(wake) < 0)
		return 1;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(mode, modes[i].name) != 0)
			continue;
		says_ready = modes[i].says_ready;
		modes[i].run(argc > 2 ? argv[2] : "");
	}
	if (!says_ready)
		say("ready\n");
	serve();
}
