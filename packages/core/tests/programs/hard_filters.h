/* SPDX-License-Identifier: BSD-3-Clause */
// Filters of system calls for hard.c.
#ifndef HARD_FILTERS_H
#define HARD_FILTERS_H

#include <errno.h>
#include <linux/audit.h>
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

// As a container's default: no namespaces, mounts, keys or kernel modules, and clone3 does not
// exist.
static inline void contain(const char *more)
{
	(void)more;
	struct sock_filter code[] = {
		LOAD(arch),
		JUMP_EQ(AUDIT_HERE, 1, 0),
		RETURN(SECCOMP_RET_ERRNO | EPERM),
		LOAD(nr),
		DENY(SYS_mount),
		DENY(SYS_umount2),
		DENY(SYS_unshare),
		DENY(SYS_setns),
		DENY(SYS_keyctl),
		DENY(SYS_add_key),
		DENY(SYS_bpf),
		DENY(SYS_init_module),
		DENY(SYS_reboot),
		DENY(SYS_swapon),
		DENY(SYS_userfaultfd),
		JUMP_EQ(SYS_clone3, 0, 1),
		RETURN(SECCOMP_RET_ERRNO | ENOSYS),
		JUMP_EQ(SYS_clone, 0, 4),
		LOAD(args[0]),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x7e020000), // CLONE_NEW*
		JUMP_EQ(0, 1, 0),
		RETURN(SECCOMP_RET_ERRNO | EPERM),
		RETURN(SECCOMP_RET_ALLOW),
	};

	install(code, sizeof(code));
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
