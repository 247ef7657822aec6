/* SPDX-License-Identifier: BSD-3-Clause */
// What the control groups of a process leave it, the groups above them included.
#ifndef CORESNAP_CGROUP_H
#define CORESNAP_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
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

// "4:memory:/path", or "0::/path" of version 2.
struct cgroup_line {
	const char *group; // begins with a slash, and lies in the text
	size_t len;
	bool unified, memory, pids; // the hierarchies that it stands for
};

// The next line of a /proc/PID/cgroup with a group that lies below our own root. *text moves on. Pure.
bool cgroup_next(const char **text, struct cgroup_line *ret);

// The number in a text of a file there; false for "max". Pure.
bool cgroup_number(const char *text, uint64_t *ret);

// Bytes that the kernel can take back of files, by "memory.stat" of interface version 1 or 2. Pure.
uint64_t cgroup_of_files(const char *stat, unsigned int version);

#endif
