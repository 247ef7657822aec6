/* SPDX-License-Identifier: BSD-3-Clause */
// The snapshot: everything that a core tells, except the bytes of memory. Left of this value code
// touches a live process; right of it (note, plan) never.
#ifndef CORESNAP_SNAPSHOT_H
#define CORESNAP_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#include "arch/arch.h"
#include "arena.h"
#include "error.h"
#include "freeze.h"
#include "maps.h"

struct snap_regset {
	const struct arch_regset *row;
	const uint8_t *bytes;
	uint32_t size;
};

struct snap_thread {
	int32_t tid; // in the target's own pid namespace, as in the kernel's core
	uint64_t sigpend, sighold;
	uint64_t utime_ns, stime_ns;                  // of the whole process for its main thread
	struct snap_regset regsets[ARCH_MAX_REGSETS]; // [0]: NT_PRSTATUS
	unsigned int n_regsets;
};

struct snapshot {
	struct arena *arena;
	const struct arch *arch;
	uint64_t page_size;

	struct snap_thread *threads; // the dumping thread first
	size_t n_threads;

	// Process ids in the target's pid namespace, user ids in its user namespace.
	int32_t pid, ppid, pgrp, sid;
	uint32_t uid, gid;
	uint32_t flags;  // PF_* of the main thread
	bool leaderless; // which has exited
	int8_t nice;
	char fname[16];
	char psargs[80];
	uint64_t cutime_ns, cstime_ns;

	const uint8_t *auxv; // up to and including AT_NULL
	size_t auxv_size;
	const uint8_t *process_note;
	size_t process_note_size;
	uint64_t file_note_limit; // bytes; the kernel drops a larger NT_FILE

	struct maps maps;
	uint64_t filter; // the coredump_filter that was applied
};

// Does the kernel's core have a segment of its tags (for_each_mte_vma in arch/arm64/kernel/elfcore.c)?
static inline bool snapshot_has_tags(const struct snapshot *snapshot, const struct mapping *mapping)
{
	return snapshot->arch->tags.segment && (mapping->flags & MAPPING_TAGGED);
}

// What is known of a thread before it is stopped. The times lag behind by less than the clock tick
// in which /proc counts them, and the attach.
struct thread_facts {
	pid_t tid;             // as the dumper sees it
	int32_t ns_tid;        // in the target's own pid namespace
	uint64_t utime, stime; // clock ticks
};

struct snapshot_options {
	bool has_filter;
	uint64_t filter;   // coredump_filter: the caller's, or the target's from snapmaps_ahead()
	struct maps ahead; // from snapmaps_ahead()
	const struct thread_facts
		*facts; // from snapshot_prepare(), in the order of freeze->threads
	size_t n_facts;
	uint8_t *room;    // from snapshot_prepare(): zeroed memory for threads and registers,
	size_t room_size; // which takes no page faults
	uint64_t injected;      // a mapping that is not the target's own: left out of the list
	uint64_t injected_size; // bytes; 0: there is none
	int32_t first_tid;      // the dumping thread, as the dumper sees its id; 0: the main thread
};

// Reads ahead what need not be read while the target is stopped, and makes room; after
// freeze_seize(). A thread about which nothing could be read has tid 0 in facts.
int must_check snapshot_prepare(struct snapshot_options *options, const struct freeze *freeze,
				struct coresnap_error *err);

// Reads everything but the mappings (snapmaps.h) from the frozen target.
int must_check snapshot_take(struct snapshot *snapshot, const struct freeze *freeze,
			     const struct snapshot_options *options, struct coresnap_error *err);

#endif
