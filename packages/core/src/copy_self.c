/* SPDX-License-Identifier: BSD-3-Clause */
// The copy of a process that dumps itself.
//
// D: helper process that shares memory with the program, whose threads it has stopped
// G: a fork of D, hence of the program's memory
//
//   D: clone without CLONE_VM: G; no exit signal
//   G: dies with D (PR_SET_PDEATHSIG); closes all, names itself; sleeps for ever
//   D: thaws the program, reads /proc/G/mem, kills and reaps G
//
// G runs on a copy of D's stack, in code of this library and in nothing else.
#include <signal.h>
#include <sys/prctl.h>

#include "cleanup.h"
#include "copy_parts.h"
#include "step.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2
#endif

enum {
	MAX_FD = 4096, // where close_range(2) (Linux 5.9) is missing; D has a handful
};

static void write_score(void)
{
	const int fd = sys_openat(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY, 0);

	if (fd >= 0) {
		(void)sys_retry(SYS_write, fd, "1000", 4);
		sys_close(fd);
	}
}

static _Noreturn void sleep_as_copy(pid_t parent)
{
	sys_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	// D may have died before that.
	if (sys_call(SYS_getppid) == parent) {
		sys_call(SYS_prctl, PR_SET_NAME, COPY_NAME);
		write_score();
		if (sys_call(SYS_close_range, 0, -1, 0) < 0)
			for (int fd = 0; fd < MAX_FD; fd++)
				sys_close(fd);
		sys_call(SYS_chroot, "/proc/self/fdinfo");
		sys_call(SYS_chdir, "/");
		for (;;)
			sys_call(SYS_ppoll, NULL, 0, NULL, NULL, 0);
	}
	for (;;)
		sys_call(SYS_exit_group, 0);
}

int copy_create_self(struct copy *copy, struct freeze *freeze, struct coresnap_error *err)
{
	const pid_t me = (pid_t)sys_call(SYS_getpid);

	STEP();
	const long pid = sys_call(SYS_clone, 0, 0, 0, 0, 0);

	if (pid == 0)
		sleep_as_copy(me);
	if (pid < 0) {
		error_remedy(err, "Use the method stop, which makes no second process");
		return error_set(err, CORESNAP_E_FAILED, (int)-pid, "cannot fork: %s",
				 error_errno_name((int)-pid));
	}
	copy->target = freeze->target;
	copy->pid = (pid_t)pid;
	copy->own_child = true;
	return 0;
}
