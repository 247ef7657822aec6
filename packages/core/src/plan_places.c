/* SPDX-License-Identifier: BSD-3-Clause */
// A core of which bytes were written before it was planned: segments are put where they are.
#include "plan_places.h"

// The offset of a segment that overlaps one place, at least @at. False if it cannot be there.
static bool beside(const struct extent *place, const struct segment *segment, uint64_t at,
		   uint64_t *offset)
{
	const uint64_t below = place->start > segment->vaddr ? place->start - segment->vaddr : 0;
	const uint64_t above = segment->vaddr > place->start ? segment->vaddr - place->start : 0;

	*offset = place->offset + above - below;
	return place->offset + above >= at && place->offset + above - at >= below;
}

// The offset of a segment where it was foreseen, or where nobody was. A segment with the bytes of two
// places cannot have both where they are.
static bool foreseen(const struct places *places, const struct segment *segment, size_t *next,
		     uint64_t at, uint64_t *offset)
{
	const struct extent *const list = places->list.list;
	const uint64_t end = segment->vaddr + segment->kept;
	size_t after = *next;

	while (after < places->list.n && list[after].end <= segment->vaddr)
		after++;
	*next = after;
	*offset = at;
	if (after < places->list.n && list[after].start < end) {
		if (!beside(&list[after++], segment, at, offset))
			return false;
		if (after < places->list.n && list[after].start < end)
			return false;
	}
	const uint64_t limit = after < places->list.n ? list[after].offset : places->end;

	return *offset <= limit && segment->kept <= limit - *offset;
}

bool plan_in_places(struct plan *plan, const struct places *places, uint64_t *end)
{
	uint64_t at = places->data;
	size_t next = 0;

	for (size_t i = 0; i < plan->n_segments; i++) {
		struct segment *const segment = &plan->segments[i];
		uint64_t offset = at;
		const bool in_place =
			i == plan->n_in_places &&
			(segment->kept == 0 || foreseen(places, segment, &next, at, &offset));

		if (in_place)
			plan->n_in_places++;
		else
			offset = at > places->beyond ? at : places->beyond;
		segment->filesz = segment->kept;
		segment->offset = offset;
		if (__builtin_add_overflow(offset, segment->kept, &at) || at > INT64_MAX)
			return false;
	}
	*end = at;
	return true;
}
