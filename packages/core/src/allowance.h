/* SPDX-License-Identifier: BSD-3-Clause */
// How long the target may stand still (coresnap_options.max_pause_ns), and what of that is left. Every
// function is free where nothing was asked for.
#ifndef CORESNAP_ALLOWANCE_H
#define CORESNAP_ALLOWANCE_H

#include <stdbool.h>
#include <stdint.h>

#include "job.h"

// Estimates what the methods would take, before anything is stopped.
void allowance_estimate(struct job *job);

// Is there a method that is expected to fit? @forks: a copy is possible. CORESNAP_E_PAUSE if not.
int must_check allowance_begin(const struct job *job, bool forks, struct coresnap_error *err);

// May the method begin: does what it is expected to take fit into what is left? Else
// CORESNAP_E_PAUSE. Before the target is stopped, and while it is.
int must_check allowance_covers(const struct job *job, int method, struct coresnap_error *err);

// How long to wait for threads; *limited: less than was asked for, so that there is no core if some
// have not stopped by then.
uint64_t allowance_stop_ns(const struct job *job, uint64_t timeout_ns, bool *limited);

// Has every thread stopped, of which one was waited for no longer than is left? CORESNAP_E_PAUSE.
int must_check allowance_stopped(const struct job *job, bool limited, struct coresnap_error *err);

// The instant at which copying must end, so that what follows in the method is in time; 0: none.
uint64_t allowance_deadline_ns(const struct job *job, int method);

// It has passed.
int allowance_used_up(const struct job *job, struct coresnap_error *err);

#endif
