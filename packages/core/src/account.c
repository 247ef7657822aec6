/* SPDX-License-Identifier: BSD-3-Clause */
#include "account.h"

void account_skip(struct job *job, int reason, uint64_t start, uint64_t end, int tid)
{
	struct coresnap_result *result = &job->result;

	result->bytes_skipped[reason] += end - start;
	if (result->n_skips < job->options.max_skips)
		job->options.skips[result->n_skips] = (struct coresnap_skip){
			.start = start, .end = end, .reason = reason, .tid = tid
		};
	result->n_skips++;
}

static void skip_unreadable(void *arg, uint64_t start, uint64_t end)
{
	account_skip(arg, CORESNAP_SKIP_UNREADABLE, start, end, 0);
}

static void skip_unmapped(void *arg, uint64_t start, uint64_t end)
{
	account_skip(arg, CORESNAP_SKIP_UNMAPPED, start, end, 0);
}

static void skip_untagged(void *arg, uint64_t start, uint64_t end)
{
	account_skip(arg, CORESNAP_SKIP_TAGS, start, end, 0);
}

void account_watch(struct job *job)
{
	job->mem.unreadable = skip_unreadable;
	job->mem.unmapped = skip_unmapped;
	job->mem.untagged = skip_untagged;
	job->mem.skip_arg = job;
}

void account_refusal(struct job *job, int method, const struct coresnap_error *why)
{
	struct coresnap_result *result = &job->result;

	if (result->n_refusals == CORESNAP_MAX_REFUSALS)
		return;
	struct coresnap_refusal *refusal = &result->why_not[result->n_refusals++];

	refusal->method = method;
	error_format(refusal->reason, sizeof(refusal->reason), "%s", why->what);
	error_format(refusal->remedy, sizeof(refusal->remedy), "%s", why->remedy);
}

// What the snapshot tells about the core goes into the result.
void account_maps(struct job *job)
{
	const struct snapshot *s = &job->snapshot;

	job->result.threads = (unsigned int)s->n_threads;
	job->result.segments = (unsigned int)s->maps.n;
	for (size_t i = 0; i < s->maps.n; i++) {
		const struct mapping *m = &s->maps.list[i];

		if (m->flags & MAPPING_LOST) {
			job->mem.bytes_unreadable += m->dump_size;
			account_skip(job, CORESNAP_SKIP_UNREADABLE, m->start,
				     m->start + m->dump_size, 0);
		}
		if (m->skip_reason >= 0 && m->dump_size < m->end - m->start)
			account_skip(job, m->skip_reason, m->start + m->dump_size, m->end, 0);
	}
}

// Of each segment what was shortened, and what would stand behind the end of the file.
void account_limits(struct job *job)
{
	const struct plan *plan = &job->plan;
	const uint64_t end = job->sink.pos;

	job->result.core_size = end;
	job->result.whole_size = plan->whole;
	for (size_t i = 0; i < plan->n_segments && end < plan->whole; i++) {
		const struct segment *segment = &plan->segments[i];
		const uint64_t there = end > segment->offset ? end - segment->offset : 0;
		const uint64_t kept = there < segment->kept ? there : segment->kept;

		if (kept < segment->wanted)
			account_skip(job, CORESNAP_SKIP_LIMIT, segment->vaddr + kept,
				     segment->vaddr + segment->wanted, 0);
	}
}

int account_incomplete(struct job *job)
{
	char lacks[3][64];
	size_t n = 0;

	if (job->result.missed)
		error_format(lacks[n++], sizeof(lacks[0]),
			     "%u thread%s did not stop in time or run 32-bit code",
			     job->result.missed, job->result.missed == 1 ? "" : "s");
	if (job->mem.bytes_unreadable)
		error_format(lacks[n++], sizeof(lacks[0]), "%llu bytes could not be read",
			     (unsigned long long)job->mem.bytes_unreadable);
	if (job->mem.bytes_untagged)
		error_format(lacks[n++], sizeof(lacks[0]),
			     "the tags of %llu bytes could not be read",
			     (unsigned long long)job->mem.bytes_untagged);
	error_set(&job->error, CORESNAP_E_INCOMPLETE, 0,
		  "the core of process %d was written, but %s%s%s%s%s", job->pid, lacks[0],
		  n > 2 ? ", " : (n > 1 ? " and " : ""), n > 1 ? lacks[1] : "",
		  n > 2 ? " and " : "", n > 2 ? lacks[2] : "");
	return CORESNAP_E_INCOMPLETE;
}
