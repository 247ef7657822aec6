/* SPDX-License-Identifier: BSD-3-Clause */
// nudge PID: stops every thread of a process once and lets it run again, before anything is
// compared. A first stop changes what the next one shows: a nanosleep(2) that was stopped once is
// a restart_syscall(2) from then on (kernel/signal.c: ptrace_signal, arch/x86/kernel/signal.c:
// arch_do_signal_or_restart), in every later core alike.
//
// Calls that Linux does not restart after a stop (signal(7)) would fail with EINTR here, which is
// no fault of the dumper that is judged later; so a result of -EINTR is turned into -ERESTARTNOHAND.
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
#define REGS_64 216 // struct user_regs_struct
#define REGS_32 68  // struct user_regs_struct of i386

static pid_t tids[MAX_THREADS];

static void check(long result, const char *what, pid_t tid)
{
	if (result == -1) {
		fprintf(stderr, "nudge: %s of %d: %s\n", what, (int)tid, strerror(errno));
		exit(1);
	}
}

static size_t list(const char *pid)
{
	char path[64];
	size_t n = 0;
	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	DIR *dir = opendir(path);
	check(dir ? 0 : -1, path, 0);
	for (struct dirent *entry; (entry = readdir(dir)) && n < MAX_THREADS;) {
		if (entry->d_name[0] != '.')
			tids[n++] = (pid_t)strtol(entry->d_name, NULL, 10);
	}
	closedir(dir);
	return n;
}

static void restart_interrupted(pid_t tid)
{
	uint64_t regs[64];
	struct iovec iov = {regs, sizeof(regs)};
	check(ptrace(PTRACE_GETREGSET, tid, (void *)(uintptr_t)NT_PRSTATUS, &iov), "registers",
	      tid);
	if (iov.iov_len == REGS_64) {
		uint64_t *rax = &regs[10], *orig_rax = &regs[15];
		if ((int64_t)*orig_rax < 0 || (int64_t)*rax != -EINTR)
			return;
		*rax = (uint64_t)-514;
	} else if (iov.iov_len == REGS_32) {
		uint32_t *regs32 = (uint32_t *)regs;
		uint32_t *eax = &regs32[6], *orig_eax = &regs32[11];
		if ((int32_t)*orig_eax < 0 || (int32_t)*eax != -EINTR)
			return;
		*eax = (uint32_t)-514;
	} else {
		return;
	}
	check(ptrace(PTRACE_SETREGSET, tid, (void *)(uintptr_t)NT_PRSTATUS, &iov), "registers",
	      tid);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	const size_t n = list(argv[1]);
	for (size_t i = 0; i < n; i++)
		check(ptrace(PTRACE_SEIZE, tids[i], NULL, NULL), "PTRACE_SEIZE", tids[i]);
	for (size_t i = 0; i < n; i++)
		check(ptrace(PTRACE_INTERRUPT, tids[i], NULL, NULL), "PTRACE_INTERRUPT", tids[i]);
	for (size_t i = 0; i < n; i++) {
		int status;
		check(waitpid(tids[i], &status, __WALL), "waitpid", tids[i]);
		if (!WIFSTOPPED(status) || status >> 16 != PTRACE_EVENT_STOP) {
			fprintf(stderr, "nudge: %d: status %x\n", (int)tids[i], (unsigned)status);
			return 1;
		}
		restart_interrupted(tids[i]);
	}
	for (size_t i = 0; i < n; i++)
		check(ptrace(PTRACE_DETACH, tids[i], NULL, NULL), "PTRACE_DETACH", tids[i]);
	return 0;
}
