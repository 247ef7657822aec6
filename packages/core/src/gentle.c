// SPDX-License-Identifier: BSD-3-Clause
#include "gentle.h"

#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/oom.h>
#include <sched.h>
#include <sys/resource.h>

#include "procfs.h"
#include "sys.h"

#define STACK_SIZE (256u << 10)

// linux/ioprio.h, which is younger than the calls (v5.15).
#define IO_WHO_PROCESS      1
#define IO_CLASS_OF(ioprio) ((ioprio) >> 13)
#define IO_BEST_EFFORT(n)   (2 << 13 | (n))
#define IO_IDLE             3

struct gentle {
	struct job *job;
	int (*work)(void *arg);
	void *arg;
	struct coresnap_error *err;
	int result;
	int tid; // a futex: 0 once L has ended
};

static int set_nice(const struct job *job, struct coresnap_error *err)
{
	const int nice = job->options.nice;
	const long own = 20 - sys_call(SYS_getpriority, PRIO_PROCESS, 0);
	const long ret = sys_call(SYS_setpriority, PRIO_PROCESS, 0, nice);

	if (ret < 0) {
		error_remedy(err, "Give at least %ld, run as root, or raise the limit (ulimit -e)",
			     own);
		return error_set(err, CORESNAP_E_NOT_PERMITTED, (int)-ret,
				 "the nice value %d is below the %ld that the dump would have, and "
				 "may not be taken",
				 nice, own);
	}
	// Threads that were made while the target stood still; those to come inherit it.
	for (unsigned int i = 0; job->squeeze.started && i < job->squeeze.n_squeezers; i++)
		sys_call(SYS_setpriority, PRIO_PROCESS, job->squeeze.squeezers[i].tid, nice);
	return 0;
}

static int set_io_prio(const struct job *job, struct coresnap_error *err)
{
	// Of the class idle, which has no levels, no other would be gentler.
	if (IO_CLASS_OF(sys_call(SYS_ioprio_get, IO_WHO_PROCESS, 0)) == IO_IDLE)
		return 0;
	const long ret =
		sys_call(SYS_ioprio_set, IO_WHO_PROCESS, 0, IO_BEST_EFFORT(job->options.io_prio));

	// A kernel without block devices has no such call.
	if (ret == 0 || ret == -ENOSYS)
		return 0;
	error_remedy(err, "Leave it out");
	return error_set(err, CORESNAP_E_NOT_PERMITTED, (int)-ret,
			 "the I/O priority %d may not be taken: %s", job->options.io_prio,
			 error_errno_name((int)-ret));
}

static int set_priorities(const struct job *job, struct coresnap_error *err)
{
	const unsigned int flags = job->options.flags;
	const int ret = flags & CORESNAP_NICE ? set_nice(job, err) : 0;

	return ret == 0 && flags & CORESNAP_IO_PRIO ? set_io_prio(job, err) : ret;
}

static int gentle_main(void *arg)
{
	struct gentle *const gentle = arg;

	gentle->result = set_priorities(gentle->job, gentle->err);
	if (gentle->result == 0)
		gentle->result = gentle->work(gentle->arg);
	return 0;
}

// What squeeze.c says of threads holds for this one, too.
static int run_thread(struct gentle *gentle, uint8_t *stack)
{
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			  CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	const int saved_errno = errno;
	const int pid = clone(gentle_main, stack + STACK_SIZE, flags, gentle, &gentle->tid, NULL,
			      &gentle->tid);
	const int why = errno;
	int left;

	errno = saved_errno;
	if (pid < 0)
		return -why;
	while ((left = __atomic_load_n(&gentle->tid, __ATOMIC_ACQUIRE)) != 0)
		sys_call(SYS_futex, &gentle->tid, FUTEX_WAIT, left, NULL, NULL, 0);
	return 0;
}

int gentle_run(struct job *job, int (*work)(void *arg), void *arg, struct coresnap_error *err)
{
	struct gentle gentle = { .job = job, .work = work, .arg = arg, .err = err };

	if (!(job->options.flags & (CORESNAP_NICE | CORESNAP_IO_PRIO)))
		return work(arg);
	if (!job->gentle_stack)
		job->gentle_stack = arena_alloc(&job->arena, STACK_SIZE);
	const int ret = job->gentle_stack ? run_thread(&gentle, job->gentle_stack) : -ENOMEM;

	if (ret < 0)
		return error_set(err, CORESNAP_E_FAILED, -ret,
				 "cannot make a thread for the dump: %s", error_errno_name(-ret));
	return gentle.result;
}

int gentle_oom_score(int oom_adj)
{
	// oom_adj_write() in fs/proc/base.c
	return oom_adj == OOM_ADJUST_MAX ? OOM_SCORE_ADJ_MAX :
					   oom_adj * OOM_SCORE_ADJ_MAX / -OOM_DISABLE;
}

// The copy begins with the score of the target.
static int check_oom(const struct job *job, struct coresnap_error *err)
{
	const int score = gentle_oom_score(job->options.oom_adj);
	char text[32];

	// No copy of ours.
	if (job->options.method == CORESNAP_METHOD_STOP ||
	    job->options.method == CORESNAP_METHOD_LIVEDUMP)
		return 0;
	if (procfs_read(job->target.proc_fd, "oom_score_adj", text, sizeof(text)) <= 0)
		return 0;
	const int of_target = text[0] == '-' ? -(int)procfs_number(text + 1, 10, NULL) :
					       (int)procfs_number(text, 10, NULL);

	if (score >= of_target || procfs_capable(CAP_SYS_RESOURCE))
		return 0;
	error_remedy(err, "Give a higher one, or run as root");
	return error_set(err, CORESNAP_E_NOT_PERMITTED, EACCES,
			 "the oom_adj %d, an oom_score_adj of %d, is below the %d of process %d, "
			 "and takes CAP_SYS_RESOURCE",
			 job->options.oom_adj, score, of_target, job->pid);
}

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

int gentle_check(struct job *job, struct coresnap_error *err)
{
	const int ret = gentle_run(job, nothing, NULL, err);

	return ret == 0 && job->options.flags & CORESNAP_OOM_ADJ ? check_oom(job, err) : ret;
}
