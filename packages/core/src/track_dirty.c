/* SPDX-License-Identifier: BSD-3-Clause */
// Writes tracked by soft-dirty bits, and how news are told.
#include "cleanup.h"
#include "sys.h"
#include "track_parts.h"

// Bits of an entry of /proc/PID/pagemap (fs/proc/task_mmu.c, PM_*).
#define ENTRY_PRESENT    (1ull << 63)
#define ENTRY_SWAPPED    (1ull << 62)
#define ENTRY_GUARD      (1ull << 58)
#define ENTRY_EXCLUSIVE  (1ull << 56)
#define ENTRY_SOFT_DIRTY (1ull << 55)

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
	const int pagemap guard(guard_close) = sys_openat(AT_FDCWD, "/proc/self/pagemap", O_RDONLY, 0);
	char *const page = sys_mmap(page_size(), PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entry = 0;

	if (sys_map_failed(page))
		return false;
	*(volatile char *)page = 1;
	const ssize_t n = sys_pread(pagemap, &entry, sizeof(entry),
				    (uint64_t)(uintptr_t)page / page_size() * sizeof(entry));

	sys_call(SYS_munmap, page, page_size());
	return n == sizeof(entry) && entry & ENTRY_SOFT_DIRTY;
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

int track_dirty_open(struct track *track, struct coresnap_error *err)
{
	const int ret = track_dirty_possible(track->target, err);
	const int fd guard(guard_close) =
		sys_openat(track->target->proc_fd, "clear_refs", O_WRONLY, 0);

	if (ret < 0)
		return ret;
	const ssize_t n = fd < 0 ? fd : sys_call(SYS_write, fd, "4", 1);

	if (n < 0)
		return fail_clear(track->target, (int)n, err);
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
		const ssize_t n = sys_pread(track->pagemap, entries,
					    (pages < ENTRIES ? (size_t)pages : ENTRIES) *
						    sizeof(entries[0]),
					    at / page * sizeof(entries[0]));

		if (n < (ssize_t)sizeof(entries[0]))
			return n < 0 ? (int)n : -EIO;
		const size_t got = (size_t)n / sizeof(entries[0]);

		for (size_t i = 0; i < got;) {
			const uint64_t kind =
				entries[i] & (ENTRY_PRESENT | ENTRY_SWAPPED | ENTRY_GUARD |
					      ENTRY_EXCLUSIVE | ENTRY_SOFT_DIRTY);
			size_t next = i + 1;

			while (next < got && (entries[next] & (ENTRY_PRESENT | ENTRY_SWAPPED |
							       ENTRY_GUARD | ENTRY_EXCLUSIVE |
							       ENTRY_SOFT_DIRTY)) == kind)
				next++;
			const bool there = (kind & (ENTRY_PRESENT | ENTRY_SWAPPED)) &&
					   !(kind & ENTRY_GUARD);
			// The page of zeros is clean, where other bytes may have been; only that it is
			// mapped more than once tells.
			const bool fresh = all || kind & ENTRY_SOFT_DIRTY ||
					   !(kind & (ENTRY_EXCLUSIVE | ENTRY_SWAPPED));
			const int ret = there ? track_tell(teller, at + i * page, at + next * page,
							   fresh) :
						0;

			if (ret < 0)
				return ret;
			i = next;
		}
		at += got * page;
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
