/* SPDX-License-Identifier: BSD-3-Clause */
// C: the caller   H: a helper that shares C's memory   P: the program that compresses
//
//   C: clones H, which sends no signal when it ends and wait(2) without __WALL does not see
//   H: clones P as by vfork(2); P becomes the program
//   H: tells C how that went; closes its descriptors; waits for P; unmaps its stack; ends as P did
//
// P is no child of C, since execve(2) gives every program a SIGCHLD to send when it ends: C's program
// would see that, and where it ignores SIGCHLD, P's status would be lost.
#include "compressor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "sys.h"

#ifndef __WALL
#define __WALL 0x40000000
#endif

#define STACK_SIZE (64u << 10)
#define MAX_PATH   4096

#define TICK_NS 50000000

enum state { STARTING, STARTED, SEEN };

// In memory that H unmaps. P shares it until it becomes another program, and H stands still until
// then; both call nothing of the C library that keeps state.
struct job {
	const struct CoredumperCompressor *list;
	char *const *environment;
	const char *path; // of the caller's PATH; NULL: not to be searched
	int in, out;
	int state; // enum state; a futex
	const struct CoredumperCompressor *taken;
	int os_errno;
	char file[MAX_PATH];
};

extern char **environ;

static const char *search_path(void)
{
	// Whoever runs a program with more rights than his own must not choose what it runs.
	if (getauxval(AT_SECURE))
		return NULL;
	for (char **variable = environ; variable && *variable; variable++)
		if (strncmp(*variable, "PATH=", 5) == 0)
			return *variable + 5;
	return NULL;
}

static void try_file(struct job *job, const struct CoredumperCompressor *entry, const char *file)
{
	const char *const alone[] = { file, NULL };

	job->taken = entry;
	const long ret =
		sys_call(SYS_execve, file, entry->args ? entry->args : alone, job->environment);

	job->taken = NULL;
	job->os_errno = (int)-ret;
}

// In each directory of PATH but relative ones.
static void try_path(struct job *job, const struct CoredumperCompressor *entry)
{
	const size_t name = strlen(entry->compressor);

	job->os_errno = ENOENT;
	for (const char *from = job->path; from && *from;) {
		const char *const end = strchr(from, ':');
		const size_t length = end ? (size_t)(end - from) : strlen(from);

		if (*from == '/' && length + name + 2 <= sizeof(job->file)) {
			memcpy(job->file, from, length);
			job->file[length] = '/';
			memcpy(job->file + length + 1, entry->compressor, name + 1);
			try_file(job, entry, job->file);
		}
		from = end ? end + 1 : NULL;
	}
}

static void reset_signals(void)
{
	// struct kernel_sigaction: handler, flags, restorer, mask; all zero is the default.
	const unsigned long zeros[8] = { 0 };
	const uint64_t none = 0;

	for (int signal = 1; signal <= 64; signal++)
		sys_call(SYS_rt_sigaction, signal, zeros, NULL, sizeof(none));
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
}

// Both descriptors are above 2: see above_streams().
static void take_descriptors(const struct job *job)
{
	const int errors = sys_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);

	sys_call(SYS_dup3, job->in, 0, 0);
	sys_call(SYS_dup3, job->out, 1, 0);
	if (errors > 2)
		sys_call(SYS_dup3, errors, 2, 0);
	else if (errors == 2)
		sys_call(SYS_fcntl, 2, F_SETFD, 0);
	if (sys_call(SYS_close_range, 3, ~0u, 0) == -ENOSYS)
		for (int fd = 3; fd < 65536; fd++)
			sys_close(fd);
}

static int become(void *arg)
{
	struct job *const job = arg;

	reset_signals();
	take_descriptors(job);
	for (const struct CoredumperCompressor *entry = job->list; entry->compressor; entry++) {
		if (!entry->compressor[0]) {
			job->taken = entry;
			break;
		}
		if (strchr(entry->compressor, '/'))
			try_file(job, entry, entry->compressor);
		else
			try_path(job, entry);
	}
	sys_call(SYS_exit_group, 127);
	return 0;
}

// A duplicate that is not one of the standard streams, which P is going to replace.
static int above_streams(int fd)
{
	return (int)sys_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
}

static void set_state(struct job *job, int state)
{
	__atomic_store_n(&job->state, state, __ATOMIC_RELEASE);
	sys_call(SYS_futex, &job->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static uint8_t *stack_of(const struct job *job)
{
	return (uint8_t *)(uintptr_t)job - 2 * STACK_SIZE;
}

static int help(void *arg)
{
	struct job *const job = arg;
	const int pid = clone(become, stack_of(job) + STACK_SIZE, CLONE_VM | CLONE_VFORK, job);
	int status = 0;

	if (pid < 0)
		job->os_errno = errno;
	set_state(job, STARTED);
	// Whoever reads what P writes waits for the last of these to be closed.
	if (sys_call(SYS_close_range, 0, ~0u, 0) == -ENOSYS)
		for (int fd = 0; fd < 65536; fd++)
			sys_close(fd);
	while (pid > 0 && sys_call(SYS_wait4, pid, &status, __WALL, NULL) == -EINTR)
		;
	while (__atomic_load_n(&job->state, __ATOMIC_ACQUIRE) != SEEN)
		sys_call(SYS_futex, &job->state, FUTEX_WAIT, STARTED, NULL, NULL, 0);
	sys_unmap_and_exit(stack_of(job), 2 * STACK_SIZE + sizeof(*job), status != 0);
}

// H may be killed before it has told anything.
static bool wait_started(struct job *job, int pid)
{
	struct {
		long sec, nsec;
	} tick = { 0, TICK_NS };

	while (__atomic_load_n(&job->state, __ATOMIC_ACQUIRE) == STARTING) {
		sys_call(SYS_futex, &job->state, FUTEX_WAIT, STARTING, &tick, NULL, 0);
		if (sys_call(SYS_wait4, pid, NULL, __WALL | WNOHANG, NULL) != 0)
			return false;
	}
	return true;
}

// 0, or a negative errno with the memory still mapped.
static int start_helper(struct compressor *compressor, struct job *job)
{
	const uint64_t all = ~0ull;
	const int saved_errno = errno;
	uint64_t mask;

	// Neither H nor P must run the program's signal handlers.
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, &mask, sizeof(mask));
	const int pid = clone(help, (uint8_t *)job - 16, CLONE_VM, job);
	const int why = errno;

	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
	errno = saved_errno;
	if (pid < 0)
		return -why;
	if (!wait_started(job, pid))
		return -EINTR;
	const struct CoredumperCompressor *const taken = job->taken;
	const int os_errno = job->os_errno;

	*compressor = (struct compressor){ .pid = pid, .entry = taken };
	set_state(job, SEEN);
	// It is the last look at the job.
	if (taken && taken->compressor[0])
		return 0;
	(void)compressor_wait(compressor);
	compressor->pid = 0;
	return taken ? 0 : (os_errno ? os_errno : ENOENT);
}

int compressor_start(struct compressor *compressor, const struct CoredumperCompressor *list, int in,
		     int out)
{
	const size_t size = 2 * STACK_SIZE + sizeof(struct job);
	uint8_t *const memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	const int high_in = above_streams(in), high_out = above_streams(out);
	int ret = high_in < 0 ? high_in : high_out < 0 ? high_out : 0;

	*compressor = (struct compressor){ 0 };
	if (memory == MAP_FAILED)
		ret = -ENOMEM;
	if (ret == 0) {
		struct job *const job = (struct job *)(memory + 2 * STACK_SIZE);

		*job = (struct job){ .list = list,
				     .environment = environ,
				     .path = search_path(),
				     .in = high_in,
				     .out = high_out };
		ret = start_helper(compressor, job);
	}
	if (high_in >= 0)
		sys_close(high_in);
	if (high_out >= 0)
		sys_close(high_out);
	if (ret < 0 && memory != MAP_FAILED)
		munmap(memory, size);
	return ret > 0 ? -ret : ret;
}

bool compressor_wait(const struct compressor *compressor)
{
	int status = 0;

	if (!compressor->pid)
		return true;
	return sys_retry(SYS_wait4, compressor->pid, &status, __WALL, NULL) == compressor->pid &&
	       WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
