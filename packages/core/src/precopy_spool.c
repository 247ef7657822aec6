/* SPDX-License-Identifier: BSD-3-Clause */
// Where what is copied ahead goes, and how much of it there may be.
#include <elf.h>
#include <sys/resource.h>

#include "estimate.h"
#include "job.h"
#include "note.h"
#include "precopy_parts.h"
#include "sys.h"

// Of more the holes between segments are too large for some file systems.
#define MOST_IN_PLACES ((uint64_t)1 << 40)

// Foresees where all goes; false if the core's file may not become so large.
static bool foresee(struct job *job)
{
	const struct coresnap_options *const options = &job->options;
	struct precopy *const precopy = &job->precopy;
	const struct arch *const arch = target_arch_of_exe(&job->target);
	struct rlimit64 limit = { .rlim_cur = RLIM64_INFINITY };

	if (!arch)
		return false;
	(void)sys_call(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &limit);
	uint64_t most = arch->elf_class == ELFCLASS32 ? UINT32_MAX : UINT64_MAX;

	most = limit.rlim_cur < most ? limit.rlim_cur : most;
	// What finds no place goes behind all.
	precopy->most = most < job->estimate.kept ? 0 : most - job->estimate.kept;
	precopy->places.list.arena = &job->arena;
	return places_foresee(&precopy->places, &job->what.ahead,
			      notes_foreseen(arch, job->estimate.threads, options->notes,
					     options->n_notes),
			      (uint64_t)sysconf(_SC_PAGESIZE), MOST_IN_PLACES) == 0 &&
	       precopy->places.end <= precopy->most;
}

// Is the first pass to write the core's own file?
static bool in_places(struct job *job)
{
	const struct coresnap_options *const options = &job->options;
	const uint64_t kept = job->estimate.kept;

	return estimate_takes_places(&job->estimate, options) &&
	       sink_takes_places(&job->sink) && foresee(job) &&
	       spool_open_core(&job->precopy.spool, &job->sink, kept);
}

int precopy_open_spool(struct job *job, struct coresnap_error *err)
{
	struct precopy *const precopy = &job->precopy;

	precopy->in_places = in_places(job);
	if (precopy->in_places) {
		precopy->spool.size = precopy->places.end;
		return 0;
	}
	precopy->in_memory = job->sink.kind != CORESNAP_TO_MEMORY &&
			     estimate_fits_memory(&job->estimate);
	precopy->most = precopy->in_memory ? estimate_most_in_memory(&job->estimate) : UINT64_MAX;
	return spool_open(&precopy->spool, &job->sink, job->estimate.kept,
			  precopy->in_memory || job->sink.kind == CORESNAP_TO_MEMORY, err);
}
