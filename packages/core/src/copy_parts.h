/* SPDX-License-Identifier: BSD-3-Clause */
// What the files of copy.h share.
#ifndef CORESNAP_COPY_PARTS_H
#define CORESNAP_COPY_PARTS_H

#include "copy.h"

// The page in the target: first the chains, then, only in G's copy of it, names for G's calls.
#define COPY_PAGE_SIZE 4096
#define COPY_STRINGS   2048

#define COPY_NAME "coresnap-copy"

// Opens /proc/G and what the dumper needs of it.
int must_check copy_open(struct copy *copy, struct coresnap_error *err);

// Kills G and reaps it as its tracer or parent.
void copy_kill(struct copy *copy);

#endif
