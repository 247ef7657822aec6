/* SPDX-License-Identifier: BSD-3-Clause */
// Filters of system calls for hard.c.
#ifndef HARD_FILTERS_H
#define HARD_FILTERS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define AUDIT_HERE AUDIT_ARCH_X86_64
#elif defined(__i386__)
#define AUDIT_HERE AUDIT_ARCH_I386
#elif defined(__aarch64__)
#define AUDIT_HERE AUDIT_ARCH_AARCH64
#else
#define AUDIT_HERE AUDIT_ARCH_ARM
#endif

#define JUMP_EQ(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define RETURN(what)            BPF_STMT(BPF_RET | BPF_K, (what))
#define LOAD(field)             BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define DENY(number)            JUMP_EQ((number), 0, 1), RETURN(SECCOMP_RET_ERRNO | EPERM)

static inline void install(struct sock_filter *code, size_t size)
{
	const struct sock_fprog filter = { (unsigned short)(size / sizeof(*code)), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) < 0)
		_exit(10);
}

// A filter that others made: the instructions are in a file, one after the other.
static inline void filter_by(const char *file)
{
	static struct sock_filter code[BPF_MAXINSNS];
	const int fd = open(file, O_RDONLY | O_CLOEXEC);
	const ssize_t size = read(fd, code, sizeof(code));

	if (size <= 0 || size % (ssize_t)sizeof(code[0]) != 0)
		_exit(14);
	close(fd);
	install(code, (size_t)size);
}

// As in a container, whose filter is there before its program begins: argv[2] has it, and what
// follows is the mode to go on in.
static inline void begin_filtered(char **argv)
{
	filter_by(argv[2]);
	argv[2] = argv[0];
	execv("/proc/self/exe", argv + 2);
	_exit(15);
}

static inline void kill_forks(const char *more)
{
	(void)more;
	struct sock_filter code[] = {
		LOAD(nr),
		JUMP_EQ(SYS_clone, 0, 1),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		RETURN(SECCOMP_RET_ALLOW),
	};

	install(code, sizeof(code));
}

static inline void be_strict(const char *more)
{
	(void)more;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) < 0)
		_exit(11);
}

#endif
