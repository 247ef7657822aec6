/* SPDX-License-Identifier: BSD-3-Clause */
// stop_once PID TIMES: stops the only thread of a process as a debugger would, lets it run again,
// and repairs nothing. Prints for each stop the number and the result of the system call that it
// was in: "NR RESULT".
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

#define REGS_32 68 // sizeof(struct user_regs_struct) of i386

static void check(long result, const char *what)
{
	if (result != -1)
		return;
	fprintf(stderr, "stop_once: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void print_call(pid_t pid)
{
	uint64_t regs[64];
	struct iovec iov = { regs, sizeof(regs) };

	check(ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &iov), "registers");
	if (iov.iov_len == REGS_32) {
		int32_t narrow[17];

		memcpy(narrow, regs, sizeof(narrow));
		printf("%d %d\n", narrow[11], narrow[6]);
	} else {
		printf("%lld %lld\n", (long long)regs[15], (long long)regs[10]);
	}
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	const pid_t pid = atoi(argv[1]);

	for (int times = atoi(argv[2]); times > 0; times--) {
		int status;

		check(ptrace(PTRACE_SEIZE, pid, NULL, NULL), "PTRACE_SEIZE");
		check(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), "PTRACE_INTERRUPT");
		check(waitpid(pid, &status, __WALL), "waitpid");
		if (!WIFSTOPPED(status) || status >> 16 != PTRACE_EVENT_STOP) {
			fprintf(stderr, "stop_once: status %x\n", (unsigned int)status);
			return 1;
		}
		print_call(pid);
		check(ptrace(PTRACE_DETACH, pid, NULL, NULL), "PTRACE_DETACH");
	}
	return 0;
}
