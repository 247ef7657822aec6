/* SPDX-License-Identifier: BSD-3-Clause */
// Writes tracked by soft-dirty bits, and how news are told.
#include <sys/file.h>

#include "cleanup.h"
#include "pagemap.h"
#include "sys.h"
#include "track_parts.h"

#define KINDS                                                                  \
	(PAGEMAP_ENTRY_PRESENT | PAGEMAP_ENTRY_SWAPPED | PAGEMAP_ENTRY_GUARD | \
	 PAGEMAP_ENTRY_EXCLUSIVE | PAGEMAP_ENTRY_SOFT_DIRTY)

enum { ENTRIES = 2048 };

int track_tell_end(struct track_teller *teller, uint64_t end)
{
	int ret = 0;

	if (teller->gaps && teller->at < end)
		ret = teller->news(teller->arg, teller->at, end, TRACK_HOLE);
	teller->at = end;
	return ret;
}

int track_tell(struct track_teller *teller, uint64_t start, uint64_t end, bool fresh)
{
	int ret = track_tell_end(teller, start);

	if (ret == 0 && fresh)
		ret = teller->news(teller->arg, start, end, TRACK_BYTES);
	teller->at = end;
	return ret;
}

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

// A page that was just written has the bit where the kernel keeps one.
static bool kernel_has_bits(void)
{
	const int pagemap guard(guard_close) =
		sys_openat(AT_FDCWD, "/proc/self/pagemap", O_RDONLY, 0);
	char *const page =
		sys_mmap(page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entry = 0;

	if (sys_map_failed(page))
		return false;
	*(volatile char *)page = 1;
	const ssize_t n = pagemap_read(pagemap, (uint64_t)(uintptr_t)page, page_size(), &entry, 1);

	sys_call(SYS_munmap, page, page_size());
	return n == 1 && entry & PAGEMAP_ENTRY_SOFT_DIRTY;
}

static int fail_clear(const struct target *target, int ret, struct coresnap_error *err)
{
	return error_set(err, CORESNAP_E_FAILED, -ret,
			 "cannot clear the soft-dirty bits of process %d: %s", target->pid,
			 error_errno_name(-ret));
}

int track_dirty_possible(const struct target *target, struct coresnap_error *err)
{
	const int fd guard(guard_close) = sys_openat(target->proc_fd, "clear_refs", O_WRONLY, 0);

	if (!kernel_has_bits())
		return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
				 "the kernel keeps no soft-dirty bits");
	return fd < 0 ? fail_clear(target, fd, err) : 0;
}

// A second dump that cleared the bits between our clearing and our stop would make a torn core of
// ours, and neither would know. All opens of a file in one mount of /proc share an inode as long as one
// of them is open, so a lock on it keeps dumps apart. It says nothing to who uses another mount, or
// another process with the same memory, or does not ask (docs/pausing.md).
int track_dirty_reserve(const struct target *target, struct coresnap_error *err)
{
	const int fd = sys_openat(target->proc_fd, "clear_refs", O_WRONLY, 0);

	if (fd < 0)
		return fail_clear(target, fd, err);
	const int ret = (int)sys_call(SYS_flock, fd, LOCK_EX | LOCK_NB);

	if (ret == 0)
		return fd;
	sys_close(fd);
	if (ret != -EWOULDBLOCK)
		return fail_clear(target, ret, err);
	error_remedy(err, "Wait until that dump has ended, or use the method fork or stop");
	return error_set(err, CORESNAP_E_FAILED, EBUSY,
			 "another dump relies on the soft-dirty bits of process %d, of which it has "
			 "one set",
			 target->pid);
}

int track_dirty_open(struct track *track, struct coresnap_error *err)
{
	int ret = track_dirty_possible(track->target, err);

	if (ret < 0)
		return ret;
	ret = track_dirty_reserve(track->target, err);
	if (ret < 0)
		return ret;
	track->clear_refs = ret;
	const ssize_t n = sys_call(SYS_write, track->clear_refs, "4", 1);

	if (n < 0) {
		close_once(&track->clear_refs);
		return fail_clear(track->target, (int)n, err);
	}
	track->kind = TRACK_SOFT_DIRTY;
	return 0;
}

// all: what is there, whether it was written or not.
static int read_entries(const struct track *track, struct track_teller *teller, uint64_t start,
			uint64_t end, bool all)
{
	const uint64_t page = page_size();
	uint64_t entries[ENTRIES], at = start;

	while (at < end) {
		const uint64_t pages = (end - at) / page;
		const ssize_t n = pagemap_read(track->pagemap, at, page, entries,
					       pages < ENTRIES ? (size_t)pages : ENTRIES);

		if (n < 0)
			return (int)n;
		for (size_t i = 0; i < (size_t)n;) {
			const uint64_t kind = entries[i] & KINDS;
			size_t next = i + 1;

			while (next < (size_t)n && (entries[next] & KINDS) == kind)
				next++;
			const bool there =
				(kind & (PAGEMAP_ENTRY_PRESENT | PAGEMAP_ENTRY_SWAPPED)) &&
				!(kind & PAGEMAP_ENTRY_GUARD);
			// The page of zeros is clean, where other bytes may have been; only that it is
			// mapped more than once tells.
			const bool fresh =
				all || kind & PAGEMAP_ENTRY_SOFT_DIRTY ||
				!(kind & (PAGEMAP_ENTRY_EXCLUSIVE | PAGEMAP_ENTRY_SWAPPED));
			const int ret =
				there ? track_tell(teller, at + i * page, at + next * page, fresh) :
					0;

			if (ret < 0)
				return ret;
			i = next;
		}
		at += (uint64_t)n * page;
	}
	return track_tell_end(teller, end);
}

int track_dirty_take(const struct track *track, uint64_t start, uint64_t end, track_fn news,
		     void *arg)
{
	struct track_teller teller = { .news = news, .arg = arg };

	return read_entries(track, &teller, start, end, true);
}

int track_dirty_look(const struct track *track, uint64_t start, uint64_t end, track_fn news,
		     void *arg)
{
	struct track_teller teller = { .news = news, .arg = arg, .at = start, .gaps = true };

	return read_entries(track, &teller, start, end, false);
}
