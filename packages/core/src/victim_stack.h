/* SPDX-License-Identifier: BSD-3-Clause */
// Room for the signal frame that brings an injected thread back, where nobody has anything.
#ifndef CORESNAP_VICTIM_STACK_H
#define CORESNAP_VICTIM_STACK_H

#include "procfs.h"
#include "victim.h"

// On the thread's own stack, or else, by victim->room_end, at the far end of the main stack.
bool victim_find_room(struct victim *victim, const struct freeze *freeze, const struct maps *maps,
		      const struct procfs_status *status);

// The same of a thread of a running target that sleeps with this stack pointer; false: certainly not.
bool victim_may_have_room(const struct target *target, const struct maps *maps, pid_t tid,
			  uint64_t sp);

#endif
