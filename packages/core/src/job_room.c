// SPDX-License-Identifier: BSD-3-Clause
// How large a core will be, before anything is done for it, and is there room?
#include <errno.h>

#include "job_parts.h"
#include "snapmaps.h"
#include "survey.h"
#include "sys.h"

int job_survey(struct job *job, struct snapshot_options *what, struct coresnap_estimate *estimate,
	       struct coresnap_error *err)
{
	*what = (struct snapshot_options){ .has_filter = job->options.flags & CORESNAP_FILTER,
					   .filter = job->options.filter };
	const int ret = snapmaps_ahead(what, &job->target, &job->arena, err);

	if (ret == 0)
		survey_maps(estimate, &what->ahead, what->filter, (uint64_t)sysconf(_SC_PAGESIZE),
			    NULL);
	return ret;
}

static uint64_t least(uint64_t bytes, uint64_t limit)
{
	return limit && limit < bytes ? limit : bytes;
}

// What its file will take, but for headers and the kernel's notes; 0 if that cannot be told. Who may not
// read of the target what it takes is refused later, with the reason.
static uint64_t expected(struct job *job)
{
	const struct coresnap_options *const options = &job->options;
	struct snapshot_options what;
	struct coresnap_estimate estimate = { 0 };
	struct coresnap_error ignored = { 0 };

	// How far it can be compressed shows when it is.
	if (job->sink.squeeze || job_survey(job, &what, &estimate, &ignored) < 0)
		return 0;
	for (size_t i = 0; i < options->n_notes; i++)
		estimate.kept += options->notes[i].size;
	return least(least(estimate.kept, options->max_size), options->core_limit);
}

int job_check_room(struct job *job)
{
	return job->options.min_free ? sink_has_room(&job->sink, expected(job), &job->error) : 0;
}
