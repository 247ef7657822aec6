/* SPDX-License-Identifier: BSD-3-Clause */
#include "phases.h"

#include "sys.h"

void phases_init(struct phases *phases, uint64_t *ns)
{
	*phases = (struct phases){ .ns = ns, .now = PHASE_NONE };
}

void phases_enter_at(struct phases *phases, int phase, uint64_t now_ns)
{
	if (phases->now != PHASE_NONE)
		phases->ns[phases->now] += now_ns - phases->since_ns;
	phases->now = phase;
	phases->since_ns = now_ns;
}

void phases_enter(struct phases *phases, int phase)
{
	phases_enter_at(phases, phase, sys_now_ns());
}
