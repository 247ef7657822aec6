// SPDX-License-Identifier: BSD-3-Clause
// Would a dump begin? What can be told of it without touching the process.
#include "check.h"

#include "cleanup.h"
#include "coresnap.h"
#include "livedump.h"
#include "sys.h"
#include "target.h"

// Opening the memory asks the kernel what attaching to the process would ask it.
int check_attach(struct target *target, struct coresnap_error *err)
{
	struct coresnap_error why = { 0 };

	if (target_open_mem(target, &why) == 0 || target->pid == (pid_t)sys_call(SYS_getpid))
		return 0;
	if (why.os_errno == EACCES || why.os_errno == EPERM)
		return target_refused(target, 0, err);
	*err = why;
	return -why.os_errno;
}

static int check(struct target *target, int method, struct coresnap_error *err)
{
	int ret;

	switch (method) {
	case CORESNAP_METHOD_LIVEDUMP:
		ret = livedump_open(target, err);
		if (ret < 0)
			return ret;
		guard_close(&ret);
		return 0;
	case CORESNAP_METHOD_FORK:
		ret = check_attach(target, err);
		return ret < 0 ? ret : check_fork(target, err);
	case CORESNAP_METHOD_PRECOPY:
		ret = check_attach(target, err);
		return ret < 0 ? ret : check_precopy(target, err);
	default:
		ret = check_attach(target, err);
		return ret < 0 ? ret : check_stops(target, err);
	}
}

int coresnap_check(pid_t pid, int method, struct coresnap_error *error)
{
	struct coresnap_error local = { 0 };
	struct target target = TARGET_NONE;

	if (method != CORESNAP_METHOD_LIVEDUMP && method != CORESNAP_METHOD_FORK &&
	    method != CORESNAP_METHOD_PRECOPY && method != CORESNAP_METHOD_STOP)
		error_set(&local, CORESNAP_E_USAGE, EINVAL, "there is no method number %d to check",
			  method);
	else if (target_open(&target, pid, 0, &local) == 0 && check(&target, method, &local) == 0)
		local = (struct coresnap_error){ 0 };
	target_close(&target);
	if (local.code)
		local.pid = pid;
	if (error)
		*error = local;
	return local.code;
}
