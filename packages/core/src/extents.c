/* SPDX-License-Identifier: BSD-3-Clause */
#include "extents.h"

#include <errno.h>

static bool continues(const struct extent *last, const struct extent *next)
{
	return last->end == next->start && last->spooled && next->spooled && !last->bytes &&
	       !next->bytes && last->certain == next->certain &&
	       last->offset + (last->end - last->start) == next->offset;
}

static int append(struct extents *extents, const struct extent *extent)
{
	if (arena_grow(extents->arena, &extents->list, &extents->cap, extents->n + 1,
		       sizeof(*extents->list)) < 0)
		return -ENOMEM;
	extents->list[extents->n++] = *extent;
	return 0;
}

int extents_add(struct extents *extents, const struct extent *extent)
{
	struct extent *const last = extents->n ? &extents->list[extents->n - 1] : NULL;

	if (extent->start >= extent->end)
		return 0;
	if (last && extent->start < last->end)
		return -EINVAL;
	if (last && continues(last, extent)) {
		last->end = extent->end;
		return 0;
	}
	return append(extents, extent);
}

// The part of an extent between two addresses.
static struct extent part_of(const struct extent *extent, uint64_t start, uint64_t end)
{
	struct extent part = *extent;

	if (start > part.start) {
		part.offset += start - part.start;
		if (part.bytes)
			part.bytes += start - part.start;
		part.tags = NULL; // such memory is never divided
		part.start = start;
	}
	if (end < part.end)
		part.end = end;
	return part;
}

const struct extent *extents_at(const struct extents *extents, size_t *at, uint64_t address)
{
	while (*at < extents->n && extents->list[*at].end <= address)
		++*at;
	return *at < extents->n ? &extents->list[*at] : NULL;
}

// A list that is walked through by ascending addresses.
struct walk {
	const struct extents *extents;
	size_t next;
};

static const struct extent *walk_to(struct walk *walk, uint64_t address)
{
	return extents_at(walk->extents, &walk->next, address);
}

// Adds what of an old extent lies under no hole and under nothing newer.
static int add_uncovered(const struct extent *extent, struct walk *over, struct walk *holes,
			 struct extents *out)
{
	uint64_t at = extent->start;

	while (at < extent->end) {
		const struct extent *const newer = walk_to(over, at);
		const struct extent *const hole = walk_to(holes, at);
		const struct extent *cover = newer;

		if (hole && (!cover || hole->start < cover->start))
			cover = hole;
		const uint64_t until = cover && cover->start < extent->end ? cover->start :
									      extent->end;
		if (at < until) {
			const struct extent part = part_of(extent, at, until);

			if (extents_add(out, &part) < 0)
				return -ENOMEM;
			at = until;
		} else {
			at = cover->end;
		}
	}
	return 0;
}

int extents_overlay(const struct extents *old, const struct extents *over,
		    const struct extents *holes, struct extents *out)
{
	struct walk under_over = { .extents = over }, under_holes = { .extents = holes };
	size_t next = 0;

	for (size_t i = 0; i < old->n; i++) {
		const struct extent *rest = &old->list[i];
		uint64_t at = rest->start;

		// The newer ones before it, and those that lie within it, in their places.
		while (at < rest->end) {
			uint64_t until = rest->end;

			while (next < over->n && over->list[next].start <= at) {
				if (extents_add(out, &over->list[next]) < 0)
					return -ENOMEM;
				next++;
			}
			if (next < over->n && over->list[next].start < until)
				until = over->list[next].start;
			const struct extent part = part_of(rest, at, until);

			if (add_uncovered(&part, &under_over, &under_holes, out) < 0)
				return -ENOMEM;
			at = until;
		}
	}
	for (; next < over->n; next++)
		if (extents_add(out, &over->list[next]) < 0)
			return -ENOMEM;
	return 0;
}

int extents_take(const struct extents *all, size_t *at, uint64_t start, uint64_t end,
		 struct extents *out)
{
	(void)extents_at(all, at, start);
	for (size_t i = *at; i < all->n && all->list[i].start < end; i++) {
		const struct extent part = part_of(&all->list[i], start, end);

		// Not made one with the last: a segment ends between them.
		if (part.start < part.end && append(out, &part) < 0)
			return -ENOMEM;
	}
	return 0;
}
