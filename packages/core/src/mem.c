/* SPDX-License-Identifier: BSD-3-Clause */
#include "mem.h"

#include <string.h>

#include "cleanup.h"
#include "pagemap.h"
#include "procfs.h"

#define PIECE (1u << 20)

enum { MAX_TOGETHER = 512 };

struct scan {
	struct mem *mem;
	uint64_t limit;  // end of the mapping's kept bytes
	uint64_t listed; // end of its last extent
	bool certain;
};

static int no_memory(struct coresnap_error *err)
{
	return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory to list the pages");
}

static int add_extent(void *arg, uint64_t start, uint64_t end)
{
	struct scan *scan = arg;
	struct mem *mem = scan->mem;

	// A file system with small blocks can have two runs of data in one page.
	if (start < scan->listed)
		start = scan->listed;
	if (end > scan->limit)
		end = scan->limit;
	if (start >= end)
		return 0;
	if (arena_grow(mem->arena, &mem->list, &mem->cap, mem->n + 1, sizeof(*mem->list)) < 0)
		return -ENOMEM;
	mem->list[mem->n++] =
		(struct extent){ .start = start, .end = end, .certain = scan->certain };
	scan->listed = end;
	return 0;
}

static bool wanted(const struct mapping *m, enum mem_part part)
{
	// Device memory and vvar look readable and then fault; the kernel writes zeros too.
	if (m->dump_size == 0 || (m->flags & (MAPPING_IO | MAPPING_PFN | MAPPING_LOST)))
		return false;
	switch (part) {
	case MEM_ALL:
		return true;
	case MEM_UNFORKABLE:
		return mapping_unforkable(m);
	case MEM_FORKED:
		return !mapping_unforkable(m);
	}
	return false;
}

// A descriptor of the target that is open on the mapping's file (memfd, tmpfs), opened anew;
// -ENOENT when there is none.
static int open_descriptor(const struct mem *mem, const struct mapping *m)
{
	struct procfs_dir dir guard(procfs_closedir) = { .fd = -1 };
	const char *name;
	struct statx st;

	if (procfs_opendir(&dir, mem->image->proc_fd, "fd") < 0)
		return -ENOENT;
	while ((name = procfs_readdir(&dir)))
		if (sys_statx(dir.fd, name, 0, &st) == 0 && (st.stx_mode & S_IFMT) == S_IFREG &&
		    st.stx_ino == m->inode && st.stx_dev_major == m->dev_major &&
		    st.stx_dev_minor == m->dev_minor)
			return sys_openat(dir.fd, name, O_RDONLY, 0);
	return -ENOENT;
}

// Opens the file behind a mapping: by its link in map_files, which needs a capability, or by a
// descriptor of the target. A negative errno without either, -EACCES for what is no regular file,
// since opening a device may do something.
static int open_file(const struct mem *mem, const struct mapping *m, struct statx *st)
{
	char path[MAPPING_LINK_SIZE];

	mapping_link(m, path);
	const int ret = sys_statx(mem->image->proc_fd, path, 0, st);

	if (ret == 0 && (st->stx_mode & S_IFMT) != S_IFREG)
		return -EACCES;
	const int fd = ret < 0 ? ret : sys_openat(mem->image->proc_fd, path, O_RDONLY, 0);

	return fd < 0 ? open_descriptor(mem, m) : fd;
}

// The data of a shared mapping's file, holes left out: reading a hole of shared memory would fill
// it.
static int scan_file(struct scan *scan, const struct mapping *m)
{
	const uint64_t page = 4095;
	struct statx st;
	const int fd guard(guard_close) = open_file(scan->mem, m, &st);
	uint64_t at = m->offset;

	if (fd < 0)
		return fd;
	while (at < m->offset + m->dump_size) {
		const int64_t data = sys_lseek(fd, (int64_t)at, SEEK_DATA);
		const int64_t hole = data < 0 ? data : sys_lseek(fd, data, SEEK_HOLE);

		if (data == -ENXIO)
			return 0; // nothing but a hole up to the end
		// No answer, or one that leads nowhere: the rest counts as data.
		if (hole <= data)
			return add_extent(scan, m->start + (at - m->offset), scan->limit);
		if ((uint64_t)data >= m->offset + m->dump_size)
			return 0;
		const int ret =
			add_extent(scan, m->start + (((uint64_t)data & ~page) - m->offset),
				   m->start + (((uint64_t)hole + page) & ~page) - m->offset);
		if (ret < 0)
			return ret;
		at = (uint64_t)hole;
	}
	return 0;
}

static int scan_pages(struct scan *scan, const struct snapshot *s, const struct mapping *m,
		      uint64_t expected, int pagemap)
{
	int ret;

	scan->certain = true;
	ret = pagemap_scan_ioctl(pagemap, m->start, scan->limit, add_extent, scan);
	if (ret == -ENOTTY || ret == -EINVAL)
		ret = pagemap_scan_read(pagemap, m->start, scan->limit, s->page_size, expected,
					add_extent, scan);
	return ret;
}

// Has every huge page of the file been made? hugetlbfs cannot tell where its holes are
// (SEEK_DATA), and reading one takes a huge page from the pool.
static bool hugetlb_complete(const struct mem *mem, const struct mapping *m)
{
	struct statx st;
	const int fd guard(guard_close) = open_file(mem, m, &st);

	return fd >= 0 && st.stx_size != 0 && st.stx_blocks >= st.stx_size / 512;
}

// Kept without a file and without a written page is only [vdso] and the like. MAP_PRIVATE of
// /dev/zero is anonymous memory that has a file (mmap_zero in drivers/char/mem.c).
static bool is_anonymous(const struct mapping *m)
{
	if (m->flags & MAPPING_SHARED)
		return false;
	return mapping_has_file(m) ? mapping_named(m, "/dev/zero") : m->anonymous != 0;
}

// Shared memory whose holes nobody can tell us: a page that was never written cannot be told from
// one that only another process has mapped, and reading it would make it, in the target, for good.
// What the target has mapped in is taken; the rest is told.
static int scan_shared_memory(struct scan *scan, const struct snapshot *s, const struct mapping *m,
			      int pagemap)
{
	struct mem *mem = scan->mem;
	const size_t first = mem->n;
	uint64_t at = m->start;
	const int ret = scan_pages(scan, s, m, m->dump_size, pagemap);

	for (size_t i = first; ret == 0 && i <= mem->n; i++) {
		const uint64_t next = i < mem->n ? mem->list[i].start : scan->limit;

		if (next > at && mem->unmapped)
			mem->unmapped(mem->skip_arg, at, next);
		at = i < mem->n ? mem->list[i].end : at;
	}
	return ret;
}

int mem_scan_mapping(struct mem *mem, const struct snapshot *s, const struct mapping *m,
		     int pagemap)
{
	struct scan scan = { .mem = mem, .limit = m->start + m->dump_size };

	if ((m->flags & MAPPING_HUGETLB) && !hugetlb_complete(mem, m))
		return scan_pages(&scan, s, m, m->dump_size, pagemap);
	if (m->flags & MAPPING_SHARED) {
		const int ret = scan_file(&scan, m);

		if (ret == 0 || ret == -ENOMEM)
			return ret;
		// What is swapped out is not mapped in either: then only reading tells.
		if (mapping_diskless(m) && m->anonymous == 0)
			return scan_shared_memory(&scan, s, m, pagemap);
	}
	if (is_anonymous(m))
		return scan_pages(&scan, s, m, m->anonymous, pagemap);
	// Pages of a file that are not mapped in yet belong to the core as well (get_dump_page
	// faults them in), and so do those of [vdso].
	return add_extent(&scan, m->start, scan.limit);
}

int mem_scan(struct mem *mem, const struct snapshot *s, enum mem_part part,
	     struct coresnap_error *err)
{
	const int pagemap guard(guard_close) =
		sys_openat(mem->image->proc_fd, "pagemap", O_RDONLY, 0);

	if (pagemap < 0)
		return error_set(err, procfs_error_code(-pagemap), -pagemap,
				 "cannot open /proc/%d/pagemap: %s", mem->image->pid,
				 error_errno_name(-pagemap));
	for (size_t i = 0; i < s->maps.n; i++) {
		const struct mapping *m = &s->maps.list[i];

		if (!wanted(m, part))
			continue;
		const int ret = mem_scan_mapping(mem, s, m, pagemap);

		if (ret == -ENOMEM)
			return no_memory(err);
		if (ret < 0) {
			err->address = m->start;
			return error_set(err,
					 target_exited(mem->image) ? CORESNAP_E_TARGET_GONE :
								     CORESNAP_E_FAILED,
					 -ret, "cannot list the pages of process %d at 0x%llx: %s",
					 mem->image->pid, (unsigned long long)m->start,
					 error_errno_name(-ret));
		}
	}
	return 0;
}

// Two ascending runs, one behind the other, become one.
int mem_sort(struct mem *mem)
{
	size_t split = 1, left = 0;

	while (split < mem->n && mem->list[split - 1].start <= mem->list[split].start)
		split++;
	if (split >= mem->n)
		return 0;
	struct extent *out = arena_alloc(mem->arena, mem->n * sizeof(*out));
	size_t right = split;

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < mem->n; i++) {
		const bool take_left =
			left < split &&
			(right >= mem->n || mem->list[left].start <= mem->list[right].start);

		out[i] = take_left ? mem->list[left++] : mem->list[right++];
	}
	mem->list = out;
	mem->cap = mem->n;
	return 0;
}

uint64_t mem_size(const struct mem *mem, size_t from)
{
	uint64_t size = 0;

	for (size_t i = from; i < mem->n; i++)
		size += mem->list[i].end - mem->list[i].start;
	return size;
}

void mem_reserve(struct mem *mem, uint64_t size)
{
	mem->stage = size <= SIZE_MAX ? arena_alloc_populated(mem->arena, (size_t)size) : NULL;
	mem->stage_size = mem->stage ? (size_t)size : 0;
}

// Many small extents by one call, where they may be pinned, as far as that goes. How many were read.
static size_t read_together(struct mem *mem, size_t from, size_t until, uint8_t *at)
{
	struct iovec ranges[MAX_TOGETHER];
	uint64_t size = 0;
	size_t n = 0;

	for (; mem->fresh && n < MAX_TOGETHER && from + n < until; n++) {
		const struct extent *const extent = &mem->list[from + n];
		const uint64_t len = extent->end - extent->start;

		if (size + len > PIECE)
			break;
		size += len;
		ranges[n] = (struct iovec){ .iov_base = (void *)(uintptr_t)extent->start,
					    .iov_len = (size_t)len };
	}
	n = target_gather(mem->image, ranges, n, at);
	for (size_t i = 0; i < n; i++) {
		mem->list[from + i].bytes = at;
		at += ranges[i].iov_len;
		mem->bytes_read += ranges[i].iov_len;
	}
	return n;
}

static int may_go_on(const struct mem *mem, struct coresnap_error *err)
{
	if (mem->cancel && __atomic_load_n(mem->cancel, __ATOMIC_RELAXED))
		return error_cancelled(err);
	return mem->deadline_ns && sys_now_ns() >= mem->deadline_ns ? -ETIME : 0;
}

static int read_extent(struct mem *mem, struct extent *extent, uint8_t *at,
		       struct coresnap_error *err)
{
	const size_t len = (size_t)(extent->end - extent->start);

	for (size_t done = 0; done < len; done += PIECE) {
		const size_t piece = len - done < PIECE ? len - done : PIECE;
		int ret = may_go_on(mem, err);

		if (ret < 0)
			return ret;
		ret = mem_read(mem, extent, extent->start + done, at + done, piece);

		if (ret < 0) {
			err->address = extent->start + done;
			return error_set(err, CORESNAP_E_TARGET_GONE, -ret,
					 "process %d went away while its memory was read",
					 mem->image->pid);
		}
	}
	extent->bytes = at;
	return 0;
}

static int read_extents(struct mem *mem, size_t from, size_t end, uint8_t *at,
			struct coresnap_error *err)
{
	size_t i = from;

	while (i < end) {
		int ret = may_go_on(mem, err);

		if (ret < 0)
			return ret;
		const size_t n = read_together(mem, i, end, at);

		ret = n ? 0 : read_extent(mem, &mem->list[i], at, err);

		if (ret < 0)
			return ret;
		// What is too large for that, or cannot be read as a whole, goes alone.
		for (const size_t until = i + (n ? n : 1); i < until; i++)
			at += mem->list[i].end - mem->list[i].start;
	}
	return 0;
}

int mem_stage(struct mem *mem, size_t from, struct coresnap_error *err)
{
	uint64_t fits = 0;
	size_t split = from;

	for (; split < mem->n; split++) {
		fits += mem->list[split].end - mem->list[split].start;
		if (fits > mem->stage_size)
			break;
	}
	// What was not reserved for.
	const uint64_t rest = mem_size(mem, split);
	uint8_t *const more =
		rest && rest <= SIZE_MAX ? arena_alloc(mem->arena, (size_t)rest) : NULL;

	if (rest && !more)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM,
				 "no memory to hold %llu bytes of the target",
				 (unsigned long long)rest);
	const int ret = read_extents(mem, from, split, mem->stage, err);

	return ret < 0 ? ret : read_extents(mem, split, mem->n, more, err);
}

static void skip_page(struct mem *mem, const struct extent *extent, uint64_t start, uint64_t end)
{
	// Behind the end of a file, or the gate page: the kernel has a hole there as well.
	if (!extent->certain)
		return;
	mem->bytes_unreadable += end - start;
	if (mem->unreadable)
		mem->unreadable(mem->skip_arg, start, end);
}

static int read_spool(const struct mem *mem, const struct extent *extent, uint64_t address,
		      uint8_t *bytes, size_t size)
{
	for (size_t done = 0; done < size;) {
		const ssize_t n = sys_pread(mem->spool_fd, bytes + done, size - done,
					    extent->offset + (address + done - extent->start));

		if (n <= 0)
			return n ? (int)n : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int mem_read(struct mem *mem, const struct extent *extent, uint64_t address, void *buf, size_t size)
{
	const uint64_t page = 4096;
	uint8_t *const bytes = buf;
	size_t done = 0;

	if (extent->spooled)
		return read_spool(mem, extent, address, bytes, size);
	while (done < size) {
		const ssize_t n =
			target_read(mem->image, address + done, bytes + done, size - done);

		if (n > 0) {
			mem->bytes_read += (uint64_t)n;
			done += (size_t)n;
			continue;
		}
		// A dead process reads as end of file, which target_read() tells as ESRCH.
		if (n == -ESRCH || target_exited(mem->image))
			return -ESRCH;
		const uint64_t bad = (address + done) & ~(page - 1);
		const uint64_t end = bad + page < address + size ? bad + page : address + size;

		skip_page(mem, extent, address + done, end);
		memset(bytes + done, 0, (size_t)(end - address) - done);
		done = (size_t)(end - address);
	}
	return 0;
}
