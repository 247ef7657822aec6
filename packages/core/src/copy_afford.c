/* SPDX-License-Identifier: BSD-3-Clause */
// May there be a copy? What would make the kernel refuse it, or kill a process for it, is known
// before anything is injected.
#include <linux/capability.h>
#include <string.h>

#include "cgroup.h"
#include "cleanup.h"
#include "copy.h"
#include "direct.h"
#include "procfs.h"

enum {
	MORE = 2,                 // H and G
	SLACK = 1 << 20,          // for what the kernel has of a process besides page tables
	RESERVE = 8 << 20,        // admin_reserve_kbytes
	MOST_RESERVE = 128 << 20, // user_reserve_kbytes
};

static const char stop_instead[] = "or use the method stop";

static uint64_t in_huge_pages(const struct target *target)
{
	uint64_t size = 0;
	char text[4096];

	if (procfs_read(target->proc_fd, "smaps_rollup", text, sizeof(text)) > 0)
		procfs_size_in(text, "AnonHugePages:", &size);
	return size;
}

// The fork takes page tables, and each page that the target writes to afterwards is taken anew. A
// group that has no more kills, and in the middle of the fork there is nobody but the target. Later it
// is the copy. But that gives back nothing of a huge page to which the target has written in part: seen
// on Linux 6.1, where the target was killed next.
static int check_memory(const struct target *target, const struct procfs_status *status,
			const struct cgroup_room *room, struct coresnap_error *err)
{
	uint64_t need = status->vm_pte + status->vm_pte / 4 + SLACK;
	char left[32], wanted[32];

	// To count huge pages takes as long as to walk the page tables.
	if (room->memory < need + status->rss_anon)
		need += room->all_die ? status->rss_anon : in_huge_pages(target);
	if (room->memory >= need)
		return 0;
	error_remedy(err, "Raise its limit (memory.max, memory.limit_in_bytes), %s", stop_instead);
	return error_set(
		err, CORESNAP_E_FAILED, ENOMEM,
		"process %d cannot be copied: its control group has %s of memory left, the "
		"copy would take up to %s, and the kernel would kill %s",
		target->pid, error_size(left, sizeof(left), room->memory),
		error_size(wanted, sizeof(wanted), need),
		room->all_die ? "the whole group" : "a process of it");
}

// A thread of it stops, but goes back to sleep when it is to run a call.
static int check_frozen(const struct target *target, const struct cgroup_room *room,
			struct coresnap_error *err)
{
	if (!room->frozen)
		return 0;
	error_remedy(err, "Thaw it (cgroup.freeze; a container may be paused), %s", stop_instead);
	return error_set(
		err, CORESNAP_E_FAILED, EBUSY,
		"process %d cannot be copied: its control group is frozen, and the copy is "
		"made by calls of its own",
		target->pid);
}

static int check_pids(const struct target *target, const struct cgroup_room *room,
		      struct coresnap_error *err)
{
	if (room->pids >= MORE)
		return 0;
	error_remedy(err, "Raise its pids.max by %d, %s", MORE, stop_instead);
	return error_set(
		err, CORESNAP_E_FAILED, EAGAIN,
		"process %d cannot be copied: its control group may have no more processes "
		"and threads (pids.max)",
		target->pid);
}

// All processes and threads of the system: "0.50 0.60 0.70 2/345 6789".
static uint64_t all_tasks(void)
{
	char text[128];
	const char *slash = NULL;

	if (procfs_read(AT_FDCWD, "/proc/loadavg", text, sizeof(text)) > 0)
		slash = strchr(text, '/');
	return slash ? procfs_number(slash + 1, 10, NULL) : UINT64_MAX;
}

static uint64_t tasks_of(uint32_t uid)
{
	struct procfs_dir dir guard(procfs_closedir) = { .fd = -1 };
	const int proc guard(guard_close) =
		sys_openat(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY, 0);
	const char *name;
	uint64_t count = 0;

	if (proc < 0 || procfs_opendir(&dir, AT_FDCWD, "/proc") < 0)
		return 0;
	while ((name = procfs_readdir(&dir))) {
		struct procfs_status status;
		char path[32];

		if (*name < '0' || *name > '9')
			continue;
		error_format(path, sizeof(path), "%s/status", name);
		if (procfs_read_status(proc, path, &status) == 0 && status.uid == uid)
			count += status.threads;
	}
	return count;
}

// copy_process() in kernel/fork.c.
static int check_user(const struct target *target, const struct procfs_status *status,
		      struct coresnap_error *err)
{
	const uint64_t limit = procfs_limit(target->proc_fd, "Max processes", false);

	if (status->uid == 0 || procfs_has_cap(status, CAP_SYS_ADMIN) ||
	    procfs_has_cap(status, CAP_SYS_RESOURCE) || limit == UINT64_MAX)
		return 0;
	// Counting takes long, and limits are mostly far away.
	if (all_tasks() + MORE <= limit || tasks_of(status->uid) + MORE <= limit)
		return 0;
	error_remedy(err, "Raise its limit of processes (prlimit --nproc), %s", stop_instead);
	return error_set(err, CORESNAP_E_FAILED, EAGAIN,
			 "process %d cannot be copied: its user %u may have no more processes and "
			 "threads than %llu (ulimit -u)",
			 target->pid, status->uid, (unsigned long long)limit);
}

// __vm_enough_memory() in mm/util.c. Otherwise the kernel promises what is not there.
static int check_commit(const struct target *target, const struct procfs_status *status,
			struct coresnap_error *err)
{
	const uint64_t need = status->vm_data + status->vm_stack;
	const uint64_t own = status->vm_size / 32;
	uint64_t promised = 0, limit = 0;
	char text[4096], size[32];

	if (procfs_read(AT_FDCWD, "/proc/sys/vm/overcommit_memory", text, sizeof(text)) <= 0 ||
	    *text != '2' || procfs_read(AT_FDCWD, "/proc/meminfo", text, sizeof(text)) <= 0)
		return 0;
	procfs_size_in(text, "Committed_AS:", &promised);
	procfs_size_in(text, "CommitLimit:", &limit);
	if (promised + need + RESERVE + (own < MOST_RESERVE ? own : MOST_RESERVE) < limit)
		return 0;
	error_remedy(err, "Raise vm.overcommit_ratio, %s", stop_instead);
	return error_set(
		err, CORESNAP_E_FAILED, ENOMEM,
		"process %d cannot be copied: the copy might need %s more, which the system "
		"does not promise (vm.overcommit_memory is 2)",
		target->pid, error_size(size, sizeof(size), need));
}

int copy_affordable(const struct target *target, const struct maps *maps, struct coresnap_error *err)
{
	struct procfs_status status;
	struct cgroup_room room;

	if (procfs_read_status(target->proc_fd, "status", &status) < 0)
		return 0;
	cgroup_look(target->proc_fd, &room);
	int ret = check_frozen(target, &room, err);

	if (ret == 0)
		ret = check_memory(target, &status, &room, err);
	if (ret == 0)
		ret = check_pids(target, &room, err);
	if (ret == 0)
		ret = check_user(target, &status, err);
	if (ret == 0)
		ret = check_commit(target, &status, err);
	if (ret == 0)
		ret = direct_may_fork(target, maps, err);
	if (ret < 0)
		err->pid = target->pid;
	return ret;
}
