// SPDX-License-Identifier: BSD-3-Clause
// The highest rung of a job: the kernel's own dump, which stops nothing that we would have to let go.
#include "account.h"
#include "gentle.h"
#include "job.h"
#include "livedump.h"

struct kernels_turn {
	struct livedump livedump;
	struct job *job;
	struct coresnap_error why;
};

static int run_livedump(void *arg)
{
	struct kernels_turn *const turn = arg;
	struct job *const job = turn->job;
	const int ret = livedump_run(&turn->livedump, &turn->why);

	return ret < 0 ? ret : sink_finish(&job->sink, &job->memory_fd, &turn->why);
}

int job_livedump(struct job *job)
{
	const bool forced = job->options.method == CORESNAP_METHOD_LIVEDUMP;
	struct kernels_turn turn = { .livedump = { .target = &job->target,
						   .arena = &job->arena,
						   .sink = &job->sink,
						   .options = &job->options,
						   .cancel = &job->dumper.cancel,
						   .progress = &job->progress,
						   .result = &job->result },
				     .job = job };

	if (!forced && (job->options.method != CORESNAP_METHOD_AUTO || job->first_tid ||
			!livedump_expected(&job->target)))
		return 0;
	int ret = livedump_options(&job->options, &turn.why);

	if (ret == 0)
		ret = gentle_run(job, run_livedump, &turn, &turn.why);
	if (ret == 0) {
		job->result.method = CORESNAP_METHOD_LIVEDUMP;
		job->mem.bytes_read = job->result.bytes_read;
		return 1;
	}
	if (forced || turn.livedump.began || turn.why.code == CORESNAP_E_CANCELLED) {
		job->error = turn.why;
		return ret;
	}
	account_refusal(job, CORESNAP_METHOD_LIVEDUMP, &turn.why);
	return 0;
}
