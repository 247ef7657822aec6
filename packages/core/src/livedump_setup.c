// SPDX-License-Identifier: BSD-3-Clause
// What must be there for it: the kernel's file, and coresnap-catch as core_pattern.
#include <linux/capability.h>
#include <string.h>

#include "cleanup.h"
#include "livedump_parts.h"
#include "procfs.h"

#define PATTERN    "/proc/sys/kernel/core_pattern"
#define PIPE_LIMIT "/proc/sys/kernel/core_pipe_limit"
#define DOCUMENTED "sysctl kernel.core_pipe_limit=16 " \
		   "kernel.core_pattern='|/usr/bin/coresnap-catch %%P %%c HANDLER'"

static int open_file(const struct target *target, struct coresnap_error *err)
{
	const int fd = sys_openat(target->proc_fd, "livedump", O_WRONLY, 0);

	if (fd == -ENOENT) {
		err->pid = target->pid;
		error_remedy(err, "Use another method, or a kernel with CONFIG_LIVEDUMP");
		return error_set(err, CORESNAP_E_FAILED, ENOENT,
				 "this kernel dumps no processes that go on: it has no "
				 "/proc/PID/livedump");
	}
	if (fd < 0)
		coresnap_livedump_error(target->pid, -fd, err);
	return fd;
}

// "|/any/where/coresnap-catch %P %c" and what may follow.
static bool is_catch(const char *pattern)
{
	static const char name[] = "coresnap-catch", words[] = " %P %c";
	const size_t path = strcspn(pattern, " \n");
	const size_t length = sizeof(name) - 1;

	if (pattern[0] != '|' || path < length + 2 || pattern[path - length - 1] != '/' ||
	    strncmp(pattern + path - length, name, length) != 0 ||
	    strncmp(pattern + path, words, sizeof(words) - 1) != 0)
		return false;
	const char end = pattern[path + sizeof(words) - 1];

	return end == ' ' || end == '\n' || end == '\0';
}

static bool catch_is_set(void)
{
	char pattern[256];

	return procfs_read(AT_FDCWD, PATTERN, pattern, sizeof(pattern)) > 0 && is_catch(pattern);
}

// The copy has to be there still when coresnap-catch looks at it, also if its core is small.
static bool waits_for_readers(void)
{
	char limit[32];

	return procfs_read(AT_FDCWD, PIPE_LIMIT, limit, sizeof(limit)) > 0 &&
	       procfs_number(limit, 10, NULL) > 0;
}

// include/linux/proc_ns.h: enum proc_ns_ino; that of the network has no fixed number.
#define FIRST_USER_NAMESPACE 0xeffffffdu
#define FIRST_PID_NAMESPACE  0xeffffffcu

static bool is_namespace(const char *path, uint64_t inode)
{
	struct statx st;

	return sys_statx(AT_FDCWD, path, 0, &st) == 0 && st.stx_ino == inode;
}

// The kernel starts coresnap-catch outside of all containers, where it would hardly find us: the
// core would go to the program that gets those of crashes, as if there had been one.
static int check_namespaces(struct coresnap_error *err)
{
	if (is_namespace("/proc/self/ns/user", FIRST_USER_NAMESPACE) &&
	    is_namespace("/proc/self/ns/pid", FIRST_PID_NAMESPACE))
		return 0;
	error_remedy(err, "Run it outside of the container, or use another method");
	return error_set(err, CORESNAP_E_FAILED, ENOTSUP,
			 "the kernel's core would not come here: we are in a container (another "
			 "user or pid namespace than coresnap-catch)");
}

static int check_settings(const struct target *target, struct coresnap_error *err)
{
	if (catch_is_set() && waits_for_readers())
		return check_namespaces(err);
	err->pid = target->pid;
	error_remedy(err, "As root: " DOCUMENTED "; or let the core go where core_pattern says: "
			  "coresnap livedump PID");
	if (catch_is_set())
		return error_set(err, CORESNAP_E_FAILED, ENOTSUP,
				 "a small core could be lost on its way here: "
				 "kernel.core_pipe_limit is 0");
	return error_set(err, CORESNAP_E_FAILED, ENOTSUP,
			 "the kernel's core would not come here: core_pattern does not name "
			 "coresnap-catch %%P %%c");
}

// The token is a core limit, and nothing may be told with more than the process could have.
static int check_limit(const struct target *target, struct coresnap_error *err)
{
	const uint64_t hard = procfs_limit(target->proc_fd, "Max core file size", true);

	if (hard >= LIVEDUMP_TOKEN_MOST || procfs_capable(CAP_SYS_RESOURCE))
		return 0;
	err->pid = target->pid;
	error_remedy(err,
		     "Run as root, or have root raise it: prlimit --pid %d --core=:unlimited",
		     target->pid);
	return error_set(err, CORESNAP_E_NOT_PERMITTED, EPERM,
			 "the hard core limit of process %d is %llu bytes, and the method livedump "
			 "has to ask for more",
			 target->pid, (unsigned long long)hard);
}

int livedump_open(const struct target *target, struct coresnap_error *err)
{
	int fd = open_file(target, err);
	int ret = fd < 0 ? fd : check_settings(target, err);

	if (ret == 0)
		ret = check_limit(target, err);
	if (ret == 0)
		return fd;
	guard_close(&fd);
	return ret;
}

bool livedump_expected(const struct target *target)
{
	struct statx st;

	return catch_is_set() && sys_statx(target->proc_fd, "livedump", 0, &st) == 0;
}

int livedump_options(const struct coresnap_options *options, struct coresnap_error *err)
{
	const struct {
		bool given;
		const char *name;
	} foreign[] = {
		{ options->flags & CORESNAP_FILTER, "a filter" },
		{ options->flags & CORESNAP_UNDUMPABLE, "undumpable" },
		{ options->stop_timeout_ns, "a timeout for stopping" },
		{ options->max_pause_ns, "a longest pause" },
		{ options->keep != CORESNAP_KEEP_FIRST, "keeping the smaller segments" },
		{ options->core_limit, "a core limit" },
		{ options->n_notes, "notes" },
		{ options->stopped, "a function to be asked" },
	};

	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		if (!foreign[i].given)
			continue;
		error_remedy(err, "Leave it out, or use the method fork or stop");
		return error_set(err, CORESNAP_E_USAGE, EINVAL,
				 "%s cannot be had by the method livedump: the kernel makes the "
				 "core",
				 foreign[i].name);
	}
	return 0;
}
