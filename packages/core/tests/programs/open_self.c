/* SPDX-License-Identifier: BSD-3-Clause */
// A program that opens cores of itself for reading, and goes on meanwhile.
//
// open_self SITUATION COMPRESSION CORE
//
// What was read ends up in the file CORE. Standard output gets lines "name value…" with what the core
// must show, and with what was noticed ("trouble …").
#include <coresnap.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIZE     (24u << 20) // far more than a pipe holds
#define AT_ONCE  4
#define MOST     32
#define STOP_NS  60000000000ull
#define PATIENCE 60 // seconds

static unsigned char *memory;
static const char *core;
static int compression;
static struct coresnap_options options;
static struct coresnap_result result = { .size = sizeof(result) };
static struct coresnap_error error;

static void trouble(const char *what, long value)
{
	printf("trouble %s %ld\n", what, value);
}

static void must(bool good, const char *what)
{
	if (good)
		return;
	printf("trouble cannot %s: %s\n", what, strerror(errno));
	exit(1);
}

static int opened(void)
{
	int fd = 77;
	const int code = coresnap_open_self(&fd, &options, &result, &error);

	if (code != CORESNAP_OK)
		printf("trouble code %d: %s\n", code, error.what);
	else if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC))
		trouble("inherited by execve", fd);
	return fd;
}

// Reads to the end; how much there was.
static unsigned long long drain(int fd, const char *to)
{
	static __thread char buffer[1 << 16];
	const int out = to ? open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
	unsigned long long size = 0;
	ssize_t n;

	while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
		if (out >= 0 && write(out, buffer, (size_t)n) != n)
			trouble("write", errno);
		size += (unsigned long long)n;
	}
	if (n < 0)
		trouble("read", errno);
	close(out);
	close(fd);
	return size;
}

// Processes that have this one for a parent and are no zombies.
static unsigned int children(void)
{
	char path[64], line[512];
	DIR *const proc = opendir("/proc");
	const struct dirent *entry;
	unsigned int n = 0;

	while ((entry = readdir(proc))) {
		char state;
		int parent;

		snprintf(path, sizeof(path), "/proc/%.20s/stat", entry->d_name);
		FILE *const stat = fopen(path, "r");

		if (!stat)
			continue;
		const bool read = fgets(line, sizeof(line), stat);

		fclose(stat);
		const char *const end = read ? strrchr(line, ')') : NULL;

		if (end && sscanf(end + 1, " %c %d", &state, &parent) == 2 && state != 'Z' &&
		    parent == getpid())
			n++;
	}
	closedir(proc);
	return n;
}

static unsigned int count_lines(const char *path)
{
	FILE *const file = fopen(path, "r");
	unsigned int n = 0;
	int c;

	while ((c = getc(file)) != EOF)
		n += c == '\n';
	fclose(file);
	return n;
}

static unsigned int count_files(void)
{
	DIR *const files = opendir("/proc/self/fd");
	unsigned int n = 0;

	while (readdir(files))
		n++;
	closedir(files);
	return n;
}

// Until every dumper and its copy have ended; they need some time to notice.
static void wait_gone(void)
{
	const time_t end = time(NULL) + PATIENCE;

	while (children() > 0 && time(NULL) < end)
		sched_yield();
	if (children() > 0)
		trouble("processes left", children());
}

// -- situations ----------------------------------------------------------------------------------

static void whole(void)
{
	const int fd = opened();

	// The core is of the instant of the call.
	memset(memory, 'b', SIZE);
	const unsigned long long size = drain(fd, core);

	if (!compression && size != result.core_size)
		trouble("size", (long)size);
}

static void closed_early(void)
{
	char first[4];
	const int fd = opened();

	if (read(fd, first, sizeof(first)) != sizeof(first))
		trouble("read", errno);
	close(fd);
	wait_gone();
	whole();
}

static int handed_over;

static void *open_and_end(void *arg)
{
	(void)arg;
	handed_over = opened();
	return NULL;
}

static void *use_stack(void *arg)
{
	char many[1 << 16];

	memset(many, 0xa5, sizeof(many));
	return many[17] ? arg : NULL;
}

// The thread that called ends, and what was its stack becomes somebody else's.
static void caller_ends(void)
{
	pthread_t thread;

	must(pthread_create(&thread, NULL, open_and_end, NULL) == 0, "make a thread");
	pthread_join(thread, NULL);
	for (unsigned int i = 0; i < 8; i++) {
		pthread_attr_t attributes;

		pthread_attr_init(&attributes);
		pthread_attr_setstacksize(&attributes, (1 + i) << 24); // the cache keeps 40 MiB
		must(pthread_create(&thread, &attributes, use_stack, NULL) == 0, "make a thread");
		pthread_join(thread, NULL);
	}
	drain(handed_over, core);
}

static void *open_and_drain(void *arg)
{
	(void)arg;
	drain(opened(), NULL);
	return NULL;
}

static void at_once(void)
{
	pthread_t threads[AT_ONCE];

	for (unsigned int i = 0; i < AT_ONCE; i++)
		must(pthread_create(&threads[i], NULL, open_and_drain, NULL) == 0, "make a thread");
	for (unsigned int i = 0; i < AT_ONCE; i++)
		pthread_join(threads[i], NULL);
	whole();
}

static void too_many(void)
{
	int fds[MOST], one = -5;

	for (unsigned int i = 0; i < MOST; i++)
		fds[i] = opened();
	if (coresnap_open_self(&one, &options, NULL, &error) != CORESNAP_E_FAILED ||
	    error.os_errno != EAGAIN || one != -1)
		trouble("one too many", one);
	for (unsigned int i = 0; i < MOST; i++)
		close(fds[i]);
	wait_gone();
	whole();
}

// The child has a copy of the lists of the parent; its parent's dumpers are not its children.
static void in_a_fork(void)
{
	const int fd = opened();
	const pid_t child = fork();
	int status = 0;

	if (child == 0) {
		close(fd);
		drain(opened(), NULL);
		wait_gone();
		fflush(stdout);
		_exit(0);
	}
	must(waitpid(child, &status, 0) == child, "wait");
	if (status)
		trouble("the child", status);
	drain(fd, core);
}

static volatile int from_handler = -1;

static void handle(int signal)
{
	(void)signal;
	from_handler = opened();
}

static void in_a_handler(void)
{
	const struct sigaction action = { .sa_handler = handle };

	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
	drain(from_handler, core);
}

static void by_stop(void)
{
	int fd = 5;

	options.method = CORESNAP_METHOD_STOP;
	if (coresnap_open_self(&fd, &options, NULL, &error) != CORESNAP_E_USAGE || fd != -1)
		trouble("method stop", fd);
	options.method = CORESNAP_METHOD_AUTO;
	whole();
}

// What reads and writes has a thread of its own then.
static void gently(void)
{
	const int before = getpriority(PRIO_PROCESS, 0);

	options.flags = CORESNAP_NICE | CORESNAP_IO_PRIO;
	options.nice = 19;
	options.io_prio = 7;
	close(opened());
	wait_gone();
	caller_ends();
	if (getpriority(PRIO_PROCESS, 0) != before)
		trouble("nice value", getpriority(PRIO_PROCESS, 0));
}

static const struct {
	const char *name;
	void (*run)(void);
} situations[] = {
	{ "whole", whole },
	{ "closed-early", closed_early },
	{ "caller-ends", caller_ends },
	{ "at-once", at_once },
	{ "too-many", too_many },
	{ "in-a-fork", in_a_fork },
	{ "in-a-handler", in_a_handler },
	{ "by-stop", by_stop },
	{ "gently", gently },
};

static void *sleep_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	must(argc == 4, "understand the arguments");
	compression = atoi(argv[2]);
	core = argv[3];
	options = (struct coresnap_options){ .size = sizeof(options),
					     .compression = compression,
					     .stop_timeout_ns = STOP_NS };
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(memory != MAP_FAILED, "get memory");
	memset(memory, 'a', SIZE);
	must(pthread_create(&thread, NULL, sleep_for_ever, NULL) == 0, "make a thread");
	printf("memory %#lx %u\n", (unsigned long)memory, SIZE);
	printf("pid %d\n", getpid());
	// What the C library does at the first time is none of the library's doing.
	wait_gone();
	count_lines("/proc/self/maps");
	const unsigned int maps = count_lines("/proc/self/maps"), files = count_files();

	for (size_t i = 0; i < sizeof(situations) / sizeof(situations[0]); i++)
		if (strcmp(argv[1], situations[i].name) == 0)
			situations[i].run();
	wait_gone();
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
		trouble("a child that wait(2) sees", errno);
	if (count_files() != files)
		trouble("descriptors", count_files() - (long)files);
	// Stacks of threads stay in the C library's cache.
	if (count_lines("/proc/self/maps") > maps + 2 * AT_ONCE)
		trouble("mappings", count_lines("/proc/self/maps") - (long)maps);
	fflush(stdout);
	return 0;
}
