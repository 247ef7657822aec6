/* SPDX-License-Identifier: BSD-3-Clause */
// What an estimate is made of: the facts about a process that runs.
#ifndef CORESNAP_SURVEY_H
#define CORESNAP_SURVEY_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "coresnap.h"
#include "maps.h"
#include "target.h"

// Adds up memory by the lines of smaps. @stacks says of each mapping whether a thread has its stack
// there; may be NULL. Pure.
void survey_maps(struct coresnap_estimate *estimate, const struct maps *maps, uint64_t filter,
		 uint64_t page_size, const bool *stacks);

// Measures what copying a MiB of the running target takes, by pages of its largest mapping that are
// there; 0 if too few are. Takes about a millisecond.
uint64_t survey_copy_ns(const struct target *target, const struct maps *maps, struct arena *arena);

#endif
