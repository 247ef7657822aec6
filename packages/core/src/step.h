/* SPDX-License-Identifier: BSD-3-Clause */
// Places at which a test kills the dumper, to see that the target does not mind.
//
// Only the build for that test has them (-DCORESNAP_KILL_POINTS); its program defines
// coresnap_step().
#ifndef CORESNAP_STEP_H
#define CORESNAP_STEP_H

#ifdef CORESNAP_KILL_POINTS
void coresnap_step(void);
#define STEP() coresnap_step()
#else
#define STEP() ((void)0)
#endif

#endif
