/* SPDX-License-Identifier: BSD-3-Clause */
// A program that dumps itself in one of the situations that programs get into, and looks whether it
// can tell afterwards that it did.
//
// self_dump SITUATION METHOD OUTPUT CORE REPORT
//
// OUTPUT is file, pipe or memory, or stdout for exit-during-dump; the core ends up in the file CORE anyway. REPORT gets lines
// "name value…" with what the core must show, and with what was noticed ("trouble …").
#include "self_dump.h"

#define SMALL_STACK (32u << 10)
#define ALT_STACK   (16u << 10)
#define BIG	    (24u << 20)
#define LARGE	    (66u << 20) // has its place in the core before the stop
#define ROUNDS	    50

static struct look before, after;

// How the situation gets to the call; the program looks at itself before and after.
static void call_between_looks(void (*how)(void))
{
	look(&before);
	how();
	close_output();
	look(&after);
	compare(&before, &after);
}

static void handle(int signal)
{
	(void)signal;
	call_library();
}

static void call_in_handler(void)
{
	raise(SIGUSR1);
}

static void in_handler(void)
{
	const struct sigaction action = { .sa_handler = handle };

	sigaction(SIGUSR1, &action, NULL);
	call_between_looks(call_in_handler);
}

static void on_alternate_stack(void)
{
	const struct sigaction action = { .sa_handler = handle, .sa_flags = SA_ONSTACK };
	// Below it lies a page that ends the program when the stack is too small.
	char *const guarded = mmap(NULL, 4096 + ALT_STACK, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const stack_t stack = { .ss_sp = guarded + 4096, .ss_size = ALT_STACK };

	must(guarded != MAP_FAILED && mprotect(guarded, 4096, PROT_NONE) == 0, "make a stack");
	must(sigaltstack(&stack, NULL) == 0, "use a stack");
	sigaction(SIGUSR1, &action, NULL);
	call_between_looks(call_in_handler);
	if (call.canary - (uintptr_t)stack.ss_sp >= ALT_STACK)
		say("trouble the handler did not run on its stack\n");
}

// -- from another thread; it lives before the first look and after the second ----------------------

static sem_t thread_begin, thread_done;

static void *call_on_thread(void *arg)
{
	(void)arg;
	sem_wait(&thread_begin);
	call_library();
	sem_post(&thread_done);
	for (;;)
		pause();
	return NULL;
}

static void let_thread_call(void)
{
	sem_post(&thread_begin);
	while (sem_wait(&thread_done) < 0)
		continue;
}

static void on_thread(size_t stack)
{
	start(call_on_thread, stack);
	call_between_looks(let_thread_call);
}

// -- two at the same time ------------------------------------------------------------------------

static pthread_barrier_t barrier;

static void *call_again_and_again(void *arg)
{
	struct coresnap_options options = { .size = sizeof(options),
					    .method = args.method,
					    .stop_timeout_ns = STOP_NS };
	const struct coresnap_output to = { .kind = CORESNAP_TO_MEMORY };

	for (int i = 0; i < ROUNDS / 5; i++) {
		struct coresnap_result result = { .size = sizeof(result) };
		struct coresnap_error error;

		pthread_barrier_wait(&barrier);
		if (coresnap_dump_self(&to, &options, &result, &error) != CORESNAP_OK)
			say("trouble the other thread's dump failed: %s\n", error.what);
		else
			close(result.memory_fd);
	}
	pthread_barrier_wait(&barrier);
	return arg;
}

static void two_threads(void)
{
	struct coresnap_options options = { .size = sizeof(options),
					    .method = args.method,
					    .stop_timeout_ns = STOP_NS };
	const struct coresnap_output to = { .kind = CORESNAP_TO_MEMORY };

	pthread_barrier_init(&barrier, NULL, 2);
	const pthread_t other = start(call_again_and_again, 1 << 16);
	for (int i = 0; i < ROUNDS / 5; i++) {
		struct coresnap_result result = { .size = sizeof(result) };

		pthread_barrier_wait(&barrier);
		if (coresnap_dump_self(&to, &options, &result, NULL) != CORESNAP_OK)
			say("trouble one of two dumps failed\n");
		else
			close(result.memory_fd);
	}
	pthread_barrier_wait(&barrier);
	// Or it may still be on its way out in the core, and not be among the threads listed.
	must(pthread_join(other, NULL) == 0, "see the other thread end");
	call_library();
	close_output();
}

// -- a handler that interrupts a dump ------------------------------------------------------------

static struct coresnap_error nested_error;
static int nested_code = -1;

static void dump_in_dump(int signal)
{
	const struct coresnap_output to = { .kind = CORESNAP_TO_MEMORY };

	(void)signal;
	nested_code = coresnap_dump_self(&to, NULL, NULL, &nested_error);
	sem_post(&drain_begin);
}

static int interrupt_dump(const struct coresnap_progress *progress, void *arg)
{
	(void)progress;
	(void)arg;
	if (nested_code < 0)
		raise(SIGUSR1);
	return 0;
}

static void nested(void)
{
	const struct sigaction action = { .sa_handler = dump_in_dump };

	sigaction(SIGUSR1, &action, NULL);
	call.options.progress = interrupt_dump;
	call_between_looks(call_library);
	say("nested %d %d\n", nested_code, nested_error.os_errno);
}

// -- the program's allocator ---------------------------------------------------------------------

static volatile long hammered[4];

static void *hammer(void *arg)
{
	static int next;
	const int mine = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);

	for (;;) {
		// Above and below the size from which malloc maps memory.
		void *small = malloc(24), *medium = malloc(5000), *large = malloc(200 << 10);

		free(medium);
		free(small);
		free(large);
		hammered[mine]++;
	}
	return arg;
}

static void busy_malloc(void)
{
	struct coresnap_options options = { .size = sizeof(options),
					    .method = args.method,
					    .stop_timeout_ns = STOP_NS };
	const struct coresnap_output to = { .kind = CORESNAP_TO_FD,
					    .fd = open("/dev/null", O_WRONLY | O_CLOEXEC) };

	for (int i = 0; i < 4; i++)
		start(hammer, 1 << 16);
	for (int i = 0; i < 4; i++)
		while (!hammered[i])
			sched_yield();
	for (int i = 0; i < ROUNDS; i++) {
		struct coresnap_error error;

		if (coresnap_dump_self(&to, &options, NULL, &error) != CORESNAP_OK)
			say("trouble dump %d failed: %s\n", i, error.what);
	}
	call_library();
	close_output();
}

// -- children ------------------------------------------------------------------------------------

static void count_sigchld(int signal)
{
	(void)signal;
	sigchld_count++;
}

static void with_sigchld(const struct sigaction *action)
{
	sigaction(SIGCHLD, action, NULL);
	call_between_looks(call_library);
}

static void in_child(void)
{
	const pid_t child = fork();
	int status;

	if (child == 0) {
		start_company();
		open_output(false);
		call_between_looks(call_library);
		finish_output();
		see_company_run();
		say_threads();
		say_result();
		look_for_children();
		finish();
	}
	must(waitpid(child, &status, 0) == child && status == 0, "wait for the child");
	_exit(0);
}

static pid_t forked;

static int fork_in_dump(const struct coresnap_progress *progress, void *arg)
{
	(void)progress;
	(void)arg;
	if (forked)
		return 0;
	forked = fork();
	if (forked == 0) {
		const struct coresnap_output to = { .kind = CORESNAP_TO_MEMORY };
		struct coresnap_result result = { .size = sizeof(result) };

		_exit(coresnap_dump_self(&to, NULL, &result, NULL));
	}
	sem_post(&drain_begin);
	return 0;
}

// The child of a fork in the middle of a dump has a lock that nobody will release.
static void fork_during_dump(void)
{
	int status = -1;

	has_child = true;
	call.options.progress = fork_in_dump;
	call_library();
	if (waitpid(forked, &status, 0) != forked || status != 0)
		say("trouble the child could not dump itself: 0x%x\n", status);
}

// -- the end of the program -----------------------------------------------------------------------

static int exit_in_dump(const struct coresnap_progress *progress, void *arg)
{
	(void)arg;
	if (progress->total == 0)
		return 0;
	call.tid = (int)syscall(SYS_gettid);
	say_threads();
	say("code 0\n");
	finish();
}

// Somebody else reads the core from the standard output.
static void exit_during_dump(void)
{
	call.options.progress = exit_in_dump;
	call.to = (struct coresnap_output){ .kind = CORESNAP_TO_FD, .fd = 1 };
	call_library();
	must(false, "exit during the dump");
}

// -- the rest ------------------------------------------------------------------------------------

static void without_standard_files(void)
{
	close(0);
	close(1);
	close(2);
	call_between_looks(call_library);
}

static void say_memory(const char *name, uint8_t *address, size_t size)
{
	for (size_t i = 0; i < size; i++)
		address[i] = (uint8_t)(i * 7 + i / 256);
	say("memory %s %llu %zu\n", name, (unsigned long long)(uintptr_t)address, size);
}

static uint8_t *map(int flags, size_t size)
{
	uint8_t *const address = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS,
				      -1, 0);

	must(address != MAP_FAILED, "map memory");
	return address;
}

static bool is(const char *situation)
{
	return strcmp(args.situation, situation) == 0;
}

static void run(void)
{
	if (is("main") || is("big") || is("large"))
		call_between_looks(call_library);
	else if (is("thread"))
		on_thread(1 << 20);
	else if (is("small-stack"))
		on_thread(SMALL_STACK);
	else if (is("handler"))
		in_handler();
	else if (is("alternate-stack"))
		on_alternate_stack();
	else if (is("two-threads"))
		two_threads();
	else if (is("nested"))
		nested();
	else if (is("malloc"))
		busy_malloc();
	else if (is("sigchld-ignored"))
		with_sigchld(&(struct sigaction){ .sa_handler = SIG_IGN });
	else if (is("sigchld-nocldwait"))
		with_sigchld(&(struct sigaction){ .sa_handler = count_sigchld,
						  .sa_flags = SA_NOCLDWAIT });
	else if (is("sigchld-handled"))
		with_sigchld(&(struct sigaction){ .sa_handler = count_sigchld });
	else if (is("fork-during-dump"))
		fork_during_dump();
	else if (is("no-standard-files"))
		without_standard_files();
	else
		must(false, "find that situation");
}

static int method_of(const char *name)
{
	for (int method = CORESNAP_METHOD_AUTO; method <= CORESNAP_METHOD_PRECOPY; method++)
		if (strcmp(name, coresnap_method_name(method)) == 0)
			return method;
	return -1;
}

int main(int argc, char **argv)
{
	static uint8_t private[3 * 4096];
	extern char __executable_start, etext;

	if (argc != 6)
		return 2;
	args = (struct arguments){ argv[1], argv[3], argv[4], argv[5], method_of(argv[2]) };
	call.options.method = args.method;
	call.options.stop_timeout_ns = STOP_NS;
	say_memory("private", private, sizeof(private));
	say_memory("shared", map(MAP_SHARED, 3 * 4096), 3 * 4096);
	if (is("big"))
		say_memory("big", map(MAP_PRIVATE, BIG), BIG);
	if (is("large"))
		say_memory("large", map(MAP_PRIVATE, LARGE), LARGE);
	say("text %llu %llu\n", (unsigned long long)(uintptr_t)&__executable_start,
	    (unsigned long long)(uintptr_t)&etext);
	if (is("forked-child"))
		in_child();
	start_company();
	if (is("exit-during-dump"))
		exit_during_dump();
	open_output(is("nested") || is("fork-during-dump"));
	run();
	finish_output();
	see_company_run();
	say_threads();
	say_result();
	if (!is("fork-during-dump"))
		look_for_children();
	finish();
}
