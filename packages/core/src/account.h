/* SPDX-License-Identifier: BSD-3-Clause */
// What the result tells of a dump: what was left out, what was refused, what is missing.
#ifndef CORESNAP_ACCOUNT_H
#define CORESNAP_ACCOUNT_H

#include "job.h"

// Target addresses, or a thread.
void account_skip(struct job *job, int reason, uint64_t start, uint64_t end, int tid);

// Has job->mem tell what it could not read.
void account_watch(struct job *job);

void account_refusal(struct job *job, int method, const struct coresnap_error *why);

// What the snapshot tells about the core.
void account_maps(struct job *job);

// What the limits on its size left of the core, once all is written.
void account_limits(struct job *job);

// Fills job->error for a core that lacks something; its code.
int account_incomplete(struct job *job);

#endif
