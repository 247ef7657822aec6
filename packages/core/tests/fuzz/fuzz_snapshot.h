/* SPDX-License-Identifier: BSD-3-Clause */
// A snapshot out of the input: of any architecture, with mappings, notes and sizes as they come, but
// as what is left of it makes snapshots. Mappings ascend, whole pages are kept, names have no NUL.
// More than 65534 segments would take too long for each input; test_plan.c has them.
#ifndef CORESNAP_TESTS_FUZZ_SNAPSHOT_H
#define CORESNAP_TESTS_FUZZ_SNAPSHOT_H

#include <elf.h>

#include "fuzz.h"
#include "plan.h"

#define FUZZED_MAPS    24
#define FUZZED_THREADS 4
#define FUZZED_NOTES   3

struct fuzzed {
	struct arena arena;
	struct snapshot s;
	struct snap_thread threads[FUZZED_THREADS];
	struct mapping maps[FUZZED_MAPS];
	struct coresnap_note notes[FUZZED_NOTES];
	struct plan_wishes wishes;
};

// What registers, notes and names consist of.
static const uint8_t fuzzed_bytes[1 << 17] = { 1, 2, 3 };
static const char fuzzed_name[] =
	"/a/path/of/some/length/that/a/file/of/a/program/may/have/as.well (deleted)\n\xff";

static inline void fuzzed_thread(struct snap_thread *t, const struct arch *arch, struct input *in)
{
	*t = (struct snap_thread){ .tid = (int32_t)take(in, 4),
				   .sigpend = take(in, 1),
				   .utime_ns = take(in, 8),
				   .n_regsets = 1 };
	t->regsets[0] = (struct snap_regset){ .row = &arch->regsets[0],
					      .bytes = fuzzed_bytes,
					      .size = arch->gregs_size };
	const uint64_t which = take(in, 2);

	for (size_t i = 1; i < arch->n_regsets; i++) {
		const struct arch_regset *const row = &arch->regsets[i];

		if (which >> (i % 16) & 1)
			t->regsets[t->n_regsets++] = (struct snap_regset){
				.row = row,
				.bytes = fuzzed_bytes,
				// Larger ones take longer to copy, and that is all.
				.size = (uint32_t)take_below(in, row->max_size < 600 ?
									 row->max_size + 1ull :
									 600),
			};
	}
}

static inline void fuzzed_file(struct mapping *m, struct input *in)
{
	m->inode = take(in, 4);
	m->dev_minor = 1;
	m->offset = take(in, 6);
	m->name = fuzzed_name;
	m->name_len = (uint32_t)take_below(in, sizeof(fuzzed_name));
}

// Mappings below @top, each of at most @most pages but for a few.
static inline void fuzzed_maps(struct fuzzed *f, struct input *in, uint64_t top, uint64_t most)
{
	const uint64_t page = f->s.page_size;
	const size_t n = 1 + (size_t)take_below(in, FUZZED_MAPS);
	uint64_t at = page;

	for (; f->s.maps.n < n; f->s.maps.n++) {
		struct mapping *const m = &f->maps[f->s.maps.n];
		uint64_t pages = 1 + take_below(in, most);

		at += take_below(in, 3) * page;
		if (most > 256 && pages == 1)
			pages = 1ull << take_below(in, 51);
		if (pages > (top - at) / page) {
			if (f->s.maps.n)
				break;
			pages = 1;
		}
		*m = (struct mapping){ .start = at,
				       .end = at + pages * page,
				       .flags = (uint32_t)take(in, 2),
				       .skip_reason = -1 };
		const uint64_t kept[] = { 0, page, pages * page, take_below(in, pages + 1) * page };

		m->dump_size = kept[take_below(in, 4)];
		if (take(in, 1) & 1)
			fuzzed_file(m, in);
		at = m->end;
	}
}

static inline void fuzzed_wishes(struct fuzzed *f, struct input *in)
{
	static const char *const names[] = { "N", "FOUR", "a name", "FIVE5" };

	f->wishes = (struct plan_wishes){ .notes = f->notes,
					  .n_notes = (size_t)take_below(in, FUZZED_NOTES + 1) };
	for (size_t i = 0; i < f->wishes.n_notes; i++)
		f->notes[i] = (struct coresnap_note){ .name = names[take_below(in, 4)],
						      .type = (unsigned int)take(in, 4),
						      .size = (size_t)take_below(in, 1000),
						      .desc = fuzzed_bytes };
	f->wishes.max_size = take(in, 8) >> take_below(in, 64);
}

static inline void fuzzed_init(struct fuzzed *f, struct input *in, uint64_t most)
{
	static const struct arch *const rows[] = { &arch_x86_64, &arch_i386, &arch_arm,
						   &arch_aarch64 };
	const struct arch *const arch = rows[take_below(in, 4)];
	const bool large = arch == &arch_aarch64 && (take(in, 1) & 1);

	*f = (struct fuzzed){ .arena.private_blocks = true };
	f->s = (struct snapshot){ .arena = &f->arena,
				  .arch = arch,
				  .page_size = large ? 65536 : 4096,
				  .threads = f->threads,
				  .n_threads = 1 + (size_t)take_below(in, FUZZED_THREADS),
				  .uid = (uint32_t)take(in, 4),
				  .auxv = fuzzed_bytes,
				  .auxv_size = 2u * arch->word * (size_t)take_below(in, 30),
				  .process_note = fuzzed_bytes,
				  .file_note_limit = take(in, 1) << 10,
				  .maps = { .arena = &f->arena, .list = f->maps } };
	if (arch->process_note)
		f->s.process_note_size = (size_t)take_below(in, ARCH_MAX_PROCESS_NOTE + 1);
	for (size_t i = 0; i < f->s.n_threads; i++)
		fuzzed_thread(&f->threads[i], arch, in);
	fuzzed_maps(f, in, arch->elf_class == ELFCLASS64 ? 1ull << 63 : 0xfffff000ull, most);
	fuzzed_wishes(f, in);
}

#endif
