/* SPDX-License-Identifier: BSD-3-Clause */
#include "track.h"

#include "cleanup.h"
#include "procfs.h"
#include "sys.h"
#include "track_parts.h"

bool track_possible_unasked(const struct target *target)
{
	struct coresnap_error why = { 0 };

	return track_dirty_possible(target, &why) == 0;
}

int track_possible(const struct target *target, bool self, bool *asks, struct coresnap_error *err)
{
	struct track track = TRACK_NOTHING;
	struct coresnap_error no_uffd = { 0 };

	track.target = target;
	track.self = self;
	*asks = false;
	if (track_uffd_possible(&track, &no_uffd) == 0) {
		*asks = !self;
		return 0;
	}
	if (track_possible_unasked(target))
		return 0;
	*err = no_uffd;
	return -EOPNOTSUPP;
}

int track_open(struct track *track, struct coresnap_error *err)
{
	struct coresnap_error no_uffd = { 0 }, no_bits = { 0 };

	track->pagemap = sys_openat(track->target->proc_fd, "pagemap", O_RDONLY, 0);
	if (track->pagemap < 0)
		return error_set(err, procfs_error_code(-track->pagemap), -track->pagemap,
				 "cannot open /proc/%d/pagemap: %s", track->target->pid,
				 error_errno_name(-track->pagemap));
	if (track_uffd_open(track, &no_uffd) == 0)
		return 0;
	const int ret = track_dirty_open(track, &no_bits);

	if (ret == 0)
		return 0;
	// That bits are in use passes; what there is against a userfaultfd stays.
	*err = ret == -EBUSY ? no_bits : no_uffd;
	return -EOPNOTSUPP;
}

unsigned int track_most_passes(const struct track *track)
{
	return track->kind == TRACK_UFFD ? 8 : 1;
}

size_t track_find(const struct track *track, uint64_t address)
{
	size_t low = 0, high = track->n;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (track->areas[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

// Puts an area in the place of those that it overlaps.
static int add_area(struct track *track, uint64_t start, uint64_t end)
{
	const size_t at = track_find(track, start);
	size_t until = at;
	bool lost = false;

	for (; until < track->n && track->areas[until].start < end; until++)
		lost |= track->areas[until].lost;
	if (until == at) {
		if (arena_grow(track->arena, &track->areas, &track->cap, track->n + 1,
			       sizeof(*track->areas)) < 0)
			return -ENOMEM;
		for (size_t i = track->n++; i > at; i--)
			track->areas[i] = track->areas[i - 1];
	} else {
		const size_t fewer = until - at - 1;

		for (size_t i = until; i < track->n && fewer; i++)
			track->areas[i - fewer] = track->areas[i];
		track->n -= fewer;
	}
	track->areas[at] = (struct track_area){ .start = start, .end = end, .lost = lost };
	return 0;
}

int track_watch(struct track *track, uint64_t start, uint64_t end)
{
	const int ret = track->kind == TRACK_UFFD ? track_uffd_watch(track, start, end) : 0;

	return ret < 0 ? ret : add_area(track, start, end);
}

bool track_stretch(const struct track *track, uint64_t start, uint64_t end, uint64_t *until)
{
	size_t i = track_find(track, start);
	uint64_t at = start;

	while (i < track->n && track->areas[i].start <= at && !track->areas[i].lost)
		at = track->areas[i++].end;
	const bool watched = at > start;

	while (!watched && i < track->n && track->areas[i].lost)
		i++;
	if (!watched)
		at = i < track->n ? track->areas[i].start : end;
	*until = at < end ? at : end;
	return watched;
}

bool track_watches(const struct track *track, uint64_t start, uint64_t end)
{
	uint64_t until;

	return track_stretch(track, start, end, &until) && until == end;
}

bool track_meets(const struct track *track, uint64_t address)
{
	const size_t at = track_find(track, address);

	return (at < track->n && track->areas[at].start == address) ||
	       (at > 0 && track->areas[at - 1].end == address);
}

void track_lose(struct track *track, uint64_t start, uint64_t end)
{
	for (size_t i = track_find(track, start); i < track->n && track->areas[i].start < end; i++)
		track->areas[i].lost = true;
}

int track_take(struct track *track, uint64_t start, uint64_t end, track_fn news, void *arg)
{
	return track->kind == TRACK_UFFD ? track_uffd_take(track, start, end, news, arg) :
					   track_dirty_take(track, start, end, news, arg);
}

int track_look(const struct track *track, uint64_t start, uint64_t end, track_fn news, void *arg)
{
	return track->kind == TRACK_UFFD ? track_uffd_look(track, start, end, news, arg) :
					   track_dirty_look(track, start, end, news, arg);
}

void track_close(struct track *track)
{
	if (track->kind == TRACK_UFFD)
		track_uffd_close(track);
	close_once(&track->uffd);
	close_once(&track->clear_refs);
	close_once(&track->pagemap);
	track->kind = TRACK_NONE;
}
