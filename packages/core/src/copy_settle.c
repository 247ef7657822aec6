/* SPDX-License-Identifier: BSD-3-Clause */
// The copy gives back what it has of the target besides memory.
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#include "cleanup.h"
#include "copy_parts.h"
#include "procfs.h"
#include "remote.h"
#include "step.h"

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2
#endif

enum {
	// Where the names stand in the second half of what the copy maps (only in G's copy of it;
	// the chains are in the first half).
	ROOT_AT = 0,
	EMPTY_AT = ROOT_AT + 16,
	NAME_AT = EMPTY_AT + 64,
};

static const char empty_place[] = "/proc/self/fdinfo";

int copy_open(struct copy *copy, struct coresnap_error *err)
{
	char path[32];

	error_format(path, sizeof(path), "/proc/%d", copy->pid);
	STEP();
	copy->proc_fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	copy->mem_fd = copy->proc_fd < 0 ? -1 : sys_openat(copy->proc_fd, "mem", O_RDWR, 0);
	if (copy->proc_fd < 0 || copy->mem_fd < 0)
		return error_set(err, CORESNAP_E_FAILED,
				 copy->proc_fd < 0 ? -copy->proc_fd : -copy->mem_fd,
				 "cannot open the memory of the copy, process %d", copy->pid);
	return 0;
}

static uint64_t names_of(const struct copy *copy)
{
	return copy->page + copy->page_size / 2;
}

// One call in G, which needs no frame to restore it: it has nothing to go back to, and dies with D.
static int copy_call(struct copy *copy, int32_t nr, const uint64_t args[6], int64_t *result)
{
	const struct arch *const arch = copy->target->arch;
	uint8_t gregs[512] __attribute__((aligned(8)));
	size_t len;
	int ret = remote_get_gregs(copy->pid, gregs, sizeof(gregs), &len);

	if (ret < 0)
		return ret;
	// Its stack pointer stays on the chain that ends it.
	remote_set_call(arch, &copy->gadgets, gregs, nr, args, arch_get(arch, gregs, arch->sp));
	ret = remote_set_gregs(copy->pid, gregs, len);
	if (ret == 0)
		ret = remote_run_call(copy->pid, sys_now_ns() + REMOTE_CALL_NS, NULL);
	if (ret == 0)
		ret = remote_get_gregs(copy->pid, gregs, sizeof(gregs), &len);
	*result = ret == 0 ? arch_get_signed(arch, gregs, arch->ret) : ret;
	return ret;
}

// Before close_range(2) (Linux 5.9): a table of its own, then one after the other.
static int close_each(struct copy *copy)
{
	const struct arch_remote *const facts = copy->target->arch->remote;
	struct procfs_dir dir guard(procfs_closedir) = { .fd = -1 };
	const char *name;
	int64_t result;
	int ret = copy_call(copy, facts->nr.unshare, (const uint64_t[6]){ CLONE_FILES }, &result);

	if (ret < 0 || result < 0)
		return ret;
	if (procfs_opendir(&dir, copy->proc_fd, "fd") < 0)
		return 0;
	while ((name = procfs_readdir(&dir))) {
		const uint64_t fd = procfs_number(name, 10, NULL);

		ret = copy_call(copy, facts->nr.close, (const uint64_t[6]){ fd }, &result);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int close_files(struct copy *copy)
{
	const uint64_t all[6] = { 0, UINT32_MAX, CLOSE_RANGE_UNSHARE };
	int64_t result;
	const int ret = copy_call(copy, copy->target->arch->remote->nr.close_range, all, &result);

	return ret == 0 && result < 0 ? close_each(copy) : ret;
}

// Leaves the directories of the target. fdinfo of a process without descriptors is empty for ever;
// chroot takes a capability in the target's user namespace, without which the root stays.
static int leave_directories(struct copy *copy)
{
	const struct arch_remote *const facts = copy->target->arch->remote;
	const uint64_t root[6] = { names_of(copy) + ROOT_AT },
		       empty[6] = { names_of(copy) + EMPTY_AT };
	int64_t result;
	int ret = copy_call(copy, facts->nr.chroot, empty, &result);

	if (ret == 0)
		ret = copy_call(copy, facts->nr.chdir, root, &result);
	return ret;
}

int copy_offer_to_oom(const struct copy *copy, struct coresnap_error *err)
{
	char path[48], text[16];
	const int n = error_format(text, sizeof(text), "%d", copy->oom_score);

	error_format(path, sizeof(path), "/proc/%d/oom_score_adj", copy->pid);
	STEP();
	const int fd guard(guard_close) = sys_openat(AT_FDCWD, path, O_WRONLY, 0);
	const int ret = fd < 0 ? fd : (int)sys_retry(SYS_write, fd, text, n);

	if (ret >= 0 || !copy->oom_asked)
		return 0;
	err->pid = copy->pid;
	error_remedy(err, "Leave it out, or run as root");
	return error_set(err, CORESNAP_E_NOT_PERMITTED, -ret,
			 "the copy, process %d, cannot be given an oom_score_adj of %d: %s",
			 copy->pid, copy->oom_score, error_errno_name(-ret));
}

static int write_names(struct copy *copy)
{
	uint8_t names[NAME_AT - ROOT_AT + 16] = { '/' };

	memcpy(names + EMPTY_AT - ROOT_AT, empty_place, sizeof(empty_place));
	memcpy(names + NAME_AT - ROOT_AT, COPY_NAME, sizeof(COPY_NAME));
	STEP();
	const ssize_t n = sys_pwrite(copy->mem_fd, names, sizeof(names), names_of(copy));

	return n == sizeof(names) ? 0 : n < 0 ? (int)n : -EIO;
}

static int settle(struct copy *copy)
{
	const struct arch_remote *const facts = copy->target->arch->remote;
	const uint64_t name[6] = { PR_SET_NAME, names_of(copy) + NAME_AT };
	int64_t result;
	int ret = write_names(copy);

	// The filter that G inherited was only asked about the calls that make the copy. Takes
	// CAP_SYS_ADMIN, as reading the filter did.
	if (ret == 0 && copy->victim.seccomp)
		ret = (int)remote_ptrace(PTRACE_SETOPTIONS, copy->pid, 0,
					 PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD |
						 PTRACE_O_SUSPEND_SECCOMP);
	if (ret == 0)
		ret = close_files(copy);
	if (ret == 0)
		ret = leave_directories(copy);
	if (ret == 0)
		ret = copy_call(copy, facts->nr.prctl, name, &result);
	return ret;
}

int copy_settle(struct copy *copy, struct coresnap_error *err)
{
	int ret = copy_open(copy, err);

	if (ret < 0)
		return ret;
	if (copy->own_child)
		return copy_offer_to_oom(copy, err);
	ret = settle(copy);
	if (ret < 0) {
		err->pid = copy->pid;
		return error_set(err, CORESNAP_E_FAILED, -ret,
				 "the copy, process %d, did not give back its descriptors: %s",
				 copy->pid, error_errno_name(-ret));
	}
	return 0;
}
