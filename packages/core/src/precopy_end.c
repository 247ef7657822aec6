/* SPDX-License-Identifier: BSD-3-Clause */
// The last pass, over a stopped target, and what follows.
#include <string.h>

#include "allowance.h"
#include "cleanup.h"
#include "job.h"
#include "pagemap.h"
#include "precopy.h"
#include "snapmaps.h"
#include "sys.h"
#include "tags.h"

static int add_pause(struct job *job, uint64_t start, uint64_t end)
{
	struct mem *const mem = &job->mem;

	if (arena_grow(mem->arena, &mem->list, &mem->cap, mem->n + 1, sizeof(*mem->list)) < 0)
		return -ENOMEM;
	mem->list[mem->n++] = (struct extent){ .start = start, .end = end, .certain = true };
	return 0;
}

static int add_hole(struct job *job, uint64_t start, uint64_t end)
{
	const struct extent hole = { .start = start, .end = end };

	return extents_add(&job->precopy.holes, &hole);
}

static int add_news(void *arg, uint64_t start, uint64_t end, enum track_news news)
{
	return news == TRACK_BYTES ? add_pause(arg, start, end) : add_hole(arg, start, end);
}

// Would more of it be kept if one page of it were written? It had none when smaps was read, a moment
// ago. To be written within that moment what is not writable had to be made so and shut again, of
// which program text and reserved addresses are too many and too large to be asked.
static bool may_be_kept(const struct mapping *m, const struct mapping_facts *facts)
{
	const uint32_t writable =
		mapping_has_file(m) ? MAPPING_WRITE : MAPPING_READ | MAPPING_WRITE | MAPPING_EXEC;
	struct mapping written = *m;

	if ((m->flags & MAPPING_SHARED) || m->anonymous || !(m->flags & writable))
		return false;
	written.anonymous = m->end - m->start;
	mapping_select(&written, facts);
	return written.dump_size > m->dump_size;
}

static void look_whether_written(const struct job *job, struct mapping *m)
{
	const struct mapping_facts facts = { .filter = job->snapshot.filter,
					     .page_size = job->snapshot.page_size };

	if (!may_be_kept(m, &facts) || pagemap_find_written(job->precopy.track.pagemap, m->start,
							    m->end, facts.page_size) != 1)
		return;
	m->anonymous = m->end - m->start;
	mapping_select(m, &facts);
}

// It is another mapping than the one that was copied, or was never copied.
static int copy_all(struct job *job, const struct mapping *m)
{
	const int ret = add_hole(job, m->start, m->end);

	return ret < 0 ? ret :
			 mem_scan_mapping(&job->mem, &job->snapshot, m, job->precopy.track.pagemap);
}

// Of what is watched the news, and all of the rest: it may have grown since.
static int copy_stretches(struct job *job, const struct mapping *m)
{
	const struct track *const track = &job->precopy.track;
	struct mapping part = *m;
	int ret = 0;

	for (; part.start < m->end && ret == 0; part.start = part.end) {
		const bool watched = track_stretch(track, part.start, m->end, &part.end);

		part.dump_size = part.end - part.start;
		ret = watched ? track_look(track, part.start, part.end, add_news, job) :
				copy_all(job, &part);
	}
	return ret;
}

static int copy_mapping(struct job *job, struct mapping *m)
{
	const size_t first = job->mem.n, first_hole = job->precopy.holes.n;

	if (m->dump_size == 0 || (m->flags & (MAPPING_IO | MAPPING_PFN | MAPPING_LOST)))
		return 0;
	// Tags can be asked for as long as it stands still.
	if (m->dump_size == m->end - m->start && !(m->flags & (MAPPING_SHARED | MAPPING_TAGGED))) {
		const int ret = copy_stretches(job, m);

		if (ret == 0 || ret == -ENOMEM)
			return ret;
	}
	job->mem.n = first;
	job->precopy.holes.n = first_hole;
	return copy_all(job, m);
}

int precopy_end(struct job *job, struct coresnap_error *err)
{
	struct mem *const mem = &job->mem;
	char text[32];
	int ret = allowance_covers(job, CORESNAP_METHOD_PRECOPY, err);

	if (ret == 0)
		ret = snapmaps_precopied(&job->snapshot, &job->target, &job->what, err);

	for (size_t i = 0; ret == 0 && i < job->snapshot.maps.n; i++) {
		struct mapping *const m = &job->snapshot.maps.list[i];

		look_whether_written(job, m);
		ret = copy_mapping(job, m);
		if (ret < 0) {
			err->address = m->start;
			return error_set(err, CORESNAP_E_FAILED, -ret,
					 "cannot list the pages of process %d at 0x%llx: %s",
					 job->pid, (unsigned long long)m->start,
					 error_errno_name(-ret));
		}
	}
	if (ret < 0)
		return ret;
	const uint64_t size = mem_size(mem, 0) + tags_size(mem, &job->snapshot);
	const uint64_t spooled = job->precopy.in_memory ? job->precopy.spool.size : 0;

	if (size + spooled > job->estimate.budget) {
		error_remedy(err, "Raise the stage budget, or use the method fork or stop");
		return error_set(err, CORESNAP_E_FAILED, ENOMEM,
				 "%s that were written at the last, or are shared, do not fit the "
				 "stage budget",
				 error_size(text, sizeof(text), size));
	}
	phases_enter(&job->phases, CORESNAP_PHASE_COPY);
	mem->deadline_ns = allowance_deadline_ns(job, CORESNAP_METHOD_PRECOPY);
	mem->fresh = true;
	ret = mem_stage(mem, 0, err);
	if (ret == -ETIME)
		return allowance_used_up(job, err);
	return ret < 0 ? ret : tags_stage(mem, &job->snapshot, err);
}

// Bytes of extents in a range; *at moves on with ascending ranges.
static uint64_t bytes_in(const struct extents *extents, size_t *at, uint64_t start, uint64_t end)
{
	uint64_t bytes = 0;

	(void)extents_at(extents, at, start);
	for (size_t i = *at; i < extents->n && extents->list[i].start < end; i++)
		bytes += extents->list[i].end - extents->list[i].start;
	return bytes;
}

// Each mapping's own: what lies in none, or behind what is kept of one, was of something that is gone.
static int keep_mapped(const struct job *job, const struct extents *all, struct extents *kept)
{
	const struct maps *const maps = &job->snapshot.maps;
	size_t at = 0;
	int ret = 0;

	for (size_t i = 0; i < maps->n && ret == 0; i++)
		ret = extents_take(all, &at, maps->list[i].start,
				   maps->list[i].start + maps->list[i].dump_size, kept);
	return ret;
}

// What was written to the core's file is the sink's from now on, to be kept or written over.
static void hand_over(struct job *job)
{
	job->sink.prior_size = job->precopy.spool.size;
	job->precopy.spool = SPOOL_NONE;
}

int precopy_settle(struct job *job, struct coresnap_error *err)
{
	const struct extents late = { .list = job->mem.list, .n = job->mem.n };
	struct extents all = { .arena = &job->arena }, kept = all;
	size_t at = 0;
	int ret = extents_overlay(&job->precopy.pages, &late, &job->precopy.holes, &all);

	if (ret < 0)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory to list the pages");
	for (size_t i = 0; i < job->snapshot.maps.n; i++) {
		struct mapping *const m = &job->snapshot.maps.list[i];

		if (m->flags & MAPPING_NEW)
			m->anonymous = bytes_in(&all, &at, m->start, m->end);
	}
	ret = snapmaps_select_new(&job->snapshot, &job->target, err);
	if (ret < 0)
		return ret;
	if (keep_mapped(job, &all, &kept) < 0)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory to list the pages");
	job->mem.list = kept.list;
	job->mem.n = kept.n;
	job->mem.cap = kept.cap;
	job->mem.spool_fd = job->precopy.spool.fd;
	if (job->precopy.in_places) {
		job->precopy.places.beyond = job->precopy.spool.size;
		hand_over(job);
	}
	return 0;
}

void precopy_give_up(struct job *job)
{
	struct precopy *const precopy = &job->precopy;
	uint64_t *const budget = &job->estimate.budget;

	if (precopy->in_places)
		hand_over(job);
	else if (precopy->in_memory)
		*budget -= *budget < precopy->spool.size ? *budget : precopy->spool.size;
	precopy->ready = false;
}

// include/linux/sched.h. What a fork has handed down is never merged with what comes next to it
// (vma_is_fork_child() in mm/vma.c), and cannot be told from what came later.
#define FORKED_WITHOUT_EXEC 0x40u

static bool alike(const struct mapping *a, const struct mapping *b)
{
	return a->end == b->start && !mapping_has_file(a) && !mapping_has_file(b) &&
	       a->flags == b->flags && a->name_len == b->name_len &&
	       (a->name_len == 0 || memcmp(a->name, b->name, a->name_len) == 0);
}

// Were there two that are alike, before we came?
static bool parted(const struct maps *before, uint64_t address)
{
	const struct mapping *const m = maps_at(before, address);

	return m && m->start == address && m > before->list && alike(m - 1, m);
}

void precopy_join(const struct precopy *precopy, struct maps *maps, uint32_t flags)
{
	struct mapping *last = NULL;
	size_t kept = 0;

	if (flags & FORKED_WITHOUT_EXEC)
		return;
	for (size_t i = 0; i < maps->n; i++) {
		const struct mapping m = maps->list[i];

		if (!last || !alike(last, &m) || !track_meets(&precopy->track, m.start) ||
		    parted(&precopy->before, m.start)) {
			last = &maps->list[kept++];
			*last = m;
			continue;
		}
		last->end = m.end;
		last->anonymous += m.anonymous;
		last->resident += m.resident;
		last->huge += m.huge;
		// A page that was written in either makes the kernel keep all.
		if (last->dump_size || m.dump_size) {
			last->dump_size = last->end - last->start;
			last->skip_reason = -1;
		}
	}
	maps->n = kept;
}
