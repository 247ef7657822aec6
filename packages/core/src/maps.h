/* SPDX-License-Identifier: BSD-3-Clause */
// The mappings of a process, and how much of each the kernel would dump.
#ifndef CORESNAP_MAPS_H
#define CORESNAP_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "coresnap.h"
#include "error.h"

enum mapping_flag {
	MAPPING_READ = 1 << 0,
	MAPPING_WRITE = 1 << 1,
	MAPPING_EXEC = 1 << 2,
	MAPPING_SHARED = 1 << 3,
	MAPPING_DONTDUMP = 1 << 4,   // "dd"
	MAPPING_IO = 1 << 5,         // "io"
	MAPPING_HUGETLB = 1 << 6,    // "ht"
	MAPPING_DONTFORK = 1 << 7,   // "dc"
	MAPPING_WIPEONFORK = 1 << 8, // "wf"
	MAPPING_PFN = 1 << 9,        // "pf": no struct pages behind it
	MAPPING_DELETED = 1 << 10,   // the file behind it has no name left
	MAPPING_ESCAPED = 1 << 11,   // its name held "\012": see mapname.h
	MAPPING_LOST = 1 << 12,      // kept, but its bytes could not be had
	// MAP_SHARED of a file that was opened for reading only: 's' in maps, but VM_SHARED ("sh")
	// is not set (do_mmap in mm/mmap.c), so the kernel's dumper takes it for private.
	MAPPING_READ_SHARED = 1 << 13,
	MAPPING_TAGGED = 1 << 14,    // "mt", PROT_MTE: has tags besides its bytes
	MAPPING_NORESERVE = 1 << 15, // "nr"
	MAPPING_NEW = 1 << 16,       // nobody knows yet whether it is kept (snapmaps_precopied())
};

struct mapping {
	uint64_t start, end;
	uint64_t offset; // bytes into the file
	uint64_t inode;
	uint32_t dev_major, dev_minor;
	uint32_t flags; // enum mapping_flag
	uint32_t name_len;
	const char *name;   // raw bytes, not NUL-terminated
	uint64_t anonymous; // bytes of written private pages, swapped ones included
	uint64_t resident;  // bytes mapped
	uint64_t huge;      // of these: in huge pages
	uint64_t dump_size; // bytes of it in the core, from start
	int skip_reason;    // enum coresnap_skip_reason of the rest; -1: nothing there to skip
};

struct maps {
	struct arena *arena;
	struct mapping *list; // ascending addresses
	size_t n, cap;
};

// Feeds one line of /proc/PID/maps or /proc/PID/smaps; line[len] is its newline or a NUL. 0,
// -ENOMEM, or -EINVAL for a mapping line that cannot be understood. Of mappings that overlap, as
// the file of a running process may have them, the later ones count. Pure.
int must_check maps_feed(struct maps *maps, const char *line, size_t len);

// Reads "maps" or "smaps" below a /proc/PID descriptor.
int must_check maps_read(struct maps *maps, int proc_fd, const char *file,
			 struct coresnap_error *err);

// The mapping that an address lies in, or NULL.
const struct mapping *maps_at(const struct maps *maps, uint64_t address);

// Is there a file behind it (NT_FILE lists it)?
bool mapping_has_file(const struct mapping *mapping);
bool mapping_named(const struct mapping *mapping, const char *name);

// Is it shared memory that lives in no file of a disk: an anonymous mapping, a memfd, a SysV segment,
// tmpfs? The block device of these is one without a driver.
bool mapping_diskless(const struct mapping *mapping);
// Is it of the kernel's own ([vdso])?
bool mapping_is_special(const struct mapping *mapping);

// Does a fork not carry it over as it is now?
bool mapping_unforkable(const struct mapping *mapping);

// Room for mapping_link().
#define MAPPING_LINK_SIZE 64

// The path below /proc/PID of the link to the file behind it; following it needs a capability
// (CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN).
void mapping_link(const struct mapping *mapping, char path[MAPPING_LINK_SIZE]);

// What mapping_select() needs beyond the mapping itself.
struct mapping_facts {
	uint64_t filter;      // coredump_filter
	uint64_t page_size;   // bytes
	bool first_page_kept; // executable inode or ELF magic at its start
};

// Could mapping_facts.first_page_kept decide? It costs a look at the file or at memory.
bool mapping_wants_first_page(const struct mapping *mapping, uint64_t filter);

// Sets dump_size and skip_reason after vma_dump_size() of fs/coredump.c. Pure.
void mapping_select(struct mapping *mapping, const struct mapping_facts *facts);

#endif
