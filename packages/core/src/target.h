/* SPDX-License-Identifier: BSD-3-Clause */
// The process that is dumped: held by a pidfd and a descriptor of its /proc directory, so that a
// reused pid can never be mistaken for it.
#ifndef CORESNAP_TARGET_H
#define CORESNAP_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "arch/arch.h"
#include "error.h"

struct target {
	pid_t pid;      // thread-group id in the caller's pid namespace
	int pidfd;      // -1 where pidfd_open(2) is missing
	int proc_fd;    // directory /proc/PID, or /proc/TID of the stand-in
	pid_t stand_in; // a thread that stands in for the main thread, which has exited; else 0
	int mem_fd;     // /proc/PID/mem, opened after the first stop; -1 before
	uint32_t uid, euid;
	uint64_t starttime;          // field 22 of /proc/PID/stat
	uint64_t exe_dev, exe_inode; // of /proc/PID/exe; 0 when we may not look
	const struct arch *arch;     // NULL until a thread was stopped
};

// A target that holds nothing: target_close() is safe on it.
#define TARGET_NONE ((struct target){ .pidfd = -1, .proc_fd = -1, .mem_fd = -1 })

// Opens the process and checks that it can be dumped at all: it exists, is a process (not a
// thread, zombie or kernel thread), nobody traces it, it is dumpable or flags (enum coresnap_flag)
// says so.
int must_check target_open(struct target *target, pid_t pid, unsigned int flags,
			   struct coresnap_error *err);
void target_close(struct target *target);

// Opens mem_fd. Needs ptrace access, so it is called with at least one thread seized.
int must_check target_open_mem(struct target *target, struct coresnap_error *err);

// Has the process exited?
bool target_exited(const struct target *target);

// Is it another program by now (execve since target_open)? Compares the executable's inode.
bool target_execed(const struct target *target);

// The row for the executable, before a thread was stopped; NULL when it cannot be known.
const struct arch *target_arch_of_exe(const struct target *target);

// Fills err for a PTRACE_SEIZE that the kernel refused with EPERM: names the gate that is closed.
int target_refused(const struct target *target, pid_t tid, struct coresnap_error *err);

// Bytes of the target's memory, PROT_NONE pages included. Returns how many were read, which is less
// than size when a page cannot be read; then -EFAULT, -EIO or another errno if it is the first one.
ssize_t must_check target_read(const struct target *target, uint64_t address, void *buf,
			       size_t size);

// Whole ranges of its memory, one behind the other, by a single call, in a stop: of single pages all
// over the memory twice as fast. Pins them (see target_read() in target.c), so it is for what the
// target has written to lately, which it does not share. Returns how many were read: less than n,
// perhaps 0, where the next one has a page that cannot be read this way.
size_t target_gather(const struct target *target, const struct iovec *ranges, size_t n, void *buf);

// All or nothing: 0 or a negative errno. Writes also to read-only pages (copy-on-write).
int must_check target_write(const struct target *target, uint64_t address, const void *buf,
			    size_t size);

#endif
