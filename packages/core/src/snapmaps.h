/* SPDX-License-Identifier: BSD-3-Clause */
// The mappings of a snapshot: which there are, and how much of each is kept.
//
// smaps tells all but walks the page tables: 10 ms and more for each GiB. A process that is stopped
// only for a fork is spared that: smaps is read ahead, while it runs; in the pause maps tells which
// mappings there are; and what the first could not know is read from the copy afterwards.
#ifndef CORESNAP_SNAPMAPS_H
#define CORESNAP_SNAPMAPS_H

#include "maps.h"
#include "snapshot.h"
#include "target.h"

// Reads smaps of the running target, and its coredump_filter unless the caller brought one.
int must_check snapmaps_ahead(struct snapshot_options *options, const struct target *target,
			      struct arena *arena, struct coresnap_error *err);

// In the pause, for the method stop: everything, from smaps.
int must_check snapmaps_whole(struct snapshot *snapshot, const struct target *target,
			      const struct snapshot_options *options, struct coresnap_error *err);

// In the pause, for a copy: the list, and what is kept of the mappings that the copy will not have
// as they are now (mapping_unforkable()).
int must_check snapmaps_unforkable(struct snapshot *snapshot, const struct target *target,
				   const struct snapshot_options *options,
				   struct coresnap_error *err);

// Takes the mapping that starts there off the list: it is not the target's own.
void snapmaps_forget(struct snapshot *snapshot, uint64_t start);

// After the pause: the rest, from the copy. Marks MAPPING_LOST what turns out to be missing there.
int must_check snapmaps_from_copy(struct snapshot *snapshot, const struct target *image,
				  struct coresnap_error *err);

// Selects among the mappings of snapmaps_ahead(), for method precopy.
void snapmaps_select_ahead(struct snapshot_options *options, const struct target *target);

// The list of a stopped target whose mappings were selected ahead. Private anonymous memory that has
// appeared or changed since then is MAPPING_NEW, with its whole size to be kept for the time being.
int must_check snapmaps_precopied(struct snapshot *snapshot, const struct target *target,
				  const struct snapshot_options *options,
				  struct coresnap_error *err);

// Selects those once the target runs again, by what it says of them then; their member anonymous is
// known by now.
int must_check snapmaps_select_new(struct snapshot *snapshot, const struct target *target,
				   struct coresnap_error *err);

#endif
