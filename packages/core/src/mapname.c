/* SPDX-License-Identifier: BSD-3-Clause */
#include "mapname.h"

#include <string.h>
#include <sys/ioctl.h>

#include "cleanup.h"

// include/uapi/linux/fs.h
struct procmap_query_ {
	uint64_t size;
	uint64_t query_flags;
	uint64_t query_addr;
	uint64_t vma_start;
	uint64_t vma_end;
	uint64_t vma_flags;
	uint64_t vma_page_size;
	uint64_t vma_offset;
	uint64_t inode;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint32_t vma_name_size;
	uint32_t build_id_size;
	uint64_t vma_name_addr;
	uint64_t build_id_addr;
};
_Static_assert(sizeof(struct procmap_query_) == 104, "procmap_query");
#define PROCMAP_QUERY_ _IOWR('f', 17, struct procmap_query_)

#define NAME_MAX_BYTES 4096

// Returns the length of the name, or a negative errno.
static long ask(int maps_fd, int proc_fd, const struct mapping *m, char *name)
{
	struct procmap_query_ query = {
		.size = sizeof(query),
		.query_addr = m->start,
		.vma_name_size = NAME_MAX_BYTES,
		.vma_name_addr = (uint64_t)(uintptr_t)name,
	};
	char path[MAPPING_LINK_SIZE];

	if (sys_call(SYS_ioctl, maps_fd, PROCMAP_QUERY_, &query) == 0 && query.vma_name_size > 1)
		return (long)query.vma_name_size - 1;
	mapping_link(m, path);
	return sys_call(SYS_readlinkat, proc_fd, path, name, NAME_MAX_BYTES);
}

static void resolve_escaped(struct maps *maps, int proc_fd)
{
	int maps_fd guard(guard_close) = -1;

	for (size_t i = 0; i < maps->n; i++) {
		struct mapping *m = &maps->list[i];

		if (!(m->flags & MAPPING_ESCAPED))
			continue;
		char *name = arena_alloc(maps->arena, NAME_MAX_BYTES);

		if (maps_fd < 0)
			maps_fd = sys_openat(proc_fd, "maps", O_RDONLY, 0);
		const long len = name ? ask(maps_fd, proc_fd, m, name) : 0;

		if (len > 0) {
			m->name = name;
			m->name_len = (uint32_t)len;
		}
	}
}

static void strip_root(struct maps *maps, int proc_fd)
{
	char *root = arena_alloc(maps->arena, NAME_MAX_BYTES);
	const long len = root ? sys_call(SYS_readlinkat, proc_fd, "root", root, NAME_MAX_BYTES) : 0;

	// "/" for a process without one, and for a container with a root mount of its own.
	if (len <= 1)
		return;
	for (size_t i = 0; i < maps->n; i++) {
		struct mapping *m = &maps->list[i];

		if (mapping_has_file(m) && m->name_len > (size_t)len && m->name[len] == '/' &&
		    memcmp(m->name, root, (size_t)len) == 0) {
			m->name += len;
			m->name_len -= (uint32_t)len;
		}
	}
}

void mapname_resolve(struct maps *maps, int proc_fd)
{
	resolve_escaped(maps, proc_fd);
	strip_root(maps, proc_fd);
}
