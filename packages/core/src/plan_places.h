/* SPDX-License-Identifier: BSD-3-Clause */
// A core of which bytes were written before it was planned. Pure.
#ifndef CORESNAP_PLAN_PLACES_H
#define CORESNAP_PLAN_PLACES_H

#include "places.h"
#include "plan.h"

// Gives each segment its offset: where its bytes are. From the first one on for which that cannot be,
// number plan->n_in_places, they come behind all that was written. Offsets ascend; what lies between
// two segments is a hole. *end is where the last one ends; false when the file would be larger than can be
// said.
bool plan_in_places(struct plan *plan, const struct places *places, uint64_t *end);

#endif
