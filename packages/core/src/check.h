/* SPDX-License-Identifier: BSD-3-Clause */
// What can be told of a dump without touching the process, in the words of the dump itself.
#ifndef CORESNAP_CHECK_H
#define CORESNAP_CHECK_H

#include "error.h"
#include "target.h"

// May the caller attach to it?
int must_check check_attach(struct target *target, struct coresnap_error *err);

// Does this thread sleep so that it does not stop? *switches grows by how often it has gone to sleep.
bool check_is_stuck(const struct target *target, const char *tid, uint64_t *switches);

// Does any thread stop in time? Not if all sleep uninterruptibly and go on doing so for a moment.
int must_check check_stops(const struct target *target, struct coresnap_error *err);

// Is there room for a copy, do threads stop, and can calls be injected into one of them? In the order
// in which the dump comes upon it.
int must_check check_fork(const struct target *target, struct coresnap_error *err);

// Can writes be tracked, and do threads stop?
int must_check check_precopy(const struct target *target, struct coresnap_error *err);

#endif
