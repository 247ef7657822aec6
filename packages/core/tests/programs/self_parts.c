/* SPDX-License-Identifier: BSD-3-Clause */
// What the situations of self_dump.c have in common: the call, the looks before and after it, the
// other threads, the output, the report.
#include "self_dump.h"

struct arguments args;
struct call call;
int pattern_tid, pattern_ready;
volatile long watch_rounds;
volatile sig_atomic_t sigchld_count;
volatile bool has_child;
sem_t drain_begin;
static volatile int wait_surprises;
static sem_t drain_done;

static char text[1 << 16];
static size_t length;

void say(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	const int n = vsnprintf(text + length, sizeof(text) - length, format, list);
	va_end(list);
	if (n > 0 && (size_t)n < sizeof(text) - length)
		length += (size_t)n;
}

void must(bool good, const char *what)
{
	if (good)
		return;
	say("trouble cannot %s: %m\n", what);
	finish();
}

void finish(void)
{
	const int fd = open(args.report, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, text, length) != (ssize_t)length)
		_exit(111);
	_exit(0);
}

// The library's call itself, from wherever the situation wants it.
void call_library(void)
{
	volatile uint64_t canary = CANARY;
	sigset_t before = { 0 }, after = { 0 };
	struct coresnap_options options = call.options;

	options.size = sizeof(options);
	call.result.size = sizeof(call.result);
	call.canary = (uintptr_t)&canary;
	call.tid = (int)syscall(SYS_gettid);
	call.tcb = (uintptr_t)__builtin_thread_pointer();
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	errno = MARK;
	call.code = coresnap_dump_self(&call.to, &options, &call.result, &call.error);
	call.kept_errno = errno == MARK;
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	call.kept_mask = memcmp(&before, &after, sizeof(before)) == 0;
	if (canary != CANARY)
		_exit(112);
}

// -- what a program can see of itself ------------------------------------------------------------

static void look_at_files(struct look *look)
{
	size_t used = 0;

	for (int fd = 0; fd < 256; fd++) {
		char link[32];

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		const ssize_t n = readlink(link, look->files + used, sizeof(look->files) - used - 8);

		if (n < 0)
			continue;
		used += (size_t)n;
		used += (size_t)snprintf(look->files + used, 8, " %d\n", fd);
	}
	look->files[used] = '\0';
}

// Without heap and main stack, which grow.
static void look_at_maps(struct look *look)
{
	static char all[1 << 16];
	const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n;

	while ((n = read(fd, all + used, sizeof(all) - 1 - used)) > 0)
		used += (size_t)n;
	close(fd);
	all[used] = '\0';
	look->maps[0] = '\0';
	for (char *line = strtok(all, "\n"); line; line = strtok(NULL, "\n")) {
		if (strstr(line, "[heap]") || strstr(line, "[stack]"))
			continue;
		strcat(look->maps, line);
		strcat(look->maps, "\n");
	}
}

void look(struct look *look)
{
	look_at_files(look);
	look_at_maps(look);
}

void compare(const struct look *before, const struct look *after)
{
	if (strcmp(before->files, after->files) != 0)
		say("trouble descriptors changed:\n%s---\n%s---\n", before->files,
		    after->files);
	if (strcmp(before->maps, after->maps) != 0)
		say("trouble mappings changed: %zu bytes, %zu bytes\n", strlen(before->maps),
		    strlen(after->maps));
}

void look_for_children(void)
{
	int status;

	errno = 0;
	if (waitpid(-1, &status, WNOHANG) != -1 || errno != ECHILD)
		say("trouble wait sees a child\n");
	errno = 0;
	if (waitpid(-1, &status, WNOHANG | __WALL) != -1 || errno != ECHILD)
		say("trouble a child is left\n");
	if (sigchld_count)
		say("trouble %d SIGCHLD\n", (int)sigchld_count);
	if (wait_surprises)
		say("trouble wait saw something %d times\n", (int)wait_surprises);
}

// -- the other threads ---------------------------------------------------------------------------

// Registers with known values; flag is set once they are there.
static void *hold_registers(void *arg)
{
	(void)arg;
	pattern_tid = (int)syscall(SYS_gettid);
#if defined(__x86_64__)
	register long r12 __asm__("r12") = 0x1212121212121212;
	register long r13 __asm__("r13") = 0x1313131313131313;
	register long r14 __asm__("r14") = 0x1414141414141414;
	register long r15 __asm__("r15") = 0x1515151515151515;

	__asm__ volatile("movl $1, %[flag]\n1: movl $34, %%eax\n syscall\n jmp 1b"
			 : [flag] "=m"(pattern_ready)
			 : "b"(0x0b0b0b0b0b0b0b0b), "r"(r12), "r"(r13), "r"(r14), "r"(r15)
			 : "rax", "rcx", "r11", "memory");
#elif defined(__i386__)
	__asm__ volatile("movl $1, %[flag]\n1: movl $29, %%eax\n int $0x80\n jmp 1b"
			 : [flag] "=m"(pattern_ready)
			 : "b"(0x0b0b0b0b), "S"(0x51515151), "D"(0xd1d1d1d1)
			 : "eax", "memory");
#elif defined(__arm__)
	__asm__ volatile("ldr r4, =0x04040404\n\tldr r5, =0x05050505\n\tldr r6, =0x06060606\n\t"
			 "ldr r8, =0x08080808\n\tldr r9, =0x09090909\n\tldr r10, =0x10101010\n\t"
			 "mov r1, #1\n\tstr r1, [%[flag]]\n"
			 "1: mov r7, #29\n\tsvc 0\n\tb 1b\n\t.ltorg"
			 :
			 : [flag] "r"(&pattern_ready)
			 : "r1", "r4", "r5", "r6", "r8", "r9", "r10", "memory");
#elif defined(__aarch64__)
	// There is no pause(2): this is ppoll(2) of nothing without a timeout.
	__asm__ volatile(".irp n, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28\n\t"
			 "ldr x\\n, =0x0101010101010101 * (\\n / 10 * 16 + \\n %% 10)\n\t"
			 ".endr\n\t"
			 "mov w1, #1\n\tstr w1, [%[flag]]\n"
			 "1: mov x0, #0\n\tmov x1, #0\n\tmov x2, #0\n\tmov x3, #0\n\t"
			 "mov x8, #73\n\tsvc 0\n\tb 1b\n\t.ltorg"
			 :
			 : [flag] "r"(&pattern_ready)
			 : "x0", "x1", "x2", "x3", "x8", "x19", "x20", "x21", "x22", "x23", "x24",
			   "x25", "x26", "x27", "x28", "memory");
#else
#error "which registers survive a call that waits, here?"
#endif
	__builtin_unreachable();
}

// Lives through the dump, and looks all the time for children that are none of the program's.
static void *watch(void *arg)
{
	(void)arg;
	for (;;) {
		int status;

		if (!has_child && (waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED) != -1 ||
				   errno != ECHILD))
			wait_surprises++;
		watch_rounds++;
		sched_yield();
	}
	return NULL;
}

static void *sleep_for_ever(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

static void *wait_for_ever(void *arg)
{
	sem_t never;

	(void)arg;
	sem_init(&never, 0, 0);
	for (;;)
		sem_wait(&never);
	return NULL;
}

pthread_t start(void *(*body)(void *), size_t stack)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack);
	must(pthread_create(&thread, &attr, body, NULL) == 0, "make a thread");
	return thread;
}

void start_company(void)
{
	start(hold_registers, 1 << 16);
	start(sleep_for_ever, 1 << 16);
	start(wait_for_ever, 1 << 16);
	start(watch, 1 << 16);
	while (!pattern_ready || !watch_rounds)
		sched_yield();
}

// The watcher must go on after the dump.
void see_company_run(void)
{
	const long rounds = watch_rounds;

	while (watch_rounds < rounds + 2)
		sched_yield();
}

void say_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *entry;

	say("threads");
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			say(" %s", entry->d_name);
	say("\n");
	closedir(dir);
}

// -- where the core goes -------------------------------------------------------------------------

static int drain_from, drain_to;

static void *drain(void *arg)
{
	static char buf[1 << 16];
	ssize_t n;

	(void)arg;
	sem_wait(&drain_begin);
	while ((n = read(drain_from, buf, sizeof(buf))) > 0)
		if (write(drain_to, buf, (size_t)n) != n)
			_exit(113);
	sem_post(&drain_done);
	sleep_for_ever(NULL);
	return NULL;
}

static void open_core(void)
{
	drain_to = open(args.core, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	must(drain_to >= 0, "make the core's file");
}

void open_output(bool held)
{
	int fds[2];

	call.to = (struct coresnap_output){ .kind = CORESNAP_TO_PATH, .path = args.core, .fd = -1 };
	if (strcmp(args.output, "file") == 0)
		return;
	open_core();
	if (strcmp(args.output, "memory") == 0) {
		call.to.kind = CORESNAP_TO_MEMORY;
		return;
	}
	must(pipe2(fds, O_CLOEXEC) == 0, "make a pipe");
	drain_from = fds[0];
	call.to.kind = CORESNAP_TO_FD;
	call.to.fd = fds[1];
	if (!held)
		sem_post(&drain_begin);
	start(drain, 1 << 16);
}

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static void save_memory(void)
{
	static char buf[1 << 16];
	const int fd = call.result.memory_fd;
	ssize_t n;

	if ((fcntl(fd, F_GET_SEALS) & SEALS) != SEALS)
		say("trouble seals are 0x%x\n", fcntl(fd, F_GET_SEALS));
	if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC))
		say("trouble the memory file would survive an execve\n");
	lseek(fd, 0, SEEK_SET);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		must(write(drain_to, buf, (size_t)n) == n, "save the core");
	close(fd);
}

// Before the second look: what the dump left on purpose is put away.
void close_output(void)
{
	if (call.to.kind == CORESNAP_TO_MEMORY &&
	    (call.code == CORESNAP_OK || call.code == CORESNAP_E_INCOMPLETE))
		save_memory();
}

void finish_output(void)
{
	if (call.to.kind != CORESNAP_TO_FD)
		return;
	close(call.to.fd);
	sem_wait(&drain_done);
}

void say_result(void)
{
	say("code %d\n", call.code);
	say("error %d %s\n", call.error.os_errno, call.error.what);
	say("method %s\n", coresnap_method_name(call.result.method));
	say("result_threads %u\n", call.result.threads);
	say("refusals %u\n", call.result.n_refusals);
	say("tid %d\n", call.tid);
	say("canary %llu\n", (unsigned long long)call.canary);
	say("tcb %llu\n", (unsigned long long)call.tcb);
	say("pattern_tid %d\n", pattern_tid);
	if (!call.kept_errno)
		say("trouble errno changed\n");
	if (!call.kept_mask)
		say("trouble the signal mask changed\n");
}
