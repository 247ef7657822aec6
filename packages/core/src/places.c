/* SPDX-License-Identifier: BSD-3-Clause */
#include "places.h"

#include <elf.h>
#include <errno.h>

// For some hundred threads and mappings more than there were.
#define HEAD_ROOM ((uint64_t)4 << 20)

// Room behind a mapping: a part of it, and for new ones, which come into the widest gap, between the heap
// and what mmap(2) gave, a part of all.
#define LEAST_ROOM ((uint64_t)65536)
#define MOST_ROOM  ((uint64_t)64 << 20)
#define LARGE_ROOM ((uint64_t)1 << 30)

enum { PART = 16, PART_OF_ALL = 8 };

static uint64_t align(uint64_t size, uint64_t page_size)
{
	return (size + page_size - 1) / page_size * page_size;
}

// Program headers and NT_FILE besides.
static uint64_t head_of(const struct maps *maps, uint64_t notes)
{
	uint64_t size = HEAD_ROOM + notes;

	for (size_t i = 0; i < maps->n; i++)
		size += sizeof(Elf64_Phdr) + 3 * sizeof(uint64_t) + maps->list[i].name_len + 1;
	return size;
}

static int list_kept(struct places *places, const struct maps *maps)
{
	int ret = 0;

	for (size_t i = 0; i < maps->n && ret == 0; i++) {
		const struct mapping *const m = &maps->list[i];
		const struct extent kept = { .start = m->start, .end = m->start + m->dump_size };

		ret = extents_add(&places->list, &kept);
	}
	return ret;
}

static uint64_t size_of(const struct extent *extent)
{
	return extent->end - extent->start;
}

// Addresses up to the next one. Behind the last is the end of the address space.
static uint64_t gap_behind(const struct places *places, size_t i)
{
	return i + 1 < places->list.n ? places->list.list[i + 1].start - places->list.list[i].end : 0;
}

// Where there are no addresses nothing can come.
static uint64_t room_for(uint64_t part, uint64_t most, uint64_t gap)
{
	const uint64_t room = part < LEAST_ROOM ? LEAST_ROOM : part < most ? part : most;

	return room < gap ? room : gap;
}

int places_foresee(struct places *places, const struct maps *maps, uint64_t notes,
		   uint64_t page_size, uint64_t most)
{
	const int ret = list_kept(places, maps);
	uint64_t all = 0, widest = 0;

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < places->list.n; i++) {
		all += size_of(&places->list.list[i]);
		widest = gap_behind(places, i) > widest ? gap_behind(places, i) : widest;
	}
	places->data = align(head_of(maps, notes), page_size);
	places->end = places->data;
	for (size_t i = 0; i < places->list.n; i++) {
		struct extent *const extent = &places->list.list[i];
		const uint64_t gap = gap_behind(places, i);
		const uint64_t room = gap == widest ?
					      room_for(all / PART_OF_ALL, LARGE_ROOM, gap) :
					      room_for(size_of(extent) / PART, MOST_ROOM, gap);

		extent->offset = places->end;
		if (__builtin_add_overflow(places->end, size_of(extent) + align(room, page_size),
					   &places->end) ||
		    places->end > most)
			return -EFBIG;
	}
	return 0;
}
