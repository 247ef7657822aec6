/* SPDX-License-Identifier: BSD-3-Clause */
// nudge PID: stops every thread of a process once and lets it run again, before anything is
// compared. A first stop changes what the next one shows: a nanosleep(2) that was stopped once is
// a restart_syscall(2) from then on (kernel/signal.c: ptrace_signal, arch/x86/kernel/signal.c:
// arch_do_signal_or_restart), in every later core alike.
//
// Calls that Linux does not restart after a stop (signal(7)) would fail with EINTR here, which is
// no fault of the dumper that is judged later; so those are made to start again.
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define MAX_THREADS 70000

// Sizes of NT_PRSTATUS's registers.
#define REGS_X86_64 216
#define REGS_I386 68
#define REGS_AARCH64 272
#define REGS_ARM 72

struct nudged {
	pid_t tid;
	long nr;         // of the call that it sleeps in, or -1
	long long first; // argument of it
};

static struct nudged threads[MAX_THREADS];

static void check(long result, const char *what, pid_t tid)
{
	if (result == -1) {
		fprintf(stderr, "nudge: %s of %d: %s\n", what, (int)tid, strerror(errno));
		exit(1);
	}
}

// A main thread that has exited before the others stays as a zombie, and cannot be stopped.
static int has_exited(const char *pid, const char *tid)
{
	char path[64], state = 0;
	snprintf(path, sizeof(path), "/proc/%s/task/%.20s/stat", pid, tid);
	FILE *file = fopen(path, "re");
	check(file ? 0 : -1, path, 0);
	if (fscanf(file, "%*[^)]) %c", &state) != 1)
		state = 0;
	fclose(file);
	return state == 'Z';
}

static size_t list(const char *pid)
{
	char path[64];
	size_t n = 0;
	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	DIR *dir = opendir(path);
	check(dir ? 0 : -1, path, 0);
	for (struct dirent *entry; (entry = readdir(dir)) && n < MAX_THREADS;) {
		if (entry->d_name[0] != '.' && !has_exited(pid, entry->d_name))
			threads[n++].tid = (pid_t)strtol(entry->d_name, NULL, 10);
	}
	closedir(dir);
	return n;
}

// The call that a thread sleeps in: its number and first argument, or -1 when it is in none.
static void read_call(const char *pid, struct nudged *thread)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%s/task/%d/syscall", pid, (int)thread->tid);
	FILE *file = fopen(path, "re");
	check(file ? 0 : -1, path, thread->tid);
	if (fscanf(file, "%ld %lli", &thread->nr, &thread->first) != 2)
		thread->nr = -1;
	fclose(file);
}

// The Arm architectures decide about a restart before the stop (do_signal() in
// arch/arm64/kernel/signal.c): the call is made to start again by what the kernel itself would
// have done, the program counter back at the instruction and the first argument as it was.
static void rewind_32(uint32_t *regs, const struct nudged *thread)
{
	const uint32_t thumb = 1 << 5;
	if ((int32_t)regs[0] != -EINTR)
		return;
	regs[0] = (uint32_t)thread->first;
	regs[15] -= regs[16] & thumb ? 2 : 4;
}

static void rewind_64(uint64_t *regs, const struct nudged *thread)
{
	if ((int64_t)regs[0] != -EINTR)
		return;
	regs[0] = (uint64_t)thread->first;
	regs[32] -= 4;
}

static void restart_x86_64(uint64_t *regs)
{
	uint64_t *rax = &regs[10], *orig_rax = &regs[15];
	if ((int64_t)*orig_rax >= 0 && (int64_t)*rax == -EINTR)
		*rax = (uint64_t)-514;
}

static void restart_i386(uint32_t *regs)
{
	uint32_t *eax = &regs[6], *orig_eax = &regs[11];
	if ((int32_t)*orig_eax >= 0 && (int32_t)*eax == -EINTR)
		*eax = (uint32_t)-514;
}

static void restart_interrupted(const struct nudged *thread)
{
	const pid_t tid = thread->tid;
	uint64_t regs[64];
	struct iovec iov = {regs, sizeof(regs)};
	check(ptrace(PTRACE_GETREGSET, tid, (void *)(uintptr_t)NT_PRSTATUS, &iov), "registers",
	      tid);
	if (thread->nr < 0)
		return;
	if (iov.iov_len == REGS_X86_64)
		restart_x86_64(regs);
	else if (iov.iov_len == REGS_I386)
		restart_i386((uint32_t *)regs);
	else if (iov.iov_len == REGS_AARCH64)
		rewind_64(regs, thread);
	else if (iov.iov_len == REGS_ARM)
		rewind_32((uint32_t *)regs, thread);
	else
		return;
	check(ptrace(PTRACE_SETREGSET, tid, (void *)(uintptr_t)NT_PRSTATUS, &iov), "registers",
	      tid);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	const size_t n = list(argv[1]);
	for (size_t i = 0; i < n; i++)
		read_call(argv[1], &threads[i]);
	for (size_t i = 0; i < n; i++)
		check(ptrace(PTRACE_SEIZE, threads[i].tid, NULL, NULL), "PTRACE_SEIZE", threads[i].tid);
	for (size_t i = 0; i < n; i++)
		check(ptrace(PTRACE_INTERRUPT, threads[i].tid, NULL, NULL), "PTRACE_INTERRUPT", threads[i].tid);
	for (size_t i = 0; i < n; i++) {
		int status;
		check(waitpid(threads[i].tid, &status, __WALL), "waitpid", threads[i].tid);
		if (!WIFSTOPPED(status) || status >> 16 != PTRACE_EVENT_STOP) {
			fprintf(stderr, "nudge: %d: status %x\n", (int)threads[i].tid, (unsigned)status);
			return 1;
		}
		restart_interrupted(&threads[i]);
	}
	for (size_t i = 0; i < n; i++)
		check(ptrace(PTRACE_DETACH, threads[i].tid, NULL, NULL), "PTRACE_DETACH", threads[i].tid);
	return 0;
}
