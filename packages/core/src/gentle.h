/* SPDX-License-Identifier: BSD-3-Clause */
// Work at the priorities that the caller asked for.
//
// D: the dumper   L: a thread of it, which lives as long as the work
//
//   D: makes L, waits for its end
//   L: takes the nice value and the I/O priority on, works, ends
//
// Why a thread: who has lowered its priority cannot raise it again without a privilege, and D has
// to hold the target once more when the core is written (copy_release()), which must not take
// longer because somebody wanted the writing to be gentle. Only D is the target's tracer, so the
// work must not call ptrace(2).
#ifndef CORESNAP_GENTLE_H
#define CORESNAP_GENTLE_H

#include "job.h"

// May the caller have what it asks for? Tells before the target is touched; the target is open.
int must_check gentle_check(struct job *job, struct coresnap_error *err);

// Runs work(arg) and returns what it returns, at the priorities of job->options; simply calls it if
// there are none. While the target stands still nothing may be run by this.
int must_check gentle_run(struct job *job, int (*work)(void *arg), void *arg,
			  struct coresnap_error *err);

// The oom_score_adj that an oom_adj is.
int gentle_oom_score(int oom_adj);

#endif
