/* SPDX-License-Identifier: BSD-3-Clause */
// Where the time of a dump goes. A phase ends where the next one begins, so none is counted twice and
// none is lost: what belongs to no phase is said, too.
#ifndef CORESNAP_PHASES_H
#define CORESNAP_PHASES_H

#include <stdint.h>

#define PHASE_NONE (-1)

struct phases {
	uint64_t *ns; // of each enum coresnap_phase so far
	int now;      // or PHASE_NONE
	uint64_t since_ns;
};

void phases_init(struct phases *phases, uint64_t *ns);

// The phase of now has ended, and this one begins; a phase may come several times.
void phases_enter(struct phases *phases, int phase);

// Likewise, at an instant (sys_now_ns()) that somebody else has looked up, not before the last one.
void phases_enter_at(struct phases *phases, int phase, uint64_t now_ns);

#endif
