// SPDX-License-Identifier: BSD-3-Clause
// Of a process that somebody asks about, everything; of one that is dumped the dump knows the most.
#include "survey.h"

#include <string.h>

#include "budget.h"
#include "check.h"
#include "cleanup.h"
#include "estimate.h"
#include "options.h"
#include "pagemap.h"
#include "procfs.h"
#include "snapmaps.h"
#include "sys.h"
#include "target.h"
#include "victim.h"

enum {
	SAMPLES = 16,
	SAMPLE = 1 << 17,
	STOP_TIMEOUT_NS = 1000000000,
};

// Where the most has been written: in the end that is what is copied.
static const struct mapping *largest(const struct maps *maps)
{
	const struct mapping *found = NULL;

	for (size_t i = 0; i < maps->n; i++) {
		const struct mapping *const m = &maps->list[i];

		if ((m->flags & MAPPING_READ) && !(m->flags & (MAPPING_IO | MAPPING_PFN)) &&
		    (!found || m->anonymous > found->anonymous))
			found = m;
	}
	return found;
}

// Are all pages there? Reading one that is not would make it.
static bool is_present(int pagemap, uint64_t start, uint64_t page_size)
{
	uint64_t entries[SAMPLE / 4096];
	const size_t n = (size_t)(SAMPLE / page_size);

	if (pagemap_read(pagemap, start, page_size, entries, n) != (ssize_t)n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!(entries[i] & PAGEMAP_ENTRY_PRESENT))
			return false;
	return true;
}

static uint64_t time_sample(const struct target *target, uint64_t start, uint8_t *buf)
{
	const uint64_t began = sys_now_ns();
	const ssize_t n = target_read(target, start, buf, SAMPLE);

	return n == SAMPLE ? sys_now_ns() - began : 0;
}

// Those in which something else came between are at the end.
static uint64_t median(uint64_t *times, size_t n)
{
	for (size_t i = 1; i < n; i++)
		for (size_t at = i; at > 0 && times[at - 1] > times[at]; at--) {
			const uint64_t swap = times[at];

			times[at] = times[at - 1];
			times[at - 1] = swap;
		}
	return times[n / 2];
}

uint64_t survey_copy_ns(const struct target *target, const struct maps *maps, struct arena *arena)
{
	const uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	const int pagemap guard(guard_close) = sys_openat(target->proc_fd, "pagemap", O_RDONLY, 0);
	const struct mapping *const m = largest(maps);
	const uint64_t distance = m ? (m->end - m->start) / SAMPLES / SAMPLE * SAMPLE : 0;
	uint64_t times[SAMPLES];
	size_t n = 0;

	if (pagemap < 0 || !distance || page_size > SAMPLE || m->end > UINTPTR_MAX)
		return 0;
	// As the memory that is staged in, and likewise a new part of it for each.
	uint8_t *const memory = arena_alloc_populated(arena, (size_t)SAMPLES * SAMPLE);

	for (size_t i = 0; memory && i < SAMPLES; i++) {
		const uint64_t start = m->start + i * distance;

		if (!is_present(pagemap, start, page_size))
			continue;
		times[n] = time_sample(target, start, memory + i * SAMPLE);
		n += times[n] != 0;
	}
	return n < SAMPLES / 4 ? 0 : median(times, n) * ((1u << 20) / SAMPLE);
}

static void mark_stack(const struct maps *maps, bool *stacks, uint64_t sp)
{
	const struct mapping *const m = maps_at(maps, sp);

	if (m)
		stacks[m - maps->list] = true;
}

// Counts threads, and marks the mappings of their stacks.
static void survey_threads(const struct target *target, const struct maps *maps, bool *stacks,
			   struct coresnap_estimate *estimate)
{
	struct procfs_dir dir guard(procfs_closedir) = { .fd = -1 };
	const char *name;
	uint64_t sp, ignored = 0;

	if (procfs_opendir(&dir, target->proc_fd, "task") < 0)
		return;
	while ((name = procfs_readdir(&dir))) {
		const pid_t tid = (pid_t)procfs_number(name, 10, NULL);

		estimate->threads++;
		estimate->stuck += check_is_stuck(target, name, &ignored);
		if (victim_stack_pointer(target, tid, &sp))
			mark_stack(maps, stacks, sp);
	}
}

static int survey(struct target *target, const struct coresnap_options *options,
		  struct arena *arena, struct coresnap_estimate *estimate,
		  struct coresnap_error *err)
{
	struct snapshot_options what = {
		.has_filter = options->flags & CORESNAP_FILTER,
		.filter = options->filter,
	};
	int ret = check_attach(target, err);

	if (ret == 0)
		ret = snapmaps_ahead(&what, target, arena, err);
	if (ret < 0)
		return ret;
	bool *const stacks = arena_alloc(arena, what.ahead.n + 1);

	if (!stacks)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory for an estimate");
	survey_threads(target, &what.ahead, stacks, estimate);
	survey_maps(estimate, &what.ahead, what.filter, (uint64_t)sysconf(_SC_PAGESIZE), stacks);
	estimate->budget = budget_stage(options);
	estimate->copy_ns = survey_copy_ns(target, &what.ahead, arena);
	estimate_pauses(estimate,
			(options->stop_timeout_ns ? options->stop_timeout_ns : STOP_TIMEOUT_NS) /
				FREEZE_GRACE_PART);
	estimate_disks(estimate, options);
	return 0;
}

static void write_estimate(struct coresnap_estimate *to, const struct coresnap_estimate *from)
{
	const size_t size = to->size < sizeof(*from) ? to->size : sizeof(*from);

	if (size > sizeof(to->size))
		memcpy((char *)to + sizeof(to->size), (const char *)from + sizeof(to->size),
		       size - sizeof(to->size));
}

int coresnap_estimate(pid_t pid, const struct coresnap_options *options,
		      struct coresnap_estimate *estimate, struct coresnap_error *error)
{
	struct coresnap_error local = { 0 };
	struct coresnap_estimate found = { 0 };
	struct coresnap_options known;
	struct target target = TARGET_NONE;
	struct arena arena;

	arena_init(&arena);
	arena.private_blocks = true;
	if (options_read(&known, options, &local) == 0 &&
	    target_open(&target, pid, known.flags, &local) == 0 &&
	    survey(&target, &known, &arena, &found, &local) == 0) {
		write_estimate(estimate, &found);
		local = (struct coresnap_error){ 0 };
	}
	target_close(&target);
	arena_deinit(&arena);
	if (local.code)
		local.pid = pid;
	if (error)
		*error = local;
	return local.code;
}
