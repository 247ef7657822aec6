/* SPDX-License-Identifier: BSD-3-Clause */
// spent PROGRAM [ARGUMENT…]: runs a program and says at last, on a line of standard output, how many ns it
// took and how many KiB it, or a child of its, had resident at the most. Exits as it did.
//
// The kernel counts what a process had before execve(2) as its own, and a child of vfork(2) has all that
// its parent has (exec_mmap() in fs/exec.c). So whoever asks must be small.
#include "../inside/clock.h"
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv)
{
	struct rusage usage;
	int status;
	pid_t pid;

	if (argc < 2)
		return 2;
	const int64_t begin = now();

	if (posix_spawnp(&pid, argv[1], NULL, NULL, argv + 1, environ) ||
	    wait4(pid, &status, 0, &usage) != pid)
		return 127;
	printf("%lld %ld\n", (long long)(now() - begin), usage.ru_maxrss);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
