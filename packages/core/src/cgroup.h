/* SPDX-License-Identifier: BSD-3-Clause */
// What the control groups of a process leave it, the groups above them included.
#ifndef CORESNAP_CGROUP_H
#define CORESNAP_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

struct cgroup_room {
	uint64_t memory; // bytes, with what the kernel can take back of files; UINT64_MAX: no limit
	uint64_t pids;   // processes and threads more; UINT64_MAX: no limit
	bool frozen;     // nothing of it runs (version 2, where ptrace still stops it)
	bool all_die;    // when memory is short, the whole group is killed (memory.oom.group)
};

// Reads "cgroup" below a /proc/PID descriptor, and what it names below /sys/fs/cgroup (v1 and v2).
// What cannot be read is no limit.
void cgroup_look(int proc_fd, struct cgroup_room *ret);

#endif
