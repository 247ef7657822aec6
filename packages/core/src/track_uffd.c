/* SPDX-License-Identifier: BSD-3-Clause */
// Writes tracked by a userfaultfd.
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cgroup.h"
#include "cleanup.h"
#include "errand.h"
#include "maps.h"
#include "pagemap.h"
#include "procfs.h"
#include "sys.h"
#include "track_parts.h"

#define FEATURE_WP_ASYNC (1ull << 15) // include/uapi/linux/userfaultfd.h of Linux 6.7

// The target's mmap(2) waits while a piece is scanned. Of what is hardly there larger ones do, since
// they take no longer. Of our own time: a busy machine is no reason for smaller ones.
#define PIECE    (16u << 20)
#define SHORT_NS 200000u

// To look at so much that nobody wrote to costs no more than one question more.
#define NEAR (1u << 18)

#define MOMENT_NS 20000000

#define PIDFD_THREAD_ O_EXCL // include/uapi/linux/pidfd.h of Linux 6.9

int track_uffd_start(int fd)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURE_WP_ASYNC };

	return (int)sys_call(SYS_ioctl, fd, UFFDIO_API, &api);
}

int track_uffd_register(int fd, uint64_t start, uint64_t end)
{
	struct uffdio_register range = { .range = { .start = start, .len = end - start },
					 .mode = UFFDIO_REGISTER_MODE_WP };

	return (int)sys_call(SYS_ioctl, fd, UFFDIO_REGISTER, &range);
}

static bool is_uffd(int dir, const char *name)
{
	static const char link[] = "anon_inode:[userfaultfd]";
	char text[sizeof(link)] = { 0 };

	return sys_call(SYS_readlinkat, dir, name, text, sizeof(text)) == sizeof(link) - 1 &&
	       memcmp(text, link, sizeof(link)) == 0;
}

// Nothing was ever done with it.
static bool is_idle(const struct target *target, int number)
{
	char path[32], text[256];

	error_format(path, sizeof(path), "fdinfo/%d", number);
	if (procfs_read(target->proc_fd, path, text, sizeof(text)) <= 0)
		return false;
	const char *const api = strstr(text, "API:\taa:");

	return api && api[strlen("API:\taa:")] == '0' && api[strlen("API:\taa:0")] == ':';
}

// -EBUSY: the target has a userfaultfd, and may be about to register the same memory. Else 0, and in
// *left the number of an idle one, or -1.
static int find_uffds(const struct target *target, int *left)
{
	struct procfs_dir dir guard(procfs_closedir) = { .fd = -1 };
	const char *name;

	*left = -1;
	if (procfs_opendir(&dir, target->proc_fd, "fd") < 0)
		return -EBUSY;
	while ((name = procfs_readdir(&dir))) {
		const int number = (int)procfs_number(name, 10, NULL);

		if (!is_uffd(dir.fd, name))
			continue;
		if (*left >= 0 || !is_idle(target, number))
			return -EBUSY;
		*left = number;
	}
	return 0;
}

// What a killed dumper has left is taken over. A program that makes one uses it at once, so one that
// stays idle is nobody else's.
static int find_left(const struct target *target, int *left)
{
	const struct timespec moment = { .tv_nsec = MOMENT_NS };
	int before;
	int ret = find_uffds(target, &before);

	*left = -1;
	if (ret < 0 || before < 0)
		return ret;
	sys_call(SYS_ppoll, NULL, 0, &moment, NULL, 0);
	ret = find_uffds(target, left);
	return ret == 0 && *left >= 0 && *left != before ? -EBUSY : ret;
}

struct fetch {
	struct track *track;
	const struct arch_remote *facts;
	int left;       // by an earlier dumper; or -1
	int64_t theirs; // its number in the target, or why there is none
	int ours;
};

static bool still_left(void *arg)
{
	const struct fetch *const fetch = arg;

	return fetch->left < 0 || is_idle(fetch->track->target, fetch->left);
}

// A main thread that has exited has no descriptors any more.
static int get_descriptor(const struct target *target, int number)
{
	const int thread guard(guard_close) =
		target->stand_in ? (int)sys_call(SYS_pidfd_open, target->stand_in, PIDFD_THREAD_) :
				   -1;

	return (int)sys_call(SYS_pidfd_getfd, target->stand_in ? thread : target->pidfd, number, 0);
}

// The number is in the target's table for some ten microseconds. Killed in between, the dumper
// leaves it there, idle: nothing is registered with it. The next one takes that.
static int fetch_uffd(void *arg, struct remote *remote)
{
	struct fetch *const fetch = arg;
	const uint64_t flags[6] = { (uint32_t)TRACK_UFFD_FLAGS };

	fetch->theirs = fetch->left >= 0 ? fetch->left :
					   errand_call(remote, fetch->facts->nr.userfaultfd, flags);
	if (fetch->theirs < 0)
		return remote->lost ? -ESRCH : 0;
	fetch->ours = get_descriptor(fetch->track->target, (int)fetch->theirs);
	const uint64_t args[6] = { (uint64_t)fetch->theirs };

	const int64_t closed = errand_call(remote, fetch->facts->nr.close, args);

	// One that stays there must stay idle, to be known again.
	if (closed < 0) {
		close_once(&fetch->ours);
		fetch->theirs = closed;
	}
	return remote->lost ? -ESRCH : 0;
}

static int fetch_from_target(struct track *track, struct coresnap_error *err)
{
	struct target target = *track->target;
	struct fetch fetch = { .track = track, .ours = -EBUSY, .left = track->left };

	target.arch = target_arch_of_exe(track->target);
	if (!target.arch || !target.arch->remote)
		return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
				 "nothing can be injected into processes of this architecture");
	fetch.facts = target.arch->remote;
	const struct seccomp_call calls[] = {
		{ .nr = fetch.facts->nr.userfaultfd, .args = { (uint32_t)TRACK_UFFD_FLAGS } },
		{ .nr = fetch.facts->nr.close },
	};
	struct errand errand = { .target = &target,
				 .strict_timeouts = track->strict_timeouts,
				 .calls = calls,
				 .n_calls = 2,
				 .needed = still_left,
				 .work = fetch_uffd,
				 .arg = &fetch };
	const int ret = errand_run(&errand, err);

	track->memory = errand.memory;
	if (ret < 0)
		return ret;
	if (fetch.ours >= 0)
		return fetch.ours;
	const int why = fetch.theirs < 0 ? (int)fetch.theirs : fetch.ours;

	return error_set(err, CORESNAP_E_FAILED, -why,
			 "process %d gets no userfaultfd (%s): its writes cannot be tracked",
			 track->target->pid, error_errno_name(-why));
}

// The thread that is asked would stop, but go back to sleep when it is to make the call.
static int check_frozen(const struct target *target, struct coresnap_error *err)
{
	struct cgroup_room room;

	cgroup_look(target->proc_fd, &room);
	if (!room.frozen)
		return 0;
	error_remedy(err, "Thaw it (cgroup.freeze; a container may be paused), or use the method "
			  "stop");
	return error_set(err, CORESNAP_E_FAILED, EBUSY,
			 "process %d gets no userfaultfd: its control group is frozen, and it is "
			 "made by a call of its own",
			 target->pid);
}

int track_uffd_possible(struct track *track, struct coresnap_error *err)
{
	struct track_traits traits;
	int ret = track_probe(&traits);

	if (ret < 0)
		return error_set(err, CORESNAP_E_FAILED, -ret,
				 "the kernel cannot track writes by a userfaultfd (%s)",
				 error_errno_name(-ret));
	ret = track_probe_judge(&traits, err);
	if (ret < 0)
		return ret;
	track->tells_holes = traits.tells_holes;
	track->knows_guards = traits.knows_guards;
	if (find_left(track->target, &track->left) < 0)
		return error_set(
			err, CORESNAP_E_FAILED, EBUSY,
			"process %d uses a userfaultfd of its own, or its descriptors cannot "
			"be seen",
			track->target->pid);
	return track->self ? 0 : check_frozen(track->target, err);
}

int track_uffd_open(struct track *track, struct coresnap_error *err)
{
	int ret = track_uffd_possible(track, err);

	if (ret < 0)
		return ret;
	ret = track->self ? (int)sys_call(SYS_userfaultfd, TRACK_UFFD_FLAGS) :
			    fetch_from_target(track, err);
	if (ret < 0)
		return err->code ?
			       ret :
			       error_set(err, CORESNAP_E_FAILED, -ret,
					 "no userfaultfd can be made (%s)", error_errno_name(-ret));
	track->uffd = ret;
	ret = track_uffd_start(track->uffd);
	if (ret < 0) {
		close_once(&track->uffd);
		return error_set(err, CORESNAP_E_FAILED, -ret,
				 "the userfaultfd of process %d does not track writes (%s)",
				 track->target->pid, error_errno_name(-ret));
	}
	track->kind = TRACK_UFFD;
	return 0;
}

int track_uffd_watch(struct track *track, uint64_t start, uint64_t end)
{
	return track_uffd_register(track->uffd, start, end);
}

// Pages that have bytes: not the shared page of zeros, no guard.
static void want_bytes(const struct track *track, struct pagemap_query *query)
{
	const uint64_t without =
		PAGEMAP_PFNZERO | (track->knows_guards ? (uint64_t)PAGEMAP_GUARD : 0);

	query->mask |= without;
	query->inverted = without;
	query->anyof = PAGEMAP_PRESENT | PAGEMAP_SWAPPED;
}

// What was written lies in runs, which may be single pages. Those near each other are one group.
struct uffd_scan {
	const struct track *track;
	struct track_teller teller;
	int (*ask)(struct uffd_scan *scan, uint64_t start, uint64_t end); // about one group
	uint64_t start, end; // of the group so far
};

static int tell_bytes(void *arg, uint64_t start, uint64_t end, uint64_t categories)
{
	(void)categories;
	return track_tell(arg, start, end, true);
}

static int tell_all(void *arg, uint64_t start, uint64_t end, uint64_t categories)
{
	return track_tell(arg, start, end, categories & PAGEMAP_WRITTEN);
}

static int ask_about_group(struct uffd_scan *scan)
{
	const uint64_t start = scan->start, end = scan->end;

	scan->start = scan->end = 0;
	return start < end ? scan->ask(scan, start, end) : 0;
}

static int add_run(void *arg, uint64_t start, uint64_t end, uint64_t categories)
{
	struct uffd_scan *const scan = arg;
	int ret = 0;

	(void)categories;
	if (scan->end == 0 || start - scan->end > NEAR) {
		ret = ask_about_group(scan);
		scan->start = start;
	}
	scan->end = end;
	return ret;
}

// The kernel answers whether pages are written much faster than anything else (pagemap_scan_pmd_entry
// in fs/proc/task_mmu.c); the rest is asked of those alone, and of what lies between them.
static int find_written(struct uffd_scan *scan, uint64_t start, uint64_t end)
{
	const struct pagemap_query query = { .start = start,
					     .end = end,
					     .mask = PAGEMAP_WRITTEN,
					     .tell = PAGEMAP_WRITTEN,
					     .only_armed = true };
	const int ret = pagemap_ask(scan->track->pagemap, &query, add_run, scan);

	return ret < 0 ? ret : ask_about_group(scan);
}

static int take_group(struct uffd_scan *scan, uint64_t start, uint64_t end)
{
	struct pagemap_query query = { .start = start,
				       .end = end,
				       .mask = PAGEMAP_WRITTEN,
				       .tell = PAGEMAP_PRESENT | PAGEMAP_SWAPPED,
				       .only_armed = true,
				       .protect = true };

	want_bytes(scan->track, &query);
	return pagemap_ask(scan->track->pagemap, &query, tell_bytes, &scan->teller);
}

struct pieces {
	uint64_t at, end, size;
	uint64_t began_ns; // of our CPU time
};

// The end of the next piece.
static uint64_t next_piece(struct pieces *pieces)
{
	const uint64_t now = sys_cpu_ns();

	if (pieces->size == 0)
		pieces->size = PIECE;
	else if (now - pieces->began_ns < SHORT_NS)
		pieces->size *= 2;
	else if (pieces->size > PIECE)
		pieces->size /= 2;
	pieces->began_ns = now;
	return pieces->end - pieces->at < pieces->size ? pieces->end : pieces->at + pieces->size;
}

int track_uffd_take(struct track *track, uint64_t start, uint64_t end, track_fn news, void *arg)
{
	struct uffd_scan scan = {
		.track = track,
		.teller = { .news = news, .arg = arg },
		.ask = take_group,
	};
	struct pieces pieces = { .at = start, .end = end };

	while (pieces.at < end) {
		const uint64_t until = next_piece(&pieces);
		const int ret = find_written(&scan, pieces.at, until);

		if (ret < 0)
			return ret;
		pieces.at = until;
	}
	return 0;
}

// All that is there, and what of it was written. A hole that nobody made since is told, too, which
// nobody has copied.
static int look_at_group(struct uffd_scan *scan, uint64_t start, uint64_t end)
{
	struct pagemap_query query = { .start = start,
				       .end = end,
				       .tell = PAGEMAP_PRESENT | PAGEMAP_SWAPPED | PAGEMAP_WRITTEN,
				       .only_armed = true };

	scan->teller.at = start;
	want_bytes(scan->track, &query);
	const int ret = pagemap_ask(scan->track->pagemap, &query, tell_all, &scan->teller);

	return ret < 0 ? ret : track_tell_end(&scan->teller, end);
}

int track_uffd_look(const struct track *track, uint64_t start, uint64_t end, track_fn news,
		    void *arg)
{
	struct uffd_scan scan = {
		.track = track,
		.teller = { .news = news, .arg = arg, .at = start, .gaps = true },
		.ask = look_at_group,
	};

	// Of a kernel that does not tell of holes, each page is looked at.
	return track->tells_holes ? find_written(&scan, start, end) :
				    look_at_group(&scan, start, end);
}

static bool has_watched(const struct track *track, const struct mapping *m)
{
	const size_t at = track_find(track, m->start);

	return at < track->n && track->areas[at].start < m->end;
}

// Mapping by mapping, as they are now, and not in pieces: to let go of a part splits its mapping, and
// mremap(2) of memory that lies in two fails (vma_to_resize() in mm/mremap.c), which programs do not
// expect. So the kernel holds the target's mmap(2), and page faults there, for as long as it looks
// through the page tables of one mapping: 36 ms for each GiB of small pages.
void track_uffd_close(struct track *track)
{
	struct coresnap_error err = { 0 };
	struct arena arena;
	struct maps maps = { .arena = &arena };

	arena_init(&arena);
	// Where that cannot be read the end of the descriptor does all at once.
	if (maps_read(&maps, track->target->proc_fd, "maps", &err) == 0)
		for (size_t i = 0; i < maps.n; i++) {
			struct uffdio_range range = { .start = maps.list[i].start,
						      .len = maps.list[i].end -
							     maps.list[i].start };

			if (has_watched(track, &maps.list[i]))
				sys_call(SYS_ioctl, track->uffd, UFFDIO_UNREGISTER, &range);
		}
	arena_deinit(&arena);
}
