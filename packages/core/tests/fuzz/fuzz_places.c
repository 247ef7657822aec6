/* SPDX-License-Identifier: BSD-3-Clause */
// A core whose bytes were written to places foreseen by other mappings: whatever has become of these,
// segments that are in place have their bytes where they are, no segment lies on another, and what is
// to be copied once more is not written over before.
#include "fuzz_snapshot.h"
#include "plan_places.h"

#define AFTER (3 * FUZZED_MAPS)

static struct fuzzed f;
static struct plan plan;
static struct places places;
static struct mapping before[FUZZED_MAPS], after[AFTER];
static struct maps maps_before, maps_after;
static bool changed;

static uint64_t some_pages(struct input *in, uint64_t limit)
{
	return take_below(in, limit) * f.s.page_size;
}

// The fuzzed mappings, farther from each other.
static void spread(struct input *in)
{
	uint64_t shift = 0;

	maps_before = (struct maps){ .arena = &f.arena, .list = before, .n = f.s.maps.n };
	for (size_t i = 0; i < maps_before.n; i++) {
		shift += some_pages(in, 40);
		before[i] = f.maps[i];
		before[i].start += shift;
		before[i].end += shift;
	}
}

static void add(uint64_t start, uint64_t end, struct mapping as, struct input *in)
{
	const struct mapping *const last = maps_after.n ? &after[maps_after.n - 1] : NULL;

	if (last && start < last->end)
		start = last->end;
	if (start >= end || maps_after.n == AFTER)
		return;
	const bool same = as.start == start && as.end == end && take(in, 1) % 4;
	const uint64_t kept[] = { 0, end - start, some_pages(in, (end - start) / f.s.page_size + 1) };

	changed |= !same;
	if (!same)
		as.dump_size = kept[take_below(in, 3)];
	as.start = start;
	as.end = end;
	after[maps_after.n++] = as;
}

// What may have become of a mapping.
static void change(const struct mapping *m, struct input *in)
{
	const uint64_t pages = (m->end - m->start) / f.s.page_size;
	const uint64_t less = some_pages(in, pages), more = some_pages(in, 40);
	struct mapping *const last = maps_after.n ? &after[maps_after.n - 1] : NULL;

	switch (take_below(in, 10)) {
	case 0: // it is gone
		changed = true;
		return;
	case 1: // it is of one piece with the one before
		if (last && last->end < m->end) {
			changed = true;
			last->dump_size = last->dump_size ? m->end - last->start : 0;
			last->end = m->end;
			return;
		}
		break;
	case 2: // it has become two
		add(m->start, m->start + less, *m, in);
		add(m->start + less, m->end, *m, in);
		return;
	case 3: // there is another below
		add(m->start - (more < m->start ? more : 0), m->start - some_pages(in, 2), *m, in);
		break;
	case 4:
		add(m->start + less, m->end, *m, in);
		return;
	case 5:
		add(m->start, m->end - less, *m, in);
		return;
	case 6:
		add(m->start - (more < m->start ? more : 0), m->end, *m, in);
		return;
	case 7:
		add(m->start, m->end + more, *m, in);
		return;
	default:
		break;
	}
	add(m->start, m->end, *m, in);
}

static bool foresee(uint64_t most)
{
	const uint64_t page = f.s.page_size;
	uint64_t at = 0, offset;

	places = (struct places){ .list = { .arena = &f.arena } };
	if (places_foresee(&places, &maps_before, (unsigned int)f.s.n_threads, page, most) < 0) {
		MUST(places.end > most);
		return false;
	}
	MUST(places.data > 0 && places.data % page == 0 && places.end % page == 0);
	MUST(places.list.n == 0 || places.end <= most);
	offset = places.data;
	for (size_t i = 0; i < places.list.n; i++) {
		const struct extent *const place = &places.list.list[i];

		MUST(place->start >= at && place->end > place->start);
		MUST(place->offset >= offset && place->offset % page == 0);
		at = place->end;
		offset = place->offset + (place->end - place->start);
	}
	MUST(offset <= places.end);
	return true;
}

// Where bytes of an address are by a place.
static uint64_t place_of(const struct extent *place, uint64_t address)
{
	return place->offset + (address - place->start);
}

// For each place that has bytes of a segment.
static void check_bytes(const struct segment *segment, bool in_place, uint64_t end_in_place)
{
	for (size_t i = 0; i < places.list.n; i++) {
		const struct extent *const place = &places.list.list[i];
		const uint64_t from = place->start > segment->vaddr ? place->start : segment->vaddr;
		const uint64_t end = segment->vaddr + segment->kept;

		if (from >= place->end || from >= end)
			continue;
		if (in_place)
			MUST(segment->offset + (from - segment->vaddr) == place_of(place, from));
		else
			MUST(place_of(place, from) >= end_in_place);
	}
}

static void check_segments(void)
{
	const size_t n = plan.n_in_places;
	const uint64_t end_in_place =
		n ? plan.segments[n - 1].offset + plan.segments[n - 1].filesz : places.data;
	uint64_t at = places.data;

	MUST(plan.n_segments == maps_after.n && n <= plan.n_segments);
	for (size_t i = 0; i < plan.n_segments; i++) {
		const struct segment *const segment = &plan.segments[i];
		const struct mapping *const m = &after[i];

		MUST(segment->vaddr == m->start && segment->memsz == m->end - m->start);
		MUST(segment->kept == m->dump_size && segment->filesz == segment->kept);
		MUST(segment->offset >= at && segment->offset % f.s.page_size == 0);
		at = segment->offset + segment->filesz;
		MUST(at >= segment->offset);
		MUST(i < n ? at <= places.end : segment->offset >= places.beyond);
		check_bytes(segment, i < n, end_in_place);
	}
	MUST(plan.tags_at == at && plan.data_end >= at && plan.size >= plan.data_end);
	MUST(plan.head_size <= places.data && plan.size <= INT64_MAX);
	if (!changed)
		MUST(n == plan.n_segments);
}

static bool too_large(void)
{
	const uint64_t most = f.s.arch->elf_class == ELFCLASS64 ? INT64_MAX : UINT32_MAX;
	uint64_t sum = places.beyond;

	for (size_t i = 0; i < maps_after.n; i++)
		if (__builtin_add_overflow(sum, after[i].dump_size / 32 * 33, &sum) || sum > most)
			return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct coresnap_error err = { 0 };

	changed = false;
	maps_after = (struct maps){ .arena = &f.arena, .list = after };
	fuzzed_init(&f, &in, 64);
	f.wishes.max_size = 0;
	f.wishes.places = &places;
	spread(&in);
	const uint64_t room = take(&in, 5) & 1 ? 1ull << 40 : 1ull << 31;

	if (foresee(take(&in, 1) & 7 ? room : take(&in, 4))) {
		// What was copied since the first pass.
		const uint64_t later = take(&in, 8) >> (1 + take_below(&in, 63));

		places.beyond = places.end + later / f.s.page_size * f.s.page_size;
		for (size_t i = 0; i < maps_before.n; i++)
			change(&before[i], &in);
		f.s.maps = maps_after;
		if (maps_after.n && plan_build(&plan, &f.s, &f.wishes, &err) == 0)
			check_segments();
		else if (maps_after.n)
			MUST(err.os_errno == EFBIG && too_large());
	}
	arena_deinit(&f.arena);
	return 0;
}
