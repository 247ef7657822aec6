/* SPDX-License-Identifier: BSD-3-Clause */
// A program that was written for google-coredumper: it dumps itself in one of the ways that programs
// do, in one of the situations that they are in.
//
// coredumper_calls CALL SITUATION FILE
//
// Standard output gets lines "name value…": what the call returned, and what was noticed ("trouble …").
#include <google/coredumper.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE    (9u << 20)
#define AT_ONCE 4

static unsigned char *memory;
static const char *file;
static int (*call)(const char *name);
static int report = 1;
static volatile sig_atomic_t children;

static void say(const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	const int n = vsnprintf(line, sizeof(line), format, args);

	va_end(args);
	if (write(report, line, (size_t)n) != n)
		_exit(3);
}

// -- calls ---------------------------------------------------------------------------------------

static void say_selected(const struct CoredumperCompressor *entry)
{
	say("selected %s\n", entry ? entry->compressor : "nothing");
}

static int drain(int fd, const char *name)
{
	char buffer[4096];
	ssize_t n;

	if (fd < 0)
		return -1;
	if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC))
		say("trouble inherited\n");
	memset(memory, 'b', SIZE);
	const int out = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		if (write(out, buffer, (size_t)n) != n)
			say("trouble write %d\n", errno);
	close(out);
	return n < 0 ? -1 : close(fd);
}

static int get(const char *name)
{
	return drain(GetCoreDump(), name);
}

static int get_compressed(const char *name)
{
	struct CoredumperCompressor *selected = NULL;
	const int ret = drain(GetCompressedCoreDump(COREDUMPER_GZIP_COMPRESSED, &selected), name);

	say_selected(selected);
	return ret;
}

static int limited_0(const char *name)
{
	return WriteCoreDumpLimited(name, 0);
}

static int limited_256(const char *name)
{
	return WriteCoreDumpLimited(name, 256);
}

static int limited_4095(const char *name)
{
	return WriteCoreDumpLimited(name, 4095);
}

static int limited_60000(const char *name)
{
	return WriteCoreDumpLimited(name, 60000);
}

static int by_priority(const char *name)
{
	return WriteCoreDumpLimitedByPriority(name, 1 << 20);
}

static int compressed_by(const char *name, size_t limit, const struct CoredumperCompressor *list)
{
	struct CoredumperCompressor *selected = NULL;
	const int ret = WriteCompressedCoreDump(name, limit, list, &selected);
	const int why = errno;

	say_selected(selected);
	errno = why;
	return ret;
}

static int gzip(const char *name)
{
	return compressed_by(name, SIZE_MAX, COREDUMPER_GZIP_COMPRESSED);
}

static int gzip_limited(const char *name)
{
	return compressed_by(name, 1000, COREDUMPER_GZIP_COMPRESSED);
}

static int gzip_by_path(const char *name)
{
	static const char *const args[] = { "gzip", "-1", NULL };
	static const struct CoredumperCompressor list[] = { { "/nonexistent/gzip", NULL, ".no" },
							    { "gzip", args, ".by-path" },
							    { NULL, NULL, NULL } };

	return compressed_by(name, SIZE_MAX, list);
}

static int no_program(const char *name)
{
	static const struct CoredumperCompressor list[] = { { "no-such-program", NULL, ".x" },
							    { NULL, NULL, NULL } };

	return compressed_by(name, SIZE_MAX, list);
}

static int no_program_but_plain(const char *name)
{
	static const struct CoredumperCompressor list[] = { { "no-such-program", NULL, ".x" },
							    { "", NULL, "" },
							    { NULL, NULL, NULL } };

	return compressed_by(name, SIZE_MAX, list);
}

static int program_that_fails(const char *name)
{
	static const struct CoredumperCompressor list[] = { { "/bin/false", NULL, ".x" },
							    { NULL, NULL, NULL } };

	return compressed_by(name, SIZE_MAX, list);
}

static int uncompressed(const char *name)
{
	return compressed_by(name, SIZE_MAX, COREDUMPER_UNCOMPRESSED);
}

static int with_notes(const char *name)
{
	static char many[5000];
	struct CoredumperNote notes[] = { { "example.org", 1, 3, "one" },
					  { "x", 0xffffffff, 0, NULL },
					  { "five!", 2, 5, "12345" },
					  { "many", 3, sizeof(many), many } };
	struct CoreDumpParameters parameters;

	for (size_t i = 0; i < sizeof(many); i++)
		many[i] = (char)(i * 7);
	ClearCoreDumpParameters(&parameters);
	if (SetCoreDumpNotes(&parameters, notes, 4))
		return -1;
	return WriteCoreDumpWith(&parameters, name);
}

static int count_call(void *arg)
{
	++*(int *)arg;
	return 0;
}

static int refuse(void *arg)
{
	(void)arg;
	return 7;
}

static int with_callback(const char *name)
{
	struct CoreDumpParameters parameters;
	int calls = 0;

	ClearCoreDumpParameters(&parameters);
	if (SetCoreDumpCallback(&parameters, count_call, &calls))
		return -1;
	const int ret = WriteCoreDumpWith(&parameters, name);

	say("calls %d\n", calls);
	return ret;
}

static int with_veto(const char *name)
{
	struct CoreDumpParameters parameters;

	ClearCoreDumpParameters(&parameters);
	if (SetCoreDumpCallback(&parameters, refuse, NULL))
		return -1;
	if (GetCoreDumpWith(&parameters) != -1 || errno != ECANCELED)
		say("trouble a stream in spite of the veto\n");
	SetCoreDumpCompressed(&parameters, COREDUMPER_GZIP_COMPRESSED, NULL);
	if (WriteCoreDumpWith(&parameters, name) != -1 || errno != ECANCELED)
		say("trouble a compressed core in spite of the veto\n");
	parameters.compressors = NULL;
	return WriteCoreDumpWith(&parameters, name);
}

// What a caller that knew no notes and no callback has, with something else behind it.
static int short_struct(const char *name)
{
	struct CoreDumpParameters parameters;

	memset(&parameters, 0x5a, sizeof(parameters));
	ClearCoreDumpParametersInternal(&parameters, offsetof(struct CoreDumpParameters, notes));
	if (GetCoreDumpParameter(&parameters, note_count) != 0)
		say("trouble a member beyond the end\n");
	if (SetCoreDumpNotes(&parameters, NULL, 0) != -1 || errno != EINVAL)
		say("trouble notes beyond the end\n");
	errno = 0;
	SetCoreDumpParameter(&parameters, max_length, 60000);
	SetCoreDumpParameter(&parameters, flags, COREDUMPER_FLAG_LIMITED);
	return WriteCoreDumpWith(&parameters, name);
}

static int refused_combinations(const char *name)
{
	struct CoreDumpParameters parameters;

	(void)name;
	ClearCoreDumpParameters(&parameters);
	if (parameters.max_length != SIZE_MAX || parameters.size != sizeof(parameters))
		say("trouble cleared parameters\n");
	if (SetCoreDumpLimited(&parameters, 5) != 0 ||
	    SetCoreDumpLimitedByPriority(&parameters, 5) != -1 || errno != EINVAL)
		say("trouble limited twice\n");
	ClearCoreDumpParameters(&parameters);
	if (SetCoreDumpLimitedByPriority(&parameters, 5) != 0 ||
	    SetCoreDumpLimited(&parameters, 5) != -1 || errno != EINVAL ||
	    SetCoreDumpCompressed(&parameters, COREDUMPER_UNCOMPRESSED, NULL) != -1 ||
	    errno != EINVAL)
		say("trouble compressed by priority\n");
	ClearCoreDumpParameters(&parameters);
	if (SetCoreDumpCompressed(&parameters, COREDUMPER_UNCOMPRESSED, NULL) != 0 ||
	    SetCoreDumpLimitedByPriority(&parameters, 5) != -1 || errno != EINVAL)
		say("trouble by priority compressed\n");
	return 0;
}

static const struct {
	const char *name;
	int (*call)(const char *name);
} calls[] = {
	{ "write", WriteCoreDump },
	{ "get", get },
	{ "get-compressed", get_compressed },
	{ "limited-0", limited_0 },
	{ "limited-256", limited_256 },
	{ "limited-4095", limited_4095 },
	{ "limited-60000", limited_60000 },
	{ "by-priority", by_priority },
	{ "gzip", gzip },
	{ "gzip-limited", gzip_limited },
	{ "gzip-by-path", gzip_by_path },
	{ "no-program", no_program },
	{ "no-program-but-plain", no_program_but_plain },
	{ "program-that-fails", program_that_fails },
	{ "uncompressed", uncompressed },
	{ "notes", with_notes },
	{ "callback", with_callback },
	{ "veto", with_veto },
	{ "short-struct", short_struct },
	{ "refused-combinations", refused_combinations },
};

// -- situations ----------------------------------------------------------------------------------

static void make_call(void)
{
	errno = 0;
	const int ret = call(file);

	say("returned %d %d\n", ret, errno);
}

static void *call_in_thread(void *arg)
{
	make_call();
	return arg;
}

static void in_thread(size_t stack)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, stack);
	pthread_create(&thread, &attributes, call_in_thread, NULL);
	pthread_join(thread, NULL);
}

static void on_tiny_stack(void)
{
	in_thread((size_t)PTHREAD_STACK_MIN > (32u << 10) ? (size_t)PTHREAD_STACK_MIN : 32u << 10);
}

static void at_once(void)
{
	pthread_t threads[AT_ONCE];

	for (unsigned int i = 0; i < AT_ONCE; i++)
		pthread_create(&threads[i], NULL, call_in_thread, NULL);
	for (unsigned int i = 0; i < AT_ONCE; i++)
		pthread_join(threads[i], NULL);
}

static void handle(int signal)
{
	(void)signal;
	make_call();
}

static void in_handler(void)
{
	const struct sigaction action = { .sa_handler = handle };

	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
}

static void after_fork(void)
{
	int status = 0;
	const pid_t child = fork();

	if (child == 0) {
		make_call();
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status)
		say("trouble the child %d\n", status);
}

static void sigchld_ignored(void)
{
	signal(SIGCHLD, SIG_IGN);
	make_call();
}

static void count_child(int signal)
{
	(void)signal;
	children++;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		say("trouble a child to wait for\n");
}

static void sigchld_handled(void)
{
	signal(SIGCHLD, count_child);
	make_call();
	if (children)
		say("trouble SIGCHLD\n");
}

static void shared_mapping(void)
{
	unsigned char *const shared =
		mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	memset(shared, 's', 1 << 20);
	say("shared %#lx\n", (unsigned long)shared);
	make_call();
}

static void streams_closed(void)
{
	report = fcntl(1, F_DUPFD_CLOEXEC, 100);
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	make_call();
}

static void sigpipe_ignored(void)
{
	sigset_t all;

	signal(SIGPIPE, SIG_IGN);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	make_call();
}

static const struct {
	const char *name;
	void (*run)(void);
} situations[] = {
	{ "plain", make_call },
	{ "tiny-stack", on_tiny_stack },
	{ "at-once", at_once },
	{ "handler", in_handler },
	{ "after-fork", after_fork },
	{ "sigchld-ignored", sigchld_ignored },
	{ "sigchld-handled", sigchld_handled },
	{ "shared-mapping", shared_mapping },
	{ "streams-closed", streams_closed },
	{ "sigpipe-ignored", sigpipe_ignored },
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
	bool known = false;

	if (argc != 4)
		return 2;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (strcmp(argv[1], calls[i].name) == 0)
			call = calls[i].call;
	file = argv[3];
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(memory, 'a', SIZE);
	pthread_create(&thread, NULL, sleep_for_ever, NULL);
	say("memory %#lx %u\n", (unsigned long)memory, SIZE);
	say("pid %d\n", getpid());
	for (size_t i = 0; call && i < sizeof(situations) / sizeof(situations[0]); i++)
		if (strcmp(argv[2], situations[i].name) == 0) {
			situations[i].run();
			known = true;
		}
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
		say("trouble a child is left\n");
	return known ? 0 : 2;
}
