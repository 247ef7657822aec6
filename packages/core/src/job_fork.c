/* SPDX-License-Identifier: BSD-3-Clause */
// The method fork in the course of a dump.
#include "allowance.h"
#include "cleanup.h"
#include "direct.h"
#include "job_parts.h"
#include "snapmaps.h"
#include "sys.h"
#include "tags.h"

// What was known of reads in the background before the stop may have just begun.
static int look_at_reads(const struct job *job, struct coresnap_error *err)
{
	const struct maps *const now = &job->snapshot.maps;
	const int ret = direct_may_fork_now(&job->freeze, err);

	if (ret < 0 || direct_in_background(&job->what.ahead))
		return ret;
	return direct_may_fork(&job->target, now, err);
}

// What a fork would not carry over is copied while the target is stopped, the rest comes from the
// copy while it runs.
int job_make_copy(struct job *job, struct coresnap_error *err)
{
	struct mem *mem = &job->mem;
	char text[32];
	if (job->unaffordable.code) {
		*err = job->unaffordable;
		return -err->os_errno;
	}
	phases_enter(&job->phases, CORESNAP_PHASE_SCAN);
	mem->deadline_ns = allowance_deadline_ns(job, CORESNAP_METHOD_FORK);
	int ret = allowance_covers(job, CORESNAP_METHOD_FORK, err);

	if (ret == 0)
		ret = snapmaps_unforkable(&job->snapshot, &job->target, &job->what, err);
	if (ret == 0)
		ret = look_at_reads(job, err);
	if (ret == 0 && !job->first_tid)
		ret = copy_possible(&job->copy, &job->freeze, &job->snapshot.maps, err);

	if (ret < 0)
		return ret;
	if (job->copy.left)
		snapmaps_forget(&job->snapshot, job->copy.left);
	ret = mem_scan(mem, &job->snapshot, MEM_UNFORKABLE, err);
	if (ret < 0)
		return ret;
	if (mem_size(mem, 0) + tags_size(mem, &job->snapshot) > job->estimate.budget) {
		error_remedy(err,
			     "Raise the stage budget, or leave shared memory out by the filter");
		return error_set(err, CORESNAP_E_FAILED, ENOMEM,
				 "%s of shared or unforkable memory do not fit the stage budget",
				 error_size(text, sizeof(text), mem_size(mem, 0)));
	}
	ret = job_stage(job, 0, err);
	if (ret < 0)
		return ret;
	return job->first_tid ? copy_create_self(&job->copy, &job->freeze, err) :
				copy_create(&job->copy, &job->freeze, err);
}

static int write_copy(void *arg)
{
	struct job *const job = arg;
	int ret = snapmaps_from_copy(&job->snapshot, &job->copy_image, &job->error);

	if (ret == 0)
		ret = mem_scan(&job->mem, &job->snapshot, MEM_FORKED, &job->error);
	if (ret < 0)
		return ret;
	if (mem_sort(&job->mem) < 0)
		return error_set(&job->error, CORESNAP_E_FAILED, ENOMEM,
				 "no memory to list the pages");
	return job_write_memory(job);
}

int job_dump_copy(struct job *job)
{
	struct mem *mem = &job->mem;
	int ret;

	job_thaw(job);
	ret = copy_settle(&job->copy, &job->error);
	if (ret < 0)
		return ret;
	const int pidfd guard(guard_close) = (int)sys_call(SYS_pidfd_open, job->copy.pid, 0);

	job->copy_image = (struct target){ .pid = job->copy.pid,
					   .pidfd = pidfd,
					   .proc_fd = job->copy.proc_fd,
					   .mem_fd = job->copy.mem_fd,
					   .arch = job->target.arch };
	mem->image = &job->copy_image;
	mem->tracee = 0;
	return job_end_core(job, write_copy);
}
