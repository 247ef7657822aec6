/* SPDX-License-Identifier: BSD-3-Clause */
// How this kernel's userfaultfds track writes, found out on memory of our own.
#include "cleanup.h"
#include "pagemap.h"
#include "sys.h"
#include "track_parts.h"

// More than one page table of any architecture covers.
#define HOLE_SIZE (8u << 20)

enum { MOVED_PAGES = 4 };

static uint64_t address_of(const void *memory)
{
	return (uint64_t)(uintptr_t)memory;
}

static void *map_own(size_t size)
{
	return sys_mmap(size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static int add_size(void *arg, uint64_t start, uint64_t end, uint64_t categories)
{
	(void)categories;
	*(uint64_t *)arg += end - start;
	return 0;
}

// How much of a range that is watched counts as written.
static int count_written(int pagemap, uint64_t start, uint64_t end, bool protect, uint64_t *size)
{
	const struct pagemap_query query = { .start = start,
					     .end = end,
					     .mask = PAGEMAP_WRITTEN,
					     .tell = PAGEMAP_WRITTEN,
					     .only_armed = true,
					     .protect = protect };

	*size = 0;
	return pagemap_ask(pagemap, &query, add_size, size);
}

// Of memory that has no page. Whether it counts as written what is not there, below a page table that
// is not there either, differs between kernels.
static int probe_hole(int fd, int pagemap, struct track_traits *traits)
{
	void *const map = map_own(HOLE_SIZE);

	if (sys_map_failed(map))
		return -ENOMEM;
	const uint64_t start = address_of(map);
	struct pagemap_query guards = { .start = start,
					.end = start + HOLE_SIZE,
					.mask = PAGEMAP_GUARD,
					.inverted = PAGEMAP_GUARD,
					.tell = PAGEMAP_WRITTEN,
					.only_armed = true };
	uint64_t size = 0, ignored = 0;
	int ret = track_uffd_register(fd, start, start + HOLE_SIZE);

	if (ret == 0)
		ret = count_written(pagemap, start, start + HOLE_SIZE, false, &size);
	traits->tells_holes = ret == 0 && size == HOLE_SIZE;
	traits->knows_guards = ret == 0 && pagemap_ask(pagemap, &guards, add_size, &ignored) == 0;
	sys_call(SYS_munmap, map, HOLE_SIZE);
	return ret;
}

// Watches pages, takes all of them, and moves them. *moved: the first half of the memory is no longer
// ours.
static int move_watched(int fd, int pagemap, uint64_t start, size_t size, bool *moved)
{
	uint64_t written;
	int ret = track_uffd_register(fd, start, start + size);

	*moved = false;
	if (ret == 0)
		ret = count_written(pagemap, start, start + size, true, &written);
	if (ret < 0)
		return ret;
	const void *const at = (void *)sys_call(SYS_mremap, start, size, size,
						MREMAP_MAYMOVE | MREMAP_FIXED, start + size);

	*moved = !sys_map_failed(at);
	return *moved ? 0 : (int)(intptr_t)at;
}

// Until Linux kernel commit 0cef0bb836e3 ("mm: clear uffd-wp PTE/PMD state on mremap()") (in v6.13 and
// in stable 6.12), mremap(2) took memory out of a userfaultfd's care, and left its pages marked as
// write-protected. Watched again they count as unwritten for good: a core would have zeros there. Such
// a kernel was not at hand: what it says here was concluded from its source (move_ptes() in
// mm/mremap.c), and only the answer of mended ones was seen.
static int probe_moved(int fd, int pagemap, struct track_traits *traits)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), size = MOVED_PAGES * page;
	void *const map = map_own(2 * size);

	if (sys_map_failed(map))
		return -ENOMEM;
	const uint64_t from = address_of(map), to = from + size;
	uint64_t written = 0;
	bool moved;

	for (size_t at = 0; at < size; at += page)
		*(volatile char *)((char *)map + at) = 1;
	int ret = move_watched(fd, pagemap, from, size, &moved);

	if (ret == 0)
		ret = track_uffd_register(fd, to, to + size);
	if (ret == 0)
		ret = count_written(pagemap, to, to + size, false, &written);
	traits->clears_moved = ret == 0 && written == size;
	// Where it was, a thread of the program whose memory we share may have mapped something by now.
	if (!moved)
		sys_call(SYS_munmap, from, size);
	sys_call(SYS_munmap, to, size);
	return ret;
}

int track_probe(struct track_traits *traits)
{
	const int fd guard(guard_close) = (int)sys_call(SYS_userfaultfd, TRACK_UFFD_FLAGS);
	const int pagemap guard(guard_close) =
		sys_openat(AT_FDCWD, "/proc/self/pagemap", O_RDONLY, 0);

	*traits = (struct track_traits){ 0 };
	if (fd < 0 || pagemap < 0)
		return fd < 0 ? fd : pagemap;
	int ret = track_uffd_start(fd);

	if (ret == 0)
		ret = probe_hole(fd, pagemap, traits);
	return ret < 0 ? ret : probe_moved(fd, pagemap, traits);
}

int track_probe_judge(const struct track_traits *traits, struct coresnap_error *err)
{
	if (traits->clears_moved)
		return 0;
	error_remedy(err, "Use the method fork or stop, or a kernel with commit 0cef0bb836e3 (Linux "
			  "6.13, or a later one of a stable series)");
	return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
			 "the kernel does not tell by a userfaultfd which pages were written of memory "
			 "that was moved (CVE-2025-21696)");
}
