/* SPDX-License-Identifier: BSD-3-Clause */
#include "budget.h"

#include "cgroup.h"
#include "cleanup.h"
#include "procfs.h"
#include "sys.h"

// An eighth of what the kernel says can be had without swapping.
static uint64_t usual(void)
{
	uint64_t available;
	char text[4096];

	if (procfs_read(AT_FDCWD, "/proc/meminfo", text, sizeof(text)) <= 0 ||
	    !procfs_size_in(text, "MemAvailable:", &available))
		return 64u << 20;
	return available / 8;
}

// The dumper may be in the target's control group, a container: at its limit the kernel kills the
// largest there, which is hardly the dumper.
uint64_t budget_stage(const struct coresnap_options *options)
{
	const uint64_t most = options->stage_budget ? options->stage_budget : usual();
	const int self guard(guard_close) =
		sys_openat(AT_FDCWD, "/proc/self", O_RDONLY | O_DIRECTORY, 0);
	struct cgroup_room room;

	if (self < 0)
		return most;
	cgroup_look(self, &room);
	return most < room.memory / 2 ? most : room.memory / 2;
}
