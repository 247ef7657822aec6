/* SPDX-License-Identifier: BSD-3-Clause */
// denied REQUEST PROGRAM ARG…: runs a program to which one request of ptrace(2) is forbidden, as a
// container's filter may have it.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)(value), 0, skip)

int main(int argc, char **argv)
{
	if (argc < 3) {
		fputs("usage: denied REQUEST PROGRAM [ARG…]\n", stderr);
		return 2;
	}
	struct sock_filter filter[] = {
		LOAD(nr),
		UNLESS(SYS_ptrace, 3),
		LOAD(args[0]),
		UNLESS(atoi(argv[1]), 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
		perror("denied: seccomp");
		return 1;
	}
	execv(argv[2], argv + 2);
	perror(argv[2]);
	return 1;
}
