/* SPDX-License-Identifier: BSD-3-Clause */
// What comes before each system call of the library in coresnap-dump-faults and self-dump-faults, for
// test_faults.py.
//
// CORESNAP_FAULT="WHAT AT [dumper]" does WHAT to the ATth call; with "dumper" to the ATth of the process
// that makes the dump alone, which the other one starts:
//   count    nothing; the number of calls is told at the end
//   before   kill the process that makes the call, before it
//   after    ... after it
//   caller   kill the process that called the library, before the call
//   SIGINT, SIGTERM, SIGPIPE   send it that signal, before the call
//   ERRNO    a number: let the call fail with it, unmade; but for futex(2), which cannot fail to wake others
//
// To the file CORESNAP_FAULT_TOLD it writes at the end the name of the call, or how many there were, and
// "twice" if a descriptor was closed that was none.
#include "sys.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum what { NOTHING, COUNT, BEFORE, AFTER, CALLER, SIGNAL, FAIL };

static const struct {
	const char *name;
	enum what what;
	int signal;
} faults[] = {
	{ "count", COUNT, 0 },          { "before", BEFORE, 0 },
	{ "after", AFTER, 0 },          { "caller", CALLER, SIGKILL },
	{ "SIGINT", SIGNAL, SIGINT },   { "SIGTERM", SIGNAL, SIGTERM },
	{ "SIGPIPE", SIGNAL, SIGPIPE },
};

// The process that dumps has the same memory.
static long calls, at, hit;
static enum what what;
static int error, signal_number;
static bool twice, dumper_only;
static pid_t caller;

static __attribute__((constructor)) void choose(void)
{
	const char *const fault = getenv("CORESNAP_FAULT");
	char name[16] = "", whose[16] = "";

	if (!fault || sscanf(fault, "%15s %ld %15s", name, &at, whose) < 1)
		return;
	dumper_only = strcmp(whose, "dumper") == 0;
	caller = getpid();
	what = FAIL;
	error = atoi(name);
	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
		if (strcmp(faults[i].name, name) != 0)
			continue;
		what = faults[i].what;
		signal_number = faults[i].signal;
	}
}

static const char *name_of_hit(void)
{
	switch (hit) {
	case SYS_ptrace:
		return "ptrace";
	case SYS_munmap:
		return "munmap";
#ifdef SYS_mmap2
	case SYS_mmap2:
#else
	case SYS_mmap:
#endif
		return "mmap";
	}
	return "another";
}

static __attribute__((destructor)) void tell(void)
{
	const char *const path = getenv("CORESNAP_FAULT_TOLD");
	FILE *const to = path && getpid() == caller ? fopen(path, "w") : NULL;

	if (!to)
		return;
	if (what == COUNT)
		fprintf(to, "%ld", calls);
	else
		fputs(name_of_hit(), to);
	fputs(twice ? " twice\n" : "\n", to);
	fclose(to);
}

// self_dump.c ends by it. The name is the linker's (--wrap).
void __real__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status);

void __wrap__exit(int status)
{
	tell();
	__real__exit(status);
}

static void send_now(pid_t pid, int signal)
{
	sys_raw(SYS_kill, pid, signal, 0, 0, 0, 0);
}

// In the process that dumps there is no thread-local storage to touch.
long coresnap_fault_point(long nr, long a, long b, long c, long d, long e, long f)
{
	if (nr == SYS_exit || nr == SYS_exit_group)
		return sys_raw(nr, a, b, c, d, e, f);
	const pid_t me = (pid_t)sys_raw(SYS_getpid, 0, 0, 0, 0, 0, 0);
	const bool counts = !dumper_only || me != caller;
	const bool now = counts && __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) == at;

	if (now)
		hit = nr;
	if (now && what == FAIL && nr != SYS_futex)
		return -error;
	if (now && what == BEFORE)
		send_now(me, SIGKILL);
	if (now && (what == CALLER || what == SIGNAL))
		send_now(caller, signal_number);
	const long ret = sys_raw(nr, a, b, c, d, e, f);

	if (nr == SYS_close && ret == -EBADF)
		twice = true;
	if (now && what == AFTER)
		send_now(me, SIGKILL);
	return ret;
}
