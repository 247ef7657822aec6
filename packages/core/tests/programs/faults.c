/* SPDX-License-Identifier: BSD-3-Clause */
// What comes before each system call of the library in coresnap-dump-faults, for test_faults.py.
//
// CORESNAP_FAULT="WHAT AT" does WHAT to the ATth call:
//   count    nothing; the number of calls is written to standard output at the end
//   before   kill the process that makes the call, before it
//   after    ... after it
//   caller   kill the process that called the library, before the call
//   ERRNO    a number: let the call fail with it, unmade; at the end "ptrace" is written if it was one
#include "sys.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum what { NOTHING, COUNT, BEFORE, AFTER, CALLER, FAIL };

// The process that dumps has the same memory.
static long calls, at, failed;
static enum what what;
static int error;
static pid_t caller;

static __attribute__((constructor)) void choose(void)
{
	static const char *const names[] = { "", "count", "before", "after", "caller" };
	const char *const fault = getenv("CORESNAP_FAULT");
	char name[16] = "";

	if (!fault || sscanf(fault, "%15s %ld", name, &at) < 1)
		return;
	caller = getpid();
	what = FAIL;
	error = atoi(name);
	for (size_t i = COUNT; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(names[i], name) == 0)
			what = (enum what)i;
}

static __attribute__((destructor)) void tell(void)
{
	if (what == COUNT)
		printf("%ld\n", calls);
	if (what == FAIL)
		puts(failed == SYS_ptrace ? "ptrace" : "another");
}

static void kill_now(pid_t pid)
{
	sys_raw(SYS_kill, pid, SIGKILL, 0, 0, 0, 0);
}

// In the process that dumps there is no thread-local storage to touch.
long coresnap_fault_point(long nr, long a, long b, long c, long d, long e, long f)
{
	if (nr == SYS_exit || nr == SYS_exit_group)
		return sys_raw(nr, a, b, c, d, e, f);
	const bool now = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) == at;
	const pid_t me = (pid_t)sys_raw(SYS_getpid, 0, 0, 0, 0, 0, 0);

	if (now && what == FAIL) {
		failed = nr;
		return -error;
	}
	if (now && what == BEFORE)
		kill_now(me);
	if (now && what == CALLER)
		kill_now(caller);
	const long ret = sys_raw(nr, a, b, c, d, e, f);

	if (now && what == AFTER)
		kill_now(me);
	return ret;
}
