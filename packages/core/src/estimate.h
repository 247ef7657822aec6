/* SPDX-License-Identifier: BSD-3-Clause */
// How long a pause will be: the one model, for auto, for a longest pause, and for who asks.
//
//   a fixed time + a time per thread + a time per mapping
//   + a time per byte that is copied (stop), or whose page table entries a fork copies or a last pass
//     over memory that was copied ahead looks at
//   + a time per byte that does not fit the stage budget and is written meanwhile
//
// The times are those of the machine of docs/pausing.md, but for that of copying where it was measured.
#ifndef CORESNAP_ESTIMATE_H
#define CORESNAP_ESTIMATE_H

#include <stdbool.h>
#include <stdint.h>

#include "coresnap.h"

// A pause by what it is made of.
struct estimate_parts {
	uint64_t threads_ns; // stopping them, their registers, letting them go
	uint64_t thaw_ns;    // of that the last
	uint64_t memory_ns;  // finding and securing it
};

// By the facts in @estimate; for a method that is not known all 0.
struct estimate_parts estimate_parts(const struct coresnap_estimate *estimate, int method);

// Fills the pauses and the method of an estimate that has its facts. Threads that are stuck are
// waited for as long as @grace_ns.
void estimate_pauses(struct coresnap_estimate *estimate, uint64_t grace_ns);

// Is a stop as short as a fork, so that nothing need be injected?
bool estimate_prefers_stop(const struct coresnap_estimate *estimate);

// Is it so large that copying ahead is worth while?
bool estimate_prefers_precopy(const struct coresnap_estimate *estimate);

// Is a fork shorter than copying so many bytes, which are left of a copy ahead?
bool estimate_prefers_fork(const struct coresnap_estimate *estimate, uint64_t left);

// Is the first copy ahead made where the core will have it, if the core's file can take it?
bool estimate_takes_places(const struct coresnap_estimate *estimate,
			   const struct coresnap_options *options);

// Is there memory for a copy ahead? And for how many bytes, if it is made there?
bool estimate_fits_memory(const struct coresnap_estimate *estimate);
uint64_t estimate_most_in_memory(const struct coresnap_estimate *estimate);

// Fills what a copy ahead takes of disks besides the core.
void estimate_disks(struct coresnap_estimate *estimate, const struct coresnap_options *options);

// What copying so many bytes takes.
uint64_t estimate_copy_ns(const struct coresnap_estimate *estimate, uint64_t bytes);

#endif
