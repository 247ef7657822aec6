// SPDX-License-Identifier: BSD-3-Clause
// What the errors of /proc/PID/livedump mean: Documentation/admin-guide/livedump.rst of the series.
#include <errno.h>

#include "error.h"

struct refusal {
	int os_errno;
	enum coresnap_code code;
	const char *why, *remedy;
};

static const struct refusal refusals[] = {
	{ EINVAL, CORESNAP_E_NO_PROCESS, "it is a kernel thread or a copy made by livedump", "" },
	{ ESRCH, CORESNAP_E_NO_PROCESS, "it is gone or dying", "" },
	{ EACCES, CORESNAP_E_NOT_PERMITTED, "you may not attach to it as a debugger",
	  "try as its user, or as root" },
	{ EPERM, CORESNAP_E_NOT_PERMITTED,
	  "it is not dumpable, or more is asked for than you may have (a core limit above its hard "
	  "limit, a nice value or an oom_adj below its own)",
	  "try as root, or leave options out" },
	{ EINPROGRESS, CORESNAP_E_FAILED, "another livedump of it is being taken",
	  "try again later" },
	{ EBUSY, CORESNAP_E_FAILED,
	  "it serves the kernel (PR_SET_IO_FLUSHER), or its forks are told to a userfaultfd",
	  "try another method: `coresnap dump --method stop`" },
	{ EAGAIN, CORESNAP_E_FAILED,
	  "it is frozen, or it, its cgroup or the system has as many tasks as are allowed",
	  "thaw it, or raise pids.max or the like" },
	{ ENOMEM, CORESNAP_E_FAILED, "there is not enough memory for a copy of it", "" },
	{ ENOSPC, CORESNAP_E_FAILED, "there are as many pid namespaces as are allowed",
	  "raise /proc/sys/user/max_pid_namespaces" },
	{ ENOEXEC, CORESNAP_E_FAILED, "programs of its format have no cores", "" },
	{ ETIMEDOUT, CORESNAP_E_DEADLINE, "it could not be stopped in time",
	  "try again, or raise /sys/module/livedump/parameters/stop_timeout_ms" },
	{ ECANCELED, CORESNAP_E_FAILED, "the copy that was to dump was killed", "try again" },
	{ EINTR, CORESNAP_E_FAILED, "the process that had asked for it was killed", "try again" },
	{ EIO, CORESNAP_E_FAILED, "the kernel could not write the core",
	  "look at core_pattern and core_pipe_limit in /proc/sys/kernel, and at the kernel's log" },
};

int coresnap_livedump_error(pid_t pid, int os_errno, struct coresnap_error *error)
{
	static const struct refusal other = { 0, CORESNAP_E_FAILED, "for a reason of its own", "" };
	const struct refusal *refusal = &other;

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (refusals[i].os_errno == os_errno)
			refusal = &refusals[i];
	*error = (struct coresnap_error){ .pid = pid };
	if (refusal->remedy[0])
		error_remedy(error, "%s", refusal->remedy);
	error_set(error, refusal->code, os_errno,
		  "process %d cannot be dumped by the kernel: %s (%s)", pid, refusal->why,
		  error_errno_name(os_errno));
	return error->code;
}
