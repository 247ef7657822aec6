/* SPDX-License-Identifier: BSD-3-Clause */
#include "allowance.h"

#include "budget.h"
#include "estimate.h"
#include "survey.h"
#include "sys.h"

// mem_stage() looks at the clock between pieces.
#define PIECE (1u << 20)

static const char remedy[] = "Allow a longer pause, or dump without a limit";

// "20.5 ms", "17 us"
static const char *duration(char *buf, size_t size, uint64_t ns)
{
	const uint64_t tenths = (ns + 50000) / 100000;

	if (ns < 1000000)
		error_format(buf, size, "%llu us", (unsigned long long)(ns / 1000));
	else
		error_format(buf, size, "%llu.%llu ms", (unsigned long long)(tenths / 10),
			     (unsigned long long)(tenths % 10));
	return buf;
}

void allowance_estimate(struct job *job)
{
	struct coresnap_estimate *const estimate = &job->estimate;

	*estimate = (struct coresnap_estimate){ .threads = (unsigned int)job->freeze.n_threads };
	survey_maps(estimate, &job->what.ahead, job->what.filter, (uint64_t)sysconf(_SC_PAGESIZE),
		    NULL);
	estimate->budget = budget_stage(&job->options);
	// Without a limit only which method is shorter matters, which for a small target is known.
	if (job->options.max_pause_ns)
		estimate->copy_ns =
			survey_copy_ns(&job->target, &job->what.ahead, &job->arena);
}

static bool is_stopped(const struct job *job)
{
	return job->freeze.began_ns && !job->freeze.ended_ns;
}

static uint64_t left_ns(const struct job *job)
{
	const uint64_t all = job->options.max_pause_ns;
	const uint64_t used = is_stopped(job) ? sys_now_ns() - job->freeze.began_ns : 0;

	return used < all ? all - used : 0;
}

// What is to come of it.
static uint64_t need_ns(const struct job *job, int method)
{
	const struct estimate_parts parts = estimate_parts(&job->estimate, method);
	const bool ahead = method == CORESNAP_METHOD_PRECOPY && job->precopy.ready;
	const uint64_t copy_ns =
		ahead ? estimate_copy_ns(&job->estimate, precopy_left(&job->precopy)) : 0;

	return parts.memory_ns + copy_ns + (is_stopped(job) ? parts.thaw_ns : parts.threads_ns);
}

int allowance_covers(const struct job *job, int method, struct coresnap_error *err)
{
	char need[32], most[32], left[32];

	if (!job->options.max_pause_ns || need_ns(job, method) <= left_ns(job))
		return 0;
	duration(need, sizeof(need), need_ns(job, method));
	duration(most, sizeof(most), job->options.max_pause_ns);
	duration(left, sizeof(left), left_ns(job));
	error_remedy(err, "%s", remedy);
	if (is_stopped(job))
		return error_set(err, CORESNAP_E_PAUSE, ETIME,
				 "process %d was let go: the method %s would take about %s more, "
				 "and of the pause of %s that is allowed %s were left",
				 job->pid, coresnap_method_name(method), need, most, left);
	return error_set(err, CORESNAP_E_PAUSE, ETIME,
			 "process %d would stand still for about %s by the method %s, and %s are "
			 "allowed",
			 job->pid, need, coresnap_method_name(method), most);
}

int allowance_begin(const struct job *job, bool forks, struct coresnap_error *err)
{
	struct coresnap_error ignored = { 0 };
	const int method = job->options.method;

	if (job->precopy.ready && allowance_covers(job, CORESNAP_METHOD_PRECOPY, &ignored) == 0)
		return 0;
	if (method == CORESNAP_METHOD_PRECOPY)
		return allowance_covers(job, method, err);
	if (method != CORESNAP_METHOD_FORK &&
	    allowance_covers(job, CORESNAP_METHOD_STOP, &ignored) == 0)
		return 0;
	return allowance_covers(job, forks ? CORESNAP_METHOD_FORK : CORESNAP_METHOD_STOP, err);
}

uint64_t allowance_stop_ns(const struct job *job, uint64_t timeout_ns, bool *limited)
{
	const int method = job->options.method;
	uint64_t need = UINT64_MAX;

	*limited = false;
	if (!job->options.max_pause_ns)
		return timeout_ns;
	for (int each = 0; each < CORESNAP_MAX_METHODS; each++) {
		const struct estimate_parts parts = estimate_parts(&job->estimate, each);
		const uint64_t this = parts.memory_ns + parts.thaw_ns;

		if (this && this < need && (method == each || method == CORESNAP_METHOD_AUTO))
			need = this;
	}
	const uint64_t all = job->options.max_pause_ns, left = need < all ? all - need : 0;

	*limited = left < timeout_ns;
	return *limited ? left : timeout_ns;
}

int allowance_stopped(const struct job *job, bool limited, struct coresnap_error *err)
{
	const struct freeze *const freeze = &job->freeze;
	unsigned int missed = 0;
	char most[32];

	for (size_t i = 0; i < freeze->n_threads; i++)
		missed += freeze->threads[i].state == THREAD_MISSED;
	// What failed otherwise is told as it is.
	if (!limited || !missed || (err->code && err->code != CORESNAP_E_DEADLINE))
		return 0;
	*err = (struct coresnap_error){ 0 };
	error_remedy(err, "%s", remedy);
	return error_set(err, CORESNAP_E_PAUSE, ETIME,
			 "process %d was let go: %u of its threads did not stop in time for a pause "
			 "of %s",
			 job->pid, missed,
			 duration(most, sizeof(most), job->options.max_pause_ns));
}

uint64_t allowance_deadline_ns(const struct job *job, int method)
{
	const struct coresnap_estimate *const estimate = &job->estimate;
	const struct estimate_parts parts = estimate_parts(estimate, method);
	const uint64_t copy = estimate_copy_ns(estimate, estimate->unforkable);
	const uint64_t all = job->options.max_pause_ns;
	uint64_t rest = parts.thaw_ns + estimate_copy_ns(estimate, PIECE);

	// The fork comes behind the copying, and cannot be interrupted.
	if (method == CORESNAP_METHOD_FORK && parts.memory_ns > copy)
		rest += parts.memory_ns - copy;
	return all ? job->freeze.began_ns + (rest < all ? all - rest : 0) : 0;
}

int allowance_used_up(const struct job *job, struct coresnap_error *err)
{
	char most[32];

	*err = (struct coresnap_error){ 0 };
	error_remedy(err, "%s", remedy);
	return error_set(err, CORESNAP_E_PAUSE, ETIME,
			 "process %d was let go: its memory was not copied within the pause of %s "
			 "that is allowed",
			 job->pid, duration(most, sizeof(most), job->options.max_pause_ns));
}
