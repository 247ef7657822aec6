/* SPDX-License-Identifier: BSD-3-Clause */
// What the threads of a running process tell about a dump of it.
#include <linux/capability.h>
#include <limits.h>
#include <string.h>

#include "arena.h"
#include "check.h"
#include "cleanup.h"
#include "copy.h"
#include "direct.h"
#include "freeze.h"
#include "procfs.h"
#include "seccomp.h"
#include "sys.h"
#include "track.h"
#include "victim.h"

enum {
	MAX_LOOKS = 64, // threads looked at closely, as victim_choose() does
	MOMENT_NS = 20000000,
};

// Where a thread waits for a file system in user space, at first as if it could be interrupted.
static const char fuse_wait[] = "request_wait_answer";

bool check_is_stuck(const struct target *target, const char *tid, uint64_t *switches)
{
	char path[48], text[64];
	struct procfs_status status;

	error_format(path, sizeof(path), "task/%s/status", tid);
	if (procfs_read_status(target->proc_fd, path, &status) < 0)
		return false;
	*switches += status.switches;
	if (status.state == 'D')
		return true;
	error_format(path, sizeof(path), "task/%s/wchan", tid);
	return status.state == 'S' && procfs_read(target->proc_fd, path, text, sizeof(text)) > 0 &&
	       strcmp(text, fuse_wait) == 0;
}

// All of them? And how often have they gone to sleep?
static bool all_stuck(const struct target *target, uint64_t *switches)
{
	struct procfs_dir dir guard(procfs_closedir) = { .fd = -1 };
	const char *name;

	*switches = 0;
	if (procfs_opendir(&dir, target->proc_fd, "task") < 0)
		return false;
	while ((name = procfs_readdir(&dir)))
		if (!check_is_stuck(target, name, switches))
			return false;
	return true;
}

int check_stops(const struct target *target, struct coresnap_error *err)
{
	uint64_t before, after;

	if (!all_stuck(target, &before))
		return 0;
	// Waiting for a disk looks the same, but is over soon.
	sys_call(SYS_ppoll, NULL, 0, &(struct timespec){ .tv_nsec = MOMENT_NS }, NULL, 0);
	if (!all_stuck(target, &after) || before != after)
		return 0;
	return freeze_too_late(target, err);
}

// PTRACE_SECCOMP_GET_FILTER: only for CAP_SYS_ADMIN of the first user namespace, and only for who has
// no filter (seccomp_get_filter in kernel/seccomp.c).
static bool reads_filters(void)
{
	static const char all[] = "4294967295";
	struct procfs_status own;
	char text[256];

	if (procfs_read_status(AT_FDCWD, "/proc/self/status", &own) < 0)
		return false;
	if (!procfs_has_cap(&own, CAP_SYS_ADMIN) || own.seccomp)
		return false;
	return procfs_read(AT_FDCWD, "/proc/self/uid_map", text, sizeof(text)) <= 0 ||
	       strstr(text, all);
}

// One thread that can bear it is enough.
static int check_threads(const struct target *target, const struct maps *maps,
			 struct coresnap_error *err)
{
	struct procfs_dir dir guard(procfs_closedir) = { .fd = -1 };
	struct coresnap_error first = { 0 };
	const bool reads = reads_filters();
	const char *name;
	uint64_t ignored = 0;

	if (procfs_opendir(&dir, target->proc_fd, "task") < 0)
		return 0;
	for (unsigned int looks = 0; looks < MAX_LOOKS && (name = procfs_readdir(&dir));) {
		const pid_t tid = (pid_t)procfs_number(name, 10, NULL);
		int seccomp = 0, ret;

		if (check_is_stuck(target, name, &ignored))
			continue;
		looks++;
		ret = victim_look(target, maps, tid, &seccomp, &first);
		if (ret == 0 && seccomp && !reads)
			ret = seccomp_unread(tid, -EPERM, &first);
		if (ret == 0)
			return 0;
	}
	if (!first.code)
		return 0;
	*err = first;
	return -EOPNOTSUPP;
}

// Is there a thread that calls could be injected into?
static int check_injection(const struct target *target, const struct maps *maps,
			   struct coresnap_error *err)
{
	const int ret = check_stops(target, err);

	return ret < 0 ? ret : check_threads(target, maps, err);
}

// Into itself nobody injects anything.
static bool is_self(const struct target *target)
{
	return target->pid == (pid_t)sys_call(SYS_getpid);
}

static int check_fork_of(const struct target *target, const struct maps *maps,
			 struct coresnap_error *err)
{
	const int ret = copy_affordable(target, maps, err);

	return ret < 0 || is_self(target) ? ret : check_injection(target, maps, err);
}

static int check_precopy_of(const struct target *target, const struct maps *maps,
			    struct coresnap_error *err)
{
	bool asks;
	int ret = direct_may_track(target, UINT_MAX, err);

	if (ret == 0)
		ret = track_possible(target, is_self(target), &asks, err);
	if (ret < 0 || is_self(target))
		return ret;
	*err = (struct coresnap_error){ 0 };
	ret = check_stops(target, err);
	if (ret < 0 || !asks)
		return ret;
	ret = check_threads(target, maps, err);
	if (ret == 0 || !track_possible_unasked(target))
		return ret;
	*err = (struct coresnap_error){ 0 };
	return 0;
}

static int with_maps(const struct target *target,
		     int (*check)(const struct target *target, const struct maps *maps,
				  struct coresnap_error *err),
		     struct coresnap_error *err)
{
	struct coresnap_error ignored = { 0 };
	struct arena arena;
	struct maps maps = { .arena = &arena };

	arena_init(&arena);
	if (maps_read(&maps, target->proc_fd, "maps", &ignored) < 0)
		maps.n = 0;
	const int ret = check(target, &maps, err);

	arena_deinit(&arena);
	return ret;
}

int check_fork(const struct target *target, struct coresnap_error *err)
{
	return with_maps(target, check_fork_of, err);
}

int check_precopy(const struct target *target, struct coresnap_error *err)
{
	return with_maps(target, check_precopy_of, err);
}
