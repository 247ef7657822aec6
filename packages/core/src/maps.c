/* SPDX-License-Identifier: BSD-3-Clause */
#include "maps.h"

#include <string.h>

#include "cleanup.h"
#include "procfs.h"

// Bits of coredump_filter (core(5); include/linux/mm_types.h, MMF_DUMP_*).
enum {
	FILTER_ANON_PRIVATE = 1 << 0,
	FILTER_ANON_SHARED = 1 << 1,
	FILTER_MAPPED_PRIVATE = 1 << 2,
	FILTER_MAPPED_SHARED = 1 << 3,
	FILTER_ELF_HEADERS = 1 << 4,
	FILTER_HUGETLB_PRIVATE = 1 << 5,
	FILTER_HUGETLB_SHARED = 1 << 6,
};

// seq_file_path() writes a newline in a name as \012 and leaves all else as it is.
static uint32_t unescape(char *to, const char *from, size_t len)
{
	uint32_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (len - i >= 4 && memcmp(from + i, "\\012", 4) == 0) {
			to[n++] = '\n';
			i += 3;
		} else {
			to[n++] = from[i];
		}
	}
	return n;
}

static uint32_t permissions(const char *perms)
{
	return (perms[0] == 'r' ? MAPPING_READ : 0u) | (perms[1] == 'w' ? MAPPING_WRITE : 0u) |
	       (perms[2] == 'x' ? MAPPING_EXEC : 0u) | (perms[3] == 's' ? MAPPING_SHARED : 0u);
}

static bool ends_with(const struct mapping *m, const char *suffix)
{
	const size_t n = strlen(suffix);

	return m->name_len >= n && memcmp(m->name + m->name_len - n, suffix, n) == 0;
}

static bool begins_with(const struct mapping *m, const char *prefix)
{
	const size_t n = strlen(prefix);

	return m->name_len >= n && memcmp(m->name, prefix, n) == 0;
}

// Shared anonymous memory that prctl(PR_SET_VMA_ANON_NAME) gave a name hides the name of its file
// (get_vma_name in fs/proc/task_mmu.c), which is always this one (shmem_zero_setup).
static void restore_shmem_name(struct mapping *m)
{
	static const char name[] = "/dev/zero (deleted)";

	m->name = name;
	m->name_len = sizeof(name) - 1;
	m->flags &= ~(uint32_t)MAPPING_ESCAPED;
}

// A number and the separator behind it.
static bool field(const char **at, unsigned int base, char separator, uint64_t *ret)
{
	const char *const text = *at;

	*ret = procfs_number(text, base, at);
	return *at > text && *(*at)++ == separator;
}

// The file is read in pieces, and each goes on at the address where the one before ended. Of a
// running process the mapping there may have grown downwards meanwhile.
static void make_way(struct maps *maps, uint64_t start)
{
	while (maps->n && maps->list[maps->n - 1].start >= start)
		maps->n--;
	if (maps->n && maps->list[maps->n - 1].end > start)
		maps->list[maps->n - 1].end = start;
}

// "7f00-7f01 r-xp 00000000 fe:00 338944                     /usr/lib/x"
static int feed_header(struct maps *maps, const char *line, size_t len)
{
	struct mapping m = { .skip_reason = -1 };
	const char *const end = line + len;
	const char *at = line;
	uint64_t major, minor;

	if (!field(&at, 16, '-', &m.start) || !field(&at, 16, ' ', &m.end) || m.end <= m.start ||
	    end - at < 5 || at[4] != ' ')
		return -EINVAL;
	m.flags = permissions(at);
	at += 5;
	if (!field(&at, 16, ' ', &m.offset) || !field(&at, 16, ':', &major) ||
	    !field(&at, 16, ' ', &minor))
		return -EINVAL;
	m.dev_major = (uint32_t)major;
	m.dev_minor = (uint32_t)minor;
	m.inode = procfs_number(at, 10, &at);
	while (at < end && *at == ' ')
		at++;
	if (at < end) {
		char *name = arena_alloc(maps->arena, (size_t)(end - at));

		if (!name)
			return -ENOMEM;
		m.name_len = unescape(name, at, (size_t)(end - at));
		m.name = name;
		if (m.name_len != (size_t)(end - at))
			m.flags |= MAPPING_ESCAPED;
		if (mapping_has_file(&m) && begins_with(&m, "[anon_shmem:"))
			restore_shmem_name(&m);
		if (mapping_has_file(&m) && ends_with(&m, " (deleted)"))
			m.flags |= MAPPING_DELETED;
	}
	make_way(maps, m.start);
	if (arena_grow(maps->arena, &maps->list, &maps->cap, maps->n + 1, sizeof(m)) < 0)
		return -ENOMEM;
	maps->list[maps->n++] = m;
	return 0;
}

static void feed_vm_flags(struct mapping *m, const char *at, const char *end)
{
	static const struct {
		char name[3];
		uint32_t flag;
	} known[] = {
		{ "dd", MAPPING_DONTDUMP }, { "io", MAPPING_IO },         { "ht", MAPPING_HUGETLB },
		{ "dc", MAPPING_DONTFORK }, { "wf", MAPPING_WIPEONFORK }, { "pf", MAPPING_PFN },
		{ "mt", MAPPING_TAGGED },   { "nr", MAPPING_NORESERVE },
	};
	bool shared = false;

	for (; end - at >= 2; at += 3) {
		shared |= memcmp(at, "sh", 2) == 0;
		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			if (memcmp(at, known[i].name, 2) == 0)
				m->flags |= known[i].flag;
	}
	if ((m->flags & MAPPING_SHARED) && !shared)
		m->flags |= MAPPING_READ_SHARED;
}

static bool starts(const char *line, size_t len, const char *prefix, const char **rest)
{
	const size_t n = strlen(prefix);

	if (len < n || memcmp(line, prefix, n) != 0)
		return false;
	for (*rest = line + n; *rest < line + len && **rest == ' '; (*rest)++)
		;
	return true;
}

// Rss leaves these pages out (smaps_hugetlb_range in fs/proc/task_mmu.c).
static void count_hugetlb(struct mapping *m, uint64_t size)
{
	m->resident += size;
	m->huge += size;
}

int maps_feed(struct maps *maps, const char *line, size_t len)
{
	const char *rest;

	// Header lines begin with a lower-case hexadecimal address, detail lines with a capital.
	if (len && ((*line >= '0' && *line <= '9') || (*line >= 'a' && *line <= 'f')))
		return feed_header(maps, line, len);
	if (!maps->n)
		return len ? -EINVAL : 0;
	struct mapping *m = &maps->list[maps->n - 1];

	if (starts(line, len, "Rss:", &rest))
		m->resident = procfs_number(rest, 10, NULL) * 1024;
	else if (starts(line, len, "Anonymous:", &rest) || starts(line, len, "Swap:", &rest))
		m->anonymous += procfs_number(rest, 10, NULL) * 1024;
	else if (starts(line, len, "AnonHugePages:", &rest) ||
		 starts(line, len, "ShmemPmdMapped:", &rest))
		m->huge += procfs_number(rest, 10, NULL) * 1024;
	else if (starts(line, len, "Shared_Hugetlb:", &rest) ||
		 starts(line, len, "Private_Hugetlb:", &rest))
		count_hugetlb(m, procfs_number(rest, 10, NULL) * 1024);
	else if (starts(line, len, "VmFlags:", &rest))
		feed_vm_flags(m, rest, line + len);
	return 0;
}

int maps_read(struct maps *maps, int proc_fd, const char *file, struct coresnap_error *err)
{
	// A line holds a path of at most PATH_MAX bytes, each of which may be escaped.
	enum { BUFFER = 65536 };
	const int fd guard(guard_close) = sys_openat(proc_fd, file, O_RDONLY, 0);
	char *buf = arena_alloc(maps->arena, BUFFER);
	size_t used = 0;

	if (fd < 0)
		return error_set(err, procfs_error_code(-fd), -fd, "cannot open /proc/PID/%s: %s",
				 file, error_errno_name(-fd));
	if (!buf)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory to read the mappings");
	for (;;) {
		const ssize_t n = sys_read(fd, buf + used, BUFFER - 1 - used);
		char *line = buf, *newline;

		if (n < 0)
			return error_set(err, procfs_error_code((int)-n), (int)-n,
					 "cannot read /proc/PID/%s: %s", file,
					 error_errno_name((int)-n));
		if (n == 0)
			return 0;
		used += (size_t)n;
		buf[used] = '\0';
		while ((newline = memchr(line, '\n', used - (size_t)(line - buf)))) {
			*newline = '\0';
			const int ret = maps_feed(maps, line, (size_t)(newline - line));

			if (ret < 0)
				return error_set(err, CORESNAP_E_FAILED, -ret,
						 "cannot understand /proc/PID/%s: %s", file,
						 error_errno_name(-ret));
			line = newline + 1;
		}
		used -= (size_t)(line - buf);
		memmove(buf, line, used);
		if (used == BUFFER - 1)
			return error_set(err, CORESNAP_E_FAILED, ENAMETOOLONG,
					 "a line of /proc/PID/%s is too long", file);
	}
}

const struct mapping *maps_at(const struct maps *maps, uint64_t address)
{
	size_t low = 0, high = maps->n;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (maps->list[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < maps->n && maps->list[low].start <= address ? &maps->list[low] : NULL;
}

bool mapping_has_file(const struct mapping *m)
{
	return m->inode != 0 || m->dev_major != 0 || m->dev_minor != 0;
}

void mapping_link(const struct mapping *m, char path[MAPPING_LINK_SIZE])
{
	error_format(path, MAPPING_LINK_SIZE, "map_files/%llx-%llx", (unsigned long long)m->start,
		     (unsigned long long)m->end);
}

bool mapping_named(const struct mapping *m, const char *name)
{
	return m->name_len == strlen(name) && memcmp(m->name, name, m->name_len) == 0;
}

// Shared pages go on changing, DONTFORK areas vanish, WIPEONFORK ones are zero, and a write of the
// parent to a private huge page takes it away from the child when no other is free
// (unmap_ref_private in mm/hugetlb.c).
//
// A file that was opened for reading is not among them: the mapping is what a private one of it is,
// program text for one. The target cannot write through it, ever (VM_MAYWRITE is not set), and whoever
// writes to the file otherwise is not held up by our stop, nor by the kernel's own dump. But such
// memory in no file of a disk is there to be written to by somebody else, and where it has holes can
// be seen by the page tables alone, which a copy does not have of it.
bool mapping_unforkable(const struct mapping *m)
{
	const bool as_private = (m->flags & MAPPING_READ_SHARED) && !mapping_diskless(m);

	return m->flags & ((as_private ? 0u : MAPPING_SHARED) | MAPPING_DONTFORK |
			   MAPPING_WIPEONFORK | MAPPING_HUGETLB);
}

bool mapping_diskless(const struct mapping *m)
{
	return (m->flags & MAPPING_SHARED) && m->dev_major == 0;
}

// always_dump_vma(): the gate and special mappings with a name ([vdso], [vvar], [vvar_vclock],
// [uprobes], [sigpage], [vectors]). Names in brackets that are not special mappings: the main heap
// and stacks, and what prctl(PR_SET_VMA_ANON_NAME) gave.
bool mapping_is_special(const struct mapping *m)
{
	return !mapping_has_file(m) && m->name_len > 2 && m->name[0] == '[' &&
	       !mapping_named(m, "[heap]") && !mapping_named(m, "[stack]") &&
	       !begins_with(m, "[anon:") && !begins_with(m, "[stack:");
}

static bool dumped_as_shared(const struct mapping *m)
{
	return (m->flags & MAPPING_SHARED) && !(m->flags & MAPPING_READ_SHARED);
}

bool mapping_wants_first_page(const struct mapping *m, uint64_t filter)
{
	return (filter & FILTER_ELF_HEADERS) && mapping_has_file(m) && m->offset == 0 &&
	       (m->flags & MAPPING_READ) && !dumped_as_shared(m) &&
	       !(m->flags & (MAPPING_DONTDUMP | MAPPING_IO | MAPPING_HUGETLB)) &&
	       !(m->anonymous && (filter & FILTER_ANON_PRIVATE)) &&
	       !(filter & FILTER_MAPPED_PRIVATE);
}

static void keep(struct mapping *m, bool whole, int reason)
{
	m->dump_size = whole ? m->end - m->start : 0;
	m->skip_reason = whole ? -1 : reason;
}

void mapping_select(struct mapping *m, const struct mapping_facts *facts)
{
	const uint64_t filter = facts->filter;
	const bool shared = dumped_as_shared(m);

	if (mapping_is_special(m))
		return keep(m, true, 0);
	if (m->flags & MAPPING_DONTDUMP)
		return keep(m, false, CORESNAP_SKIP_DONTDUMP);
	if (m->flags & MAPPING_HUGETLB)
		return keep(m, filter & (shared ? FILTER_HUGETLB_SHARED : FILTER_HUGETLB_PRIVATE),
			    CORESNAP_SKIP_FILTER);
	if (m->flags & MAPPING_IO)
		return keep(m, false, CORESNAP_SKIP_IO);
	if (shared)
		return keep(m,
			    filter & (m->flags & MAPPING_DELETED ? FILTER_ANON_SHARED :
								   FILTER_MAPPED_SHARED),
			    CORESNAP_SKIP_FILTER);
	// The kernel asks whether the mapping has an anon_vma, which is not visible from outside;
	// it gets one with its first written page.
	if (m->anonymous && (filter & FILTER_ANON_PRIVATE))
		return keep(m, true, 0);
	if (!mapping_has_file(m))
		return keep(m, false, m->anonymous ? CORESNAP_SKIP_FILTER : -1);
	if (filter & FILTER_MAPPED_PRIVATE)
		return keep(m, true, 0);
	keep(m, false, CORESNAP_SKIP_FILTER);
	if (mapping_wants_first_page(m, filter) && facts->first_page_kept)
		m->dump_size =
			facts->page_size < m->end - m->start ? facts->page_size : m->end - m->start;
}
