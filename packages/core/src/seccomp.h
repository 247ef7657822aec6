/* SPDX-License-Identifier: BSD-3-Clause */
// Would a thread's seccomp filters let these system calls pass? Injected calls are judged by them
// like the program's own, and a filter may kill the process for one.
//
// The filters are read and run here. PTRACE_O_SUSPEND_SECCOMP would not do: it ends with the
// tracer, and the helper thread makes its last calls untraced.
#ifndef CORESNAP_SECCOMP_H
#define CORESNAP_SECCOMP_H

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "arena.h"
#include "error.h"

struct seccomp_call {
	int32_t nr;
	uint64_t args[6];
};

// 0 when every filter of the stopped thread allows every call made at pc; -EACCES when one does
// not (*denied gets the index of the call) and another negative errno when a filter cannot be read,
// which takes CAP_SYS_ADMIN and a dumper that has no filter itself.
int must_check seccomp_allows(pid_t tid, struct arena *arena, uint32_t audit, uint64_t pc,
			      const struct seccomp_call *calls, size_t n_calls, size_t *denied);

// Says that a thread's filter cannot be read, by a negative errno, and what would help.
int seccomp_unread(pid_t tid, int ret, struct coresnap_error *err);

// Runs a filter on a call. 0 and what it returns (SECCOMP_RET_*), or -EINVAL for a program that the
// kernel would not have accepted. Pure.
int must_check seccomp_run(const struct sock_filter *code, size_t n, uint32_t audit, uint64_t pc,
			   const struct seccomp_call *call, uint32_t *ret);

#endif
