/* SPDX-License-Identifier: BSD-3-Clause */
#include "plan_limit.h"

#include <string.h>

// What the memory that a segment keeps takes in the core.
static uint64_t cost(const struct snapshot *s, size_t i, uint64_t kept)
{
	const uint64_t tags =
		snapshot_has_tags(s, &s->maps.list[i]) ? arch_tags_size(s->arch, kept) : 0;

	return kept > UINT64_MAX - tags ? UINT64_MAX : kept + tags;
}

// What all segments of at most this size take.
static uint64_t cost_up_to(const struct plan *plan, const struct snapshot *s, uint64_t size)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < plan->n_segments; i++)
		if (plan->segments[i].kept <= size &&
		    __builtin_add_overflow(sum, cost(s, i, plan->segments[i].kept), &sum))
			return UINT64_MAX;
	return sum;
}

// The largest size such that all segments up to it fit: halving takes 64 looks at each segment,
// and no memory to sort them in.
static uint64_t largest_fitting(const struct plan *plan, const struct snapshot *s, uint64_t room)
{
	uint64_t low = 0, high = UINT64_MAX;

	while (low < high) {
		const uint64_t middle = low + (high - low) / 2 + 1;

		if (cost_up_to(plan, s, middle) <= room)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

void plan_shorten(struct plan *plan, const struct snapshot *s, uint64_t room)
{
	const uint64_t fits = largest_fitting(plan, s, room);
	uint64_t next = UINT64_MAX; // the size of the first that do not all fit

	room -= cost_up_to(plan, s, fits);
	for (size_t i = 0; i < plan->n_segments; i++)
		if (plan->segments[i].kept > fits && plan->segments[i].kept < next)
			next = plan->segments[i].kept;
	for (size_t i = 0; i < plan->n_segments; i++) {
		struct segment *segment = &plan->segments[i];

		if (segment->kept <= fits)
			continue;
		if (segment->kept > next) {
			segment->kept = 0;
		} else if (cost(s, i, next) <= room) {
			room -= cost(s, i, next);
		} else {
			segment->kept = room / cost(s, i, s->page_size) * s->page_size;
			room = 0;
		}
	}
}

// A piece of the head, which the kernel writes as a whole or not at all.
static bool take(uint64_t limit, size_t size, size_t *at, size_t *end, uint64_t *counted)
{
	if (size > limit - *counted)
		return false;
	*counted += size;
	*at += size;
	*end = *at;
	return true;
}

static size_t align4(size_t size)
{
	return (size + 3) & ~(size_t)3;
}

// writenote() in fs/binfmt_elf.c: head, name and content, each padded.
static bool take_note(const struct plan *plan, uint64_t limit, size_t *at, size_t *end,
		      uint64_t *counted)
{
	Elf64_Nhdr note;

	memcpy(&note, plan->head + *at, sizeof(note));
	if (!take(limit, sizeof(note), at, end, counted) ||
	    !take(limit, note.n_namesz, at, end, counted))
		return false;
	*at = align4(*at);
	if (!take(limit, note.n_descsz, at, end, counted))
		return false;
	*at = align4(*at);
	return true;
}

size_t plan_limit_head(const struct plan *plan, uint64_t limit, uint64_t *counted)
{
	const struct sizes sizes = header_sizes(plan->arch);
	const size_t n_phdrs = 1 + plan->n_segments + plan->n_tags;
	size_t at = 0, end = 0;

	*counted = 0;
	if (!take(limit, sizes.ehdr, &at, &end, counted))
		return end;
	for (size_t i = 0; i < n_phdrs; i++)
		if (!take(limit, sizes.phdr, &at, &end, counted))
			return end;
	while (at < plan->head_size)
		if (!take_note(plan, limit, &at, &end, counted))
			return end;
	return plan->head_size;
}
