// SPDX-License-Identifier: BSD-3-Clause
#include "phases.h"

#include "check.h"
#include "coresnap.h"

static void test_each_ends_where_the_next_begins(void)
{
	uint64_t ns[CORESNAP_MAX_PHASES] = { 0 };
	struct phases phases;

	phases_init(&phases, ns);
	phases_enter_at(&phases, CORESNAP_PHASE_SEIZE, 100);
	phases_enter_at(&phases, CORESNAP_PHASE_STOP, 130);
	phases_enter_at(&phases, PHASE_NONE, 137);
	phases_enter_at(&phases, CORESNAP_PHASE_STOP, 1000);
	phases_enter_at(&phases, CORESNAP_PHASE_WRITE, 1001);
	phases_enter_at(&phases, PHASE_NONE, 1501);
	for (int phase = 0; phase < CORESNAP_MAX_PHASES; phase++)
		CHECK_EQ(ns[phase], phase == CORESNAP_PHASE_SEIZE ? 30 :
				    phase == CORESNAP_PHASE_STOP  ? 8 :
				    phase == CORESNAP_PHASE_WRITE ? 500 :
								    0);
}

static void test_the_clock_is_asked(void)
{
	uint64_t ns[CORESNAP_MAX_PHASES] = { 0 };
	struct phases phases;

	phases_init(&phases, ns);
	phases_enter(&phases, CORESNAP_PHASE_COPY);
	const uint64_t since = phases.since_ns;

	phases_enter(&phases, PHASE_NONE);
	CHECK_EQ(ns[CORESNAP_PHASE_COPY], phases.since_ns - since);
	CHECK(phases.since_ns >= since && since > 0);
}

static const struct check_case cases[] = {
	CASE(test_each_ends_where_the_next_begins),
	CASE(test_the_clock_is_asked),
};

CHECK_MAIN(cases)
