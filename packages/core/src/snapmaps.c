/* SPDX-License-Identifier: BSD-3-Clause */
#include "snapmaps.h"

#include <elf.h>
#include <string.h>

#include "mapname.h"
#include "procfs.h"
#include "sys.h"

// The default of coredump_filter (MMF_DUMP_FILTER_DEFAULT in include/linux/mm_types.h).
#define DEFAULT_FILTER 0x33

// An executable inode or ELF magic (vma_dump_size and dump_vma_snapshot in fs/coredump.c). The
// image is where the bytes are read: the target, or the copy of it.
static bool keeps_first_page(const struct target *image, const struct mapping *m)
{
	char path[MAPPING_LINK_SIZE], magic[SELFMAG];
	struct statx st;

	if (target_read(image, m->start, magic, SELFMAG) == SELFMAG &&
	    memcmp(magic, ELFMAG, SELFMAG) == 0)
		return true;
	mapping_link(m, path);
	return sys_statx(image->proc_fd, path, 0, &st) == 0 && (st.stx_mode & 0111);
}

// A file with a name left elsewhere (a hard link) is not "deleted" for the kernel, which asks
// i_nlink; the text in maps tells of this one name only. Needs a capability; else the text counts.
static void check_deleted(const struct target *target, struct mapping *m)
{
	char path[MAPPING_LINK_SIZE];
	struct statx st;

	mapping_link(m, path);
	if (sys_statx(target->proc_fd, path, 0, &st) < 0)
		return;
	m->flags &= ~(uint32_t)MAPPING_DELETED;
	if (st.stx_nlink == 0)
		m->flags |= MAPPING_DELETED;
}

static void select_mapping(struct mapping *m, uint64_t filter, uint64_t page_size,
			   const struct target *image)
{
	struct mapping_facts facts = { .filter = filter, .page_size = page_size };

	if (mapping_wants_first_page(m, filter))
		facts.first_page_kept = keeps_first_page(image, m);
	mapping_select(m, &facts);
}

// Takes the injected range off a mapping that it has merged with, or is. False: nothing is left.
static bool cut_injected(struct mapping *m, const struct snapshot_options *options)
{
	const uint64_t start = options->injected, end = start + options->injected_size;

	if (start == end || m->start >= end || m->end <= start)
		return true;
	if (m->start >= start)
		m->start = end;
	else if (m->end <= end)
		m->end = start;
	return m->start < m->end;
}

// Reads the list from maps or smaps, without what is not the target's own: the dumper's memory when
// it dumps itself, and what was injected.
static int read_list(struct snapshot *s, const struct target *target, const char *file,
		     const struct snapshot_options *options, struct coresnap_error *err)
{
	size_t kept = 0;

	s->maps = (struct maps){ .arena = s->arena };
	const int ret = maps_read(&s->maps, target->proc_fd, file, err);

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < s->maps.n; i++) {
		struct mapping m = s->maps.list[i];

		if (options->first_tid && arena_owns(s->arena, m.start, m.end))
			continue;
		if (!cut_injected(&m, options))
			continue;
		if ((m.flags & MAPPING_SHARED) && (m.flags & MAPPING_DELETED))
			check_deleted(target, &m);
		s->maps.list[kept++] = m;
	}
	s->maps.n = kept;
	mapname_resolve(&s->maps, target->proc_fd);
	if (kept)
		return 0;
	return error_set(err, CORESNAP_E_TARGET_GONE, ESRCH,
			 "process %d has no memory any more: it has exited", target->pid);
}

int snapmaps_ahead(struct snapshot_options *options, const struct target *target,
		   struct arena *arena, struct coresnap_error *err)
{
	char text[64];

	if (!options->has_filter) {
		options->filter = DEFAULT_FILTER;
		if (procfs_read(target->proc_fd, "coredump_filter", text, sizeof(text)) > 0)
			options->filter = procfs_number(text, 16, NULL);
	}
	options->ahead = (struct maps){ .arena = arena };
	return maps_read(&options->ahead, target->proc_fd, "smaps", err);
}

int snapmaps_whole(struct snapshot *s, const struct target *target,
		   const struct snapshot_options *options, struct coresnap_error *err)
{
	const int ret = read_list(s, target, "smaps", options, err);

	if (ret < 0)
		return ret;
	s->filter = options->filter;
	for (size_t i = 0; i < s->maps.n; i++)
		select_mapping(&s->maps.list[i], s->filter, s->page_size, target);
	return 0;
}

static bool same_mapping(const struct mapping *a, const struct mapping *b)
{
	const uint32_t visible = MAPPING_READ | MAPPING_WRITE | MAPPING_EXEC | MAPPING_SHARED;

	return a->start == b->start && a->end == b->end && a->offset == b->offset &&
	       a->inode == b->inode && a->dev_major == b->dev_major &&
	       a->dev_minor == b->dev_minor && ((a->flags ^ b->flags) & visible) == 0;
}

// The mapping of an ascending list that is the same; *at moves on.
static const struct mapping *find_same(const struct maps *list, size_t *at, const struct mapping *m)
{
	while (*at < list->n && list->list[*at].start < m->start)
		++*at;
	return *at < list->n && same_mapping(&list->list[*at], m) ? &list->list[*at] : NULL;
}

// The mapping of a later ascending list, of the target or of its copy, that one became. It may be
// larger: the page that was injected before the fork can have merged with it, and through that with
// the next one; or it has grown.
static const struct mapping *find_covering(const struct maps *list, size_t *at,
					   const struct mapping *m)
{
	while (*at < list->n && list->list[*at].end <= m->start)
		++*at;
	if (*at == list->n || list->list[*at].start > m->start || list->list[*at].end < m->end)
		return NULL;
	const struct mapping *const found = &list->list[*at];
	struct mapping part = *found;

	part.start = m->start;
	part.end = m->end;
	part.offset += mapping_has_file(m) ? m->start - found->start : 0;
	return same_mapping(&part, m) ? found : NULL;
}

static void take_details(struct mapping *m, const struct mapping *from)
{
	const uint32_t details = MAPPING_DONTDUMP | MAPPING_IO | MAPPING_HUGETLB |
				 MAPPING_DONTFORK | MAPPING_WIPEONFORK | MAPPING_PFN |
				 MAPPING_READ_SHARED | MAPPING_TAGGED | MAPPING_NORESERVE;

	m->flags = (m->flags & ~details) | (from->flags & details);
	m->anonymous = from->anonymous;
	m->resident = from->resident;
}

int snapmaps_unforkable(struct snapshot *s, const struct target *target,
			const struct snapshot_options *options, struct coresnap_error *err)
{
	size_t at = 0;
	const int ret = read_list(s, target, "maps", options, err);

	if (ret < 0)
		return ret;
	s->filter = options->filter;
	for (size_t i = 0; i < s->maps.n; i++) {
		struct mapping *m = &s->maps.list[i];
		const struct mapping *known = find_same(&options->ahead, &at, m);

		// A shared mapping that appeared meanwhile may be device memory or not be wanted.
		if (!known && (m->flags & MAPPING_SHARED))
			return snapmaps_whole(s, target, options, err);
		if (known)
			take_details(m, known);
		// A page written since then.
		if ((m->flags & (MAPPING_DONTFORK | MAPPING_WIPEONFORK)) && !m->anonymous)
			return snapmaps_whole(s, target, options, err);
		if (mapping_unforkable(m))
			select_mapping(m, s->filter, s->page_size, target);
	}
	return 0;
}

void snapmaps_forget(struct snapshot *s, uint64_t start)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->maps.n; i++)
		if (s->maps.list[i].start != start)
			s->maps.list[kept++] = s->maps.list[i];
	s->maps.n = kept;
}

int snapmaps_from_copy(struct snapshot *s, const struct target *image, struct coresnap_error *err)
{
	struct maps copied = { .arena = s->arena };
	size_t at = 0;
	const int ret = maps_read(&copied, image->proc_fd, "smaps", err);

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < s->maps.n; i++) {
		struct mapping *m = &s->maps.list[i];
		const struct mapping *same = find_covering(&copied, &at, m);

		if (mapping_unforkable(m))
			continue; // staged in the pause
		if (same)
			take_details(m, same);
		// Marked MADV_DONTFORK or MADV_WIPEONFORK in the moment between.
		const bool lost = !same || mapping_unforkable(m);

		select_mapping(m, s->filter, s->page_size, image);
		if (lost && m->dump_size)
			m->flags |= MAPPING_LOST;
	}
	return 0;
}

void snapmaps_select_ahead(struct snapshot_options *options, const struct target *target)
{
	const uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);

	for (size_t i = 0; i < options->ahead.n; i++) {
		struct mapping *const m = &options->ahead.list[i];

		if ((m->flags & MAPPING_SHARED) && (m->flags & MAPPING_DELETED))
			check_deleted(target, m);
		select_mapping(m, options->filter, page_size, target);
	}
}

int snapmaps_precopied(struct snapshot *s, const struct target *target,
		       const struct snapshot_options *options, struct coresnap_error *err)
{
	size_t at = 0;
	const int ret = read_list(s, target, "maps", options, err);

	if (ret < 0)
		return ret;
	s->filter = options->filter;
	for (size_t i = 0; i < s->maps.n; i++) {
		struct mapping *m = &s->maps.list[i];
		const struct mapping *known = find_same(&options->ahead, &at, m);

		if (known) {
			take_details(m, known);
			m->dump_size = known->dump_size;
			m->skip_reason = known->skip_reason;
			continue;
		}
		// It may be device memory, or not be wanted; the file's own first page may decide.
		if ((m->flags & MAPPING_SHARED) || mapping_has_file(m))
			return snapmaps_whole(s, target, options, err);
		m->flags |= MAPPING_NEW;
		m->dump_size = m->anonymous = m->end - m->start;
	}
	return 0;
}

int snapmaps_select_new(struct snapshot *s, const struct target *target, struct coresnap_error *err)
{
	struct maps now = { .arena = s->arena };
	size_t at = 0, n = 0;

	for (size_t i = 0; i < s->maps.n; i++)
		n += (s->maps.list[i].flags & MAPPING_NEW) != 0;
	if (n == 0)
		return 0;
	const int ret = maps_read(&now, target->proc_fd, "smaps", err);

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < s->maps.n; i++) {
		struct mapping *m = &s->maps.list[i];
		const struct mapping *same = find_covering(&now, &at, m);
		const uint64_t anonymous = m->anonymous;

		if (!(m->flags & MAPPING_NEW))
			continue;
		if (same)
			take_details(m, same);
		m->anonymous = anonymous;
		m->flags &= ~(uint32_t)MAPPING_NEW;
		select_mapping(m, s->filter, s->page_size, target);
	}
	return 0;
}
