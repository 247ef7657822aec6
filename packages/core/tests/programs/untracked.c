/* SPDX-License-Identifier: BSD-3-Clause */
// untracked PROGRAM [ARG…]: runs a program that can track nobody's writes: userfaultfd(2) is forbidden
// to it, as containers' filters have it, and what it would open for nothing but writing, as the
// soft-dirty bits of a process, is on a file system that is read-only.
#include "hard_filters.h"

#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	struct sock_filter code[] = {
		LOAD(nr),
		DENY(SYS_userfaultfd),
		JUMP_EQ(SYS_openat, 0, 3),
		LOAD(args[2]),
		JUMP_EQ(O_WRONLY | O_CLOEXEC, 0, 1),
		RETURN(SECCOMP_RET_ERRNO | EROFS),
		RETURN(SECCOMP_RET_ALLOW),
	};

	if (argc < 2)
		return 2;
	install(code, sizeof(code));
	execv(argv[1], argv + 1);
	perror(argv[1]);
	return 1;
}
