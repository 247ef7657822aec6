/* SPDX-License-Identifier: BSD-3-Clause */
// The method precopy in the course of a dump.
#include <errno.h>
#include <limits.h>

#include "account.h"
#include "allowance.h"
#include "budget.h"
#include "direct.h"
#include "estimate.h"
#include "job_parts.h"
#include "procfs.h"
#include "sys.h"

// Descriptors looked at a second time: with more it would take longer than what it is to be near.
enum { LOOKS_AGAIN = 4096 };

static bool tries_precopy(const struct job *job)
{
	const int method = job->options.method;

	return method == CORESNAP_METHOD_PRECOPY ||
	       (method == CORESNAP_METHOD_AUTO && estimate_prefers_precopy(&job->estimate));
}

// It came to nothing: 0 where another method's turn is.
static int step_down(struct job *job, const struct coresnap_error *why)
{
	if (job->options.method == CORESNAP_METHOD_PRECOPY || why->code == CORESNAP_E_TARGET_GONE ||
	    why->code == CORESNAP_E_CANCELLED || why->code == CORESNAP_E_PAUSE) {
		job->error = *why;
		return -EIO;
	}
	account_refusal(job, CORESNAP_METHOD_PRECOPY, why);
	return 0;
}

// Nothing is begun that would stand still for too long; of other methods that is asked when they are.
static int not_allowed(struct job *job, const struct coresnap_error *why)
{
	if (job->options.method == CORESNAP_METHOD_PRECOPY)
		return step_down(job, why);
	account_refusal(job, CORESNAP_METHOD_PRECOPY, why);
	return 0;
}

static int estimate(struct job *job, struct coresnap_error *err)
{
	const int ret = job_survey(job, &job->what, &job->estimate, err);
	struct procfs_status status;

	if (procfs_read_status(job->target.proc_fd, "status", &status) == 0)
		job->estimate.threads = status.threads;
	job->estimate.budget = budget_stage(&job->options);
	return ret;
}

int job_copy_ahead(struct job *job)
{
	struct coresnap_error why = { 0 };

	if (job->options.method != CORESNAP_METHOD_AUTO &&
	    job->options.method != CORESNAP_METHOD_PRECOPY)
		return 0;
	// Opening the memory asks the kernel what attaching would ask, which has words of its own.
	if (target_open_mem(&job->target, &why) < 0)
		return job->options.method == CORESNAP_METHOD_AUTO ?
			       0 :
			       target_refused(&job->target, 0, &job->error);
	if (estimate(job, &why) < 0)
		return step_down(job, &why);
	if (!tries_precopy(job))
		return 0;
	if (allowance_covers(job, CORESNAP_METHOD_PRECOPY, &why) < 0)
		return not_allowed(job, &why);
	if (direct_may_track(&job->target, UINT_MAX, &why) < 0)
		return step_down(job, &why);
	phases_enter(&job->phases, CORESNAP_PHASE_AHEAD);
	return precopy_begin(job, &why) == 0 ? 0 : step_down(job, &why);
}

// The stop copies about as much as the last pass did. Of soft-dirty bits there was but one, of all.
static int keeps_up(const struct job *job, struct coresnap_error *err)
{
	const uint64_t left = precopy_left(&job->precopy);
	char size[32];

	if (job->options.method == CORESNAP_METHOD_PRECOPY || job->precopy.passes <= 1 ||
	    !estimate_prefers_fork(&job->estimate, left))
		return 0;
	return error_set(err, CORESNAP_OK, 0,
			 "the process writes nearly as fast as its memory can be copied: a fork is "
			 "shorter than copying the last %s",
			 error_size(size, sizeof(size), left));
}

int job_copy_once_more(struct job *job)
{
	struct coresnap_error why = { 0 };

	// Who has opened a file meanwhile may have read it, too.
	if (direct_may_track(&job->target, LOOKS_AGAIN, &why) == 0 &&
	    precopy_once_more(job, &why) == 0 && keeps_up(job, &why) == 0)
		return 0;
	precopy_close(job);
	return step_down(job, &why);
}

static int write_precopied(void *arg)
{
	struct job *const job = arg;
	const int ret = precopy_settle(job, &job->error);

	return ret < 0 ? ret : job_write_memory(job);
}

static int dump_precopied(struct job *job)
{
	job_thaw(job);
	return job_end_core(job, write_precopied);
}

bool job_precopied(struct job *job, int *ret)
{
	struct coresnap_error why = { 0 };

	if (!job->precopy.ready)
		return false;
	phases_enter(&job->phases, CORESNAP_PHASE_SCAN);
	if (precopy_end(job, &why) == 0) {
		job->result.method = CORESNAP_METHOD_PRECOPY;
		*ret = dump_precopied(job);
		return true;
	}
	*ret = step_down(job, &why);
	precopy_give_up(job);
	if (*ret == 0)
		job_forget_copy(job);
	return *ret < 0;
}
