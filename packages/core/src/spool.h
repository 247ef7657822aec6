/* SPDX-License-Identifier: BSD-3-Clause */
// A file without a name that keeps bytes of memory until the core is written.
#ifndef CORESNAP_SPOOL_H
#define CORESNAP_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "sink.h"

struct spool {
	int fd; // -1: there is none
	uint64_t size;
	bool is_core; // it is the core's file, which is another's to close
	struct room room; // the core's
};

#define SPOOL_NONE ((struct spool){ .fd = -1 })

// The file of the core itself, which is empty yet. False if there is no room for @need bytes, or holes
// cannot be made in it.
bool must_check spool_open_core(struct spool *spool, const struct sink *sink, uint64_t need);

// Makes it in memory, or where there is room for @need bytes and, on the same file system, for a core
// of as many: in the directory of the core, or in /var/tmp. What must stay free does.
int must_check spool_open(struct spool *spool, const struct sink *sink, uint64_t need, bool in_memory,
			  struct coresnap_error *err);

// Writes bytes to a place that is its user's choice, as is size.
int must_check spool_write(struct spool *spool, uint64_t offset, const void *bytes, size_t size,
			   struct coresnap_error *err);

// Idempotent; the bytes are gone, and the core's file is empty again.
void spool_close(struct spool *spool);

#endif
