/* SPDX-License-Identifier: BSD-3-Clause */
// The passes over a running target.
#include "precopy.h"

#include "cleanup.h"
#include "gentle.h"
#include "job.h"
#include "precopy_parts.h"
#include "snapmaps.h"
#include "sys.h"

#define PIECE (1u << 20)

// Copied in about a tenth of the time that the stop itself takes.
#define FEW_BYTES (300u * 4096)

enum { MAX_RANGES = 512, MANY_EXTENTS = 131072 };

// One pass. Ranges are gathered until a buffer is full.
struct pass {
	struct job *job;
	struct precopy *precopy;
	struct coresnap_error *err;
	struct extents *fresh; // what was not in the spool before
	size_t at, place_at;   // how far lists were looked through
	uint64_t bytes;
	uint8_t *buffer; // of PIECE bytes
	struct iovec ranges[MAX_RANGES];
	size_t n;
	size_t size;
	const uint8_t *put; // to be written
	uint64_t put_offset;
	size_t put_size;
};

static bool cancelled(const struct job *job)
{
	return __atomic_load_n(&job->dumper.cancel, __ATOMIC_RELAXED);
}

// Writes what was put and not written yet.
static int write_put(struct pass *pass)
{
	const size_t size = pass->put_size;

	pass->put_size = 0;
	return size ? spool_write(&pass->precopy->spool, pass->put_offset, pass->put, size,
				  pass->err) :
		      0;
}

// What lies one behind the other, in memory as in the spool, is written at once.
static int put(struct pass *pass, uint64_t offset, const uint8_t *bytes, size_t size)
{
	if (pass->put_size &&
	    (pass->put_offset + pass->put_size != offset || pass->put + pass->put_size != bytes)) {
		const int ret = write_put(pass);

		if (ret < 0)
			return ret;
	}
	if (pass->put_size == 0) {
		pass->put = bytes;
		pass->put_offset = offset;
	}
	pass->put_size += size;
	return 0;
}

// May the spool grow for newer bytes, and the list of what is in it? In memory only for new pages.
static bool may_grow(const struct pass *pass, uint64_t size)
{
	const struct precopy *const precopy = pass->precopy;

	return !precopy->in_memory && precopy->pages.n + pass->fresh->n <= MANY_EXTENTS &&
	       precopy->spool.size + size <= precopy->most;
}

// The first part of a range, and where its bytes go. In the first pass, to their place in the core, if it
// has one. Then behind all, since writing in one piece is cheapest; or, where that may not grow, in the
// place of the older ones of the same pages, and then *again.
static struct extent next_part(struct pass *pass, uint64_t start, uint64_t end, bool *again)
{
	struct precopy *const precopy = pass->precopy;
	const bool foreseen = precopy->in_places && precopy->passes == 0;
	const struct extent *place = NULL;

	if (foreseen)
		place = extents_at(&precopy->places.list, &pass->place_at, start);
	else if (!may_grow(pass, end - start))
		place = extents_at(&precopy->pages, &pass->at, start);
	const bool here = place && place->start <= start;
	const uint64_t border = !place ? end : here ? place->end : place->start;
	struct extent part = { .start = start,
			       .end = border < end ? border : end,
			       .offset = here ? place->offset + (start - place->start) :
						precopy->spool.size,
			       .spooled = true,
			       .certain = true };

	if (!here)
		precopy->spool.size += part.end - part.start;
	*again = here && !foreseen;
	return part;
}

// For new pages there is no place but behind all. Without room there the stop copies them, with all
// of their mapping.
static bool has_room(struct precopy *precopy, const struct extent *part)
{
	if (precopy->spool.size <= precopy->most)
		return true;
	precopy->spool.size = part->offset;
	precopy->unwatched += part->end - part->start;
	precopy->full = true;
	track_lose(&precopy->track, part->start, part->end);
	return false;
}

static int keep_range(struct pass *pass, uint64_t start, uint64_t end, const uint8_t *bytes)
{
	int ret = 0;

	while (start < end && ret == 0) {
		bool again;
		const struct extent part = next_part(pass, start, end, &again);
		const size_t size = (size_t)(part.end - part.start);

		if (has_room(pass->precopy, &part)) {
			if (!again)
				ret = extents_add(pass->fresh, &part);
			if (ret == 0)
				ret = put(pass, part.offset, bytes, size);
		}
		bytes += size;
		start = part.end;
	}
	return ret;
}

// The bytes of so many ranges lie one behind the other in the buffer.
static int keep(struct pass *pass, const struct iovec *ranges, size_t n)
{
	const uint8_t *bytes = pass->buffer;
	int ret = 0;

	for (size_t i = 0; i < n && ret == 0; i++) {
		const uint64_t start = (uint64_t)(uintptr_t)ranges[i].iov_base;

		ret = keep_range(pass, start, start + ranges[i].iov_len, bytes);
		bytes += ranges[i].iov_len;
	}
	const uint64_t size = (uint64_t)(bytes - pass->buffer);

	pass->bytes += size;
	pass->job->mem.bytes_read += size;
	return ret < 0 ? ret : write_put(pass);
}

static int flush(struct pass *pass)
{
	uint8_t *at = pass->buffer;
	size_t n = 0;

	if (cancelled(pass->job))
		return error_cancelled(pass->err);
	for (size_t i = 0; i < pass->n; i++) {
		const struct iovec range = pass->ranges[i];
		const uint64_t start = (uint64_t)(uintptr_t)range.iov_base;

		// What went away meanwhile is looked at in the stop.
		if (target_read(&pass->job->target, start, at, range.iov_len) !=
		    (ssize_t)range.iov_len) {
			track_lose(&pass->precopy->track, start, start + range.iov_len);
			continue;
		}
		pass->ranges[n++] = range;
		at += range.iov_len;
	}
	pass->n = pass->size = 0;
	return keep(pass, pass->ranges, n);
}

static int add_range(void *arg, uint64_t start, uint64_t end, enum track_news news)
{
	struct pass *const pass = arg;

	(void)news; // bytes: of a running target nothing else is told
	while (start < end) {
		const size_t room = PIECE - pass->size;
		const size_t size = end - start < room ? (size_t)(end - start) : room;

		pass->ranges[pass->n++] =
			(struct iovec){ .iov_base = (void *)(uintptr_t)start, .iov_len = size };
		pass->size += size;
		start += size;
		if (pass->n == MAX_RANGES || pass->size == PIECE) {
			const int ret = flush(pass);

			if (ret < 0)
				return ret;
		}
	}
	return 0;
}

// Private memory that is kept as a whole. The rest is small, or can only be copied in the stop: so can a
// mapping of a file. A page that it was given back is not told, and if it is written next, the first fault
// makes a page that counts as unwritten (do_cow_fault() in mm/memory.c keeps the mark), in which the stop
// may find it.
static bool trackable(const struct job *job, const struct mapping *m)
{
	const uint32_t never = MAPPING_SHARED | MAPPING_HUGETLB | MAPPING_IO | MAPPING_PFN |
			       MAPPING_TAGGED | MAPPING_READ_SHARED;

	return m->dump_size == m->end - m->start && !(m->flags & never) && !mapping_has_file(m) &&
	       !arena_owns(&job->arena, m->start, m->end);
}

// Of soft-dirty bits each page of an area, be it there or not, has to be read.
static bool bits_suffice(const struct mapping *m)
{
	return (m->end - m->start) / 8 <= m->anonymous + (64u << 20);
}

// Where the watching of a mapping ends. The kernel makes one mapping of two neighbours that are alike,
// but not of memory that is watched and memory that is not; and once both have pages, it never would
// again (is_mergeable_anon_vma() in mm/vma.c). So the last page of the heap is left alone, for what
// brk(2) adds to merge with; the stop copies it. Not of other memory: mremap(2) fails on a part of a
// mapping and its neighbour. Nor is a huge page split for it. Soft-dirty bits part nothing.
static uint64_t watched_end(const struct track *track, const struct mapping *m)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), huge = page * page / 8;

	if (track->kind == TRACK_SOFT_DIRTY || !mapping_named(m, "[heap]") ||
	    (m->huge && m->end % huge == 0))
		return m->end;
	return m->end - page;
}

static int copy_mapping(struct pass *pass, const struct mapping *m)
{
	struct track *const track = &pass->precopy->track;
	const uint64_t start = m->start;
	uint64_t end = m->end;

	if (!trackable(pass->job, m) || (track->kind == TRACK_SOFT_DIRTY && !bits_suffice(m)))
		return 0;
	// What cannot be watched is copied in the stop.
	if (!track_watches(track, start, end)) {
		end = watched_end(track, m);
		if (start == end)
			return 0;
		if (track_watch(track, start, end) < 0) {
			pass->precopy->unwatched += m->anonymous;
			return 0;
		}
	}
	const int ret = track_take(track, start, end, add_range, pass);

	if (ret < 0 && !pass->err->code)
		track_lose(track, start, end); // it went away while we looked
	return pass->err->code ? ret : 0;
}

// Of the first pass, by what smaps told when the method was chosen. To watch a part of a mapping parts
// it from the rest, and mremap(2) fails on memory that lies in two: so one that has grown since is
// watched as it is now. Two may have become one since.
static int copy_first(struct pass *pass, struct arena *scratch)
{
	struct snapshot_options *const what = &pass->job->what;
	struct maps now = { .arena = scratch };
	uint64_t done = 0;
	int ret = maps_read(&now, pass->job->target.proc_fd, "maps", pass->err);

	pass->precopy->before = what->ahead;
	for (size_t i = 0; i < what->ahead.n && ret == 0; i++) {
		struct mapping m = what->ahead.list[i];
		const struct mapping *const grown = maps_at(&now, m.start);

		if (mapping_has_file(&m) && !(m.flags & MAPPING_SHARED))
			pass->precopy->unwatched += m.dump_size;
		if (!grown || grown->start < done || grown->end < m.end ||
		    !trackable(pass->job, &m))
			continue;
		done = grown->end;
		m.start = grown->start;
		m.end = grown->end;
		m.dump_size = m.end - m.start;
		ret = copy_mapping(pass, &m);
	}
	return ret;
}

// Is it worth watching what has appeared? Other memory grows into reserved addresses, and would be
// parted from what is there.
static bool is_large(const struct mapping *m)
{
	return !mapping_has_file(m) && m->dump_size >= PIECE &&
	       (m->flags & (MAPPING_READ | MAPPING_WRITE | MAPPING_EXEC));
}

// Of a later one: what is watched, and memory that has appeared. That may turn out not to be kept.
static int copy_again(struct pass *pass, struct arena *scratch)
{
	const struct track *const track = &pass->precopy->track;
	struct maps maps = { .arena = scratch };
	int ret = maps_read(&maps, pass->job->target.proc_fd, "maps", pass->err);

	for (size_t i = 0; i < maps.n && ret == 0; i++) {
		struct mapping *const m = &maps.list[i];

		m->dump_size = m->end - m->start;
		if (track_watches(track, m->start, m->end) || is_large(m))
			ret = copy_mapping(pass, m);
	}
	return ret;
}

static int pass_over(struct pass *pass, struct arena *scratch)
{
	struct precopy *const precopy = pass->precopy;
	const struct extents none = { 0 };
	struct extents fresh = { .arena = scratch };
	int ret;

	if (precopy->passes == 0) {
		pass->fresh = &precopy->pages;
		ret = copy_first(pass, scratch);
	} else {
		pass->fresh = &fresh;
		ret = copy_again(pass, scratch);
	}
	if (ret == 0)
		ret = flush(pass);
	if (ret < 0 || fresh.n == 0)
		return ret;
	// Two lists take turns, since what is taken from the arena is not given back.
	const struct extents pages = precopy->pages;

	precopy->pages = precopy->spare;
	precopy->spare = pages;
	precopy->pages.n = 0;
	return extents_overlay(&precopy->spare, &fresh, &none, &precopy->pages);
}

struct passes {
	struct job *job;
	struct coresnap_error *err;
};

// One pass more would bring little, or not less than this one did. One such pass may have been kept
// from its processor; two in a row say that the target writes as fast as we read.
static bool enough(struct precopy *precopy, uint64_t bytes)
{
	const bool less = precopy->passes <= 1 || bytes <= precopy->rest / 4 * 3;

	precopy->stalled = less ? 0 : precopy->stalled + 1;
	return bytes <= FEW_BYTES || precopy->full || precopy->stalled >= 2 ||
	       precopy->passes >= track_most_passes(&precopy->track);
}

static int make_pass(void *arg)
{
	const struct passes *const passes = arg;
	struct precopy *const precopy = &passes->job->precopy;
	struct arena scratch;
	int ret = -ENOMEM;

	arena_init(&scratch);
	struct pass *const pass = arena_alloc(&scratch, sizeof(*pass));

	if (pass) {
		*pass = (struct pass){ .job = passes->job,
				       .precopy = precopy,
				       .err = passes->err,
				       .buffer = arena_alloc(&scratch, PIECE) };
		ret = pass->buffer ? pass_over(pass, &scratch) : -ENOMEM;
		precopy->passes++;
		precopy->enough = enough(precopy, pass->bytes);
		precopy->rest = pass->bytes;
	}
	arena_deinit(&scratch);
	if (ret < 0 && !passes->err->code)
		error_set(passes->err, CORESNAP_E_FAILED, -ret, "memory cannot be copied ahead: %s",
			  error_errno_name(-ret));
	return ret;
}

static int make_passes(void *arg)
{
	const struct passes *const passes = arg;
	int ret;

	do
		ret = make_pass(arg);
	while (ret == 0 && !passes->job->precopy.enough);
	return ret;
}

uint64_t precopy_left(const struct precopy *precopy)
{
	return precopy->rest + precopy->unwatched;
}

int precopy_once_more(struct job *job, struct coresnap_error *err)
{
	struct passes passes = { .job = job, .err = err };

	if (track_most_passes(&job->precopy.track) == 1)
		return 0;
	return gentle_run(job, make_pass, &passes, err);
}

int precopy_begin(struct job *job, struct coresnap_error *err)
{
	struct precopy *const precopy = &job->precopy;
	struct passes passes = { .job = job, .err = err };

	precopy->pages.arena = precopy->spare.arena = precopy->holes.arena = &job->arena;
	precopy->track.arena = &job->arena;
	precopy->track.target = &job->target;
	precopy->track.self = job->first_tid != 0;
	precopy->track.strict_timeouts = job->options.flags & CORESNAP_STRICT_TIMEOUTS;
	snapmaps_select_ahead(&job->what, &job->target);
	int ret = precopy_open_spool(job, err);

	if (ret == 0)
		ret = track_open(&precopy->track, err);
	if (ret == 0)
		ret = gentle_run(job, make_passes, &passes, err);
	if (ret < 0) {
		precopy_close(job);
		return ret;
	}
	job->copy.memory = precopy->track.memory;
	precopy->ready = true;
	return 0;
}

void precopy_untrack(struct precopy *precopy)
{
	track_close(&precopy->track);
}

void precopy_close(struct job *job)
{
	struct precopy *const precopy = &job->precopy;

	track_close(&precopy->track);
	// Emptying the core's file may fail.
	if (precopy->spool.is_core)
		job->sink.prior_size = precopy->spool.size;
	spool_close(&precopy->spool);
	precopy->ready = false;
}
