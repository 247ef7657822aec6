/* SPDX-License-Identifier: BSD-3-Clause */
#include "estimate.h"

#include <stddef.h>

#define MIB (1u << 20)

// Below this the pauses of a fork and of precopy hardly differ, and a fork takes no second file.
#define LARGE ((uint64_t)64 << 20)

// Of a copy ahead.
#define MOST_IN_MEMORY ((uint64_t)64 << 20)

enum {
	THREAD_NS = 65000,
	THAW_NS = 12000,       // of THREAD_NS
	SCAN_NS = 30000,       // a MiB in small pages
	COPY_NS = 200000,      // likewise
	COPY_HUGE_NS = 130000, // a MiB in huge pages
	FORK_NS = 30000,       // a MiB in small pages: their page table entries
	LOOK_NS = 1500,        // likewise: whether they were written
	SPILL_NS = 1500000,    // a MiB to the output
	// So much longer may a stop be than a fork and still be taken, for nothing is injected.
	NOTHING_INJECTED_NS = 500000,
};

// A method is estimated if it has a row here. What it copies while the target stands still is said by
// copied_by(), what else it does with the memory by estimate_parts().
static const struct method_costs {
	uint64_t fixed_ns, mapping_ns;
} costs[CORESNAP_MAX_METHODS] = {
	[CORESNAP_METHOD_STOP] = { .fixed_ns = 400000, .mapping_ns = 12000 },
	[CORESNAP_METHOD_FORK] = { .fixed_ns = 900000, .mapping_ns = 3500 },
	// What is written between the last pass and the stop is in the fixed time.
	[CORESNAP_METHOD_PRECOPY] = { .fixed_ns = 1500000, .mapping_ns = 5000 },
};

static uint64_t per_mib(uint64_t bytes, uint64_t ns)
{
	return (uint64_t)((double)bytes / MIB * (double)ns);
}

static uint64_t all_mappings(const struct coresnap_estimate *estimate)
{
	uint64_t n = 0;

	for (size_t i = 0; i < CORESNAP_MAX_REGIONS; i++)
		n += estimate->regions[i].mappings;
	return n;
}

uint64_t estimate_copy_ns(const struct coresnap_estimate *estimate, uint64_t bytes)
{
	return per_mib(bytes, SCAN_NS + (estimate->copy_ns ? estimate->copy_ns : COPY_NS));
}

static uint64_t copy_huge_ns(const struct coresnap_estimate *estimate, uint64_t bytes)
{
	return per_mib(bytes, estimate->copy_ns ? estimate->copy_ns : COPY_HUGE_NS);
}

static uint64_t copied_by(const struct coresnap_estimate *estimate, int method)
{
	if (method != CORESNAP_METHOD_STOP)
		return estimate->unforkable;
	return estimate->kept < estimate->budget ? estimate->kept : estimate->budget;
}

static uint64_t spilled_by(const struct coresnap_estimate *estimate, int method)
{
	return method == CORESNAP_METHOD_STOP ? estimate->kept - copied_by(estimate, method) : 0;
}

struct estimate_parts estimate_parts(const struct coresnap_estimate *estimate, int method)
{
	if (method < 0 || method >= CORESNAP_MAX_METHODS || !costs[method].fixed_ns)
		return (struct estimate_parts){ 0 };
	const uint64_t copied = copied_by(estimate, method);
	// In the same proportion as all of it; of what a fork does not carry over it is not known.
	const uint64_t huge = method != CORESNAP_METHOD_STOP || !estimate->kept ?
				      0 :
				      (uint64_t)((double)estimate->huge * (double)copied /
						 (double)estimate->kept);
	uint64_t memory = costs[method].fixed_ns +
			  costs[method].mapping_ns * all_mappings(estimate) +
			  estimate_copy_ns(estimate, copied - huge) +
			  copy_huge_ns(estimate, huge);

	if (method == CORESNAP_METHOD_FORK)
		memory += per_mib(estimate->forked, FORK_NS);
	if (method == CORESNAP_METHOD_PRECOPY)
		memory += per_mib(estimate->forked, LOOK_NS);
	return (struct estimate_parts){
		.threads_ns = (uint64_t)estimate->threads * THREAD_NS,
		.thaw_ns = (uint64_t)estimate->threads * THAW_NS,
		.memory_ns = memory + per_mib(spilled_by(estimate, method), SPILL_NS),
	};
}

void estimate_pauses(struct coresnap_estimate *estimate, uint64_t grace_ns)
{
	for (int method = 0; method < CORESNAP_MAX_METHODS; method++) {
		const struct estimate_parts parts = estimate_parts(estimate, method);
		const uint64_t wait = estimate->stuck ? grace_ns : 0;
		const uint64_t work = parts.threads_ns + parts.memory_ns;

		estimate->pauses[method] = (struct coresnap_pause){ 0 };
		if (!work)
			continue;
		estimate->pauses[method] = (struct coresnap_pause){
			.expected_ns = wait + work,
			.least_ns = wait + work / 2,
			.most_ns = wait + work * 5,
			.copied = copied_by(estimate, method),
			.spilled = spilled_by(estimate, method),
		};
	}
	if (estimate_prefers_precopy(estimate))
		estimate->method = CORESNAP_METHOD_PRECOPY;
	else
		estimate->method = estimate_prefers_stop(estimate) ? CORESNAP_METHOD_STOP :
								     CORESNAP_METHOD_FORK;
}

bool estimate_prefers_stop(const struct coresnap_estimate *estimate)
{
	const struct estimate_parts stop = estimate_parts(estimate, CORESNAP_METHOD_STOP);
	const struct estimate_parts fork = estimate_parts(estimate, CORESNAP_METHOD_FORK);

	return estimate->kept <= estimate->budget &&
	       stop.memory_ns <= fork.memory_ns + NOTHING_INJECTED_NS;
}

bool estimate_prefers_precopy(const struct coresnap_estimate *estimate)
{
	return estimate->kept >= LARGE;
}

bool estimate_prefers_fork(const struct coresnap_estimate *estimate, uint64_t left)
{
	return estimate_copy_ns(estimate, left) >
	       estimate_parts(estimate, CORESNAP_METHOD_FORK).memory_ns;
}

// Less is copied twice before it matters, and its core has no holes that the kernel's has not.
bool estimate_takes_places(const struct coresnap_estimate *estimate,
			   const struct coresnap_options *options)
{
	return estimate->kept >= LARGE && !options->compression && !options->max_size &&
	       !options->core_limit;
}

// Half of the budget is for what the pause copies. More memory than that of a small program's shall the
// dumper not need, though a file of a disk costs as much time as the core itself.
bool estimate_fits_memory(const struct coresnap_estimate *estimate)
{
	return estimate->kept <= MOST_IN_MEMORY / 4 * 3 && estimate->kept <= estimate->budget / 2;
}

// With what comes meanwhile.
uint64_t estimate_most_in_memory(const struct coresnap_estimate *estimate)
{
	return MOST_IN_MEMORY < estimate->budget ? MOST_IN_MEMORY : estimate->budget;
}

void estimate_disks(struct coresnap_estimate *estimate, const struct coresnap_options *options)
{
	estimate->beside_fd = estimate_fits_memory(estimate) ? 0 : estimate->kept;
	estimate->beside_path = estimate_takes_places(estimate, options) ? 0 : estimate->beside_fd;
}
