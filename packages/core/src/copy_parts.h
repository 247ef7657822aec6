/* SPDX-License-Identifier: BSD-3-Clause */
// What the files of copy.h share.
#ifndef CORESNAP_COPY_PARTS_H
#define CORESNAP_COPY_PARTS_H

#include "copy.h"

#define COPY_NAME "coresnap-copy"

// Opens /proc/G and what the dumper needs of it.
int must_check copy_open(struct copy *copy, struct coresnap_error *err);

// When memory is short G is the first to be killed, or as oom_score says; an error only if that was
// asked for. Before the target runs: it is as large as G.
int must_check copy_offer_to_oom(const struct copy *copy, struct coresnap_error *err);

// Where the page should be mapped: an address, or 0 for any.
uint64_t copy_quiet_place(const struct maps *maps, uint64_t size);

// The page that a dumper has left which was killed, and that no thread uses; 0: there is none.
uint64_t copy_find_left(const struct freeze *freeze, const struct maps *maps);

// Makes the mark of a page of ours, and looks whether copy->page still has it.
void copy_make_mark(struct copy *copy);
bool copy_has_mark(const struct copy *copy);

// Kills G and reaps it as its tracer or parent.
void copy_kill(struct copy *copy);

#endif
