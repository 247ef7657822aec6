/* SPDX-License-Identifier: BSD-3-Clause */
// The bytes of memory: which ranges have any, and where they are pulled from.
#ifndef CORESNAP_MEM_H
#define CORESNAP_MEM_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "error.h"
#include "extents.h"
#include "snapshot.h"
#include "target.h"

struct mem {
	struct arena *arena;
	const struct target *image; // the stopped target, or the copy in the guise of one
	pid_t tracee;               // a thread of it that is stopped for us; 0: none is known
	int spool_fd;               // of the extents that are spooled
	uint8_t *stage;             // from mem_reserve(), or NULL
	size_t stage_size;
	bool fresh; // most of what is staged was just written, so that the target shares it with nobody
	struct extent *list; // ascending
	size_t n, cap;
	uint64_t bytes_read;
	uint64_t bytes_unreadable;
	uint64_t bytes_untagged; // that were read, but not their tags
	// Told of each unreadable range; may be NULL.
	void (*unreadable)(void *arg, uint64_t start, uint64_t end);
	// Told of each range of shared memory that was left out because reading would make it.
	void (*unmapped)(void *arg, uint64_t start, uint64_t end);
	// Told of each range whose tags are missing.
	void (*untagged)(void *arg, uint64_t start, uint64_t end);
	void *skip_arg;
	uint64_t deadline_ns; // when mem_stage() gives up (sys_now_ns()); 0: never
	const int *cancel;    // becomes non-zero when the caller gives up; may be NULL
};

// Which mappings a scan takes: all, those that mapping_unforkable() names, or the others.
enum mem_part { MEM_ALL, MEM_UNFORKABLE, MEM_FORKED };

// Appends the extents of the kept bytes of mappings, found by the page tables of the image
// (PAGEMAP_SCAN, or /proc/PID/pagemap before it came in v6.7). Never touches a page.
int must_check mem_scan(struct mem *mem, const struct snapshot *snapshot, enum mem_part part,
			struct coresnap_error *err);

// The same for one mapping, whatever it is. 0 or a negative errno.
int must_check mem_scan_mapping(struct mem *mem, const struct snapshot *snapshot,
				const struct mapping *mapping, int pagemap);

// Orders the list after two scans.
int must_check mem_sort(struct mem *mem);

// Bytes of the extents from @from on.
uint64_t mem_size(const struct mem *mem, size_t from);

// Makes memory for about so many bytes to be staged, before the target is stopped. Best effort.
void mem_reserve(struct mem *mem, uint64_t size);

// Reads the extents from @from on into memory. -ENOMEM when there is not enough of that,
// -ETIME at the deadline.
int must_check mem_stage(struct mem *mem, size_t from, struct coresnap_error *err);

// Reads size bytes at address of the image into buf; what cannot be read becomes zeros and is
// counted. -ESRCH when the image is gone.
int must_check mem_read(struct mem *mem, const struct extent *extent, uint64_t address, void *buf,
			size_t size);

#endif
