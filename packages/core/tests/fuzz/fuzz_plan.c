/* SPDX-License-Identifier: BSD-3-Clause */
// The plan of any snapshot: headers that say what it has, segments one behind the other and within
// their mappings, notes that fill their segment, and the limit kept. The head is read back by the
// reader of the kernel's cores as well.
#include "fuzz_snapshot.h"
#include "livedump_parts.h"
#include "plan_limit.h"

static struct fuzzed f;
static struct plan plan;

static Elf64_Phdr header(size_t i)
{
	const struct sizes sizes = header_sizes(plan.arch);
	const uint8_t *const at = plan.head + sizes.ehdr + i * sizes.phdr;
	Elf64_Phdr wide;
	Elf32_Phdr narrow;

	if (plan.arch->elf_class == ELFCLASS64) {
		memcpy(&wide, at, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, at, sizeof(narrow));
	return (Elf64_Phdr){ .p_type = narrow.p_type,
			     .p_offset = narrow.p_offset,
			     .p_vaddr = narrow.p_vaddr,
			     .p_filesz = narrow.p_filesz,
			     .p_memsz = narrow.p_memsz,
			     .p_flags = narrow.p_flags,
			     .p_align = narrow.p_align };
}

static void check_header(size_t i, uint32_t type, const struct segment *segment)
{
	const Elf64_Phdr phdr = header(i);

	MUST(phdr.p_type == type);
	MUST(phdr.p_vaddr == segment->vaddr && phdr.p_memsz == segment->memsz);
	MUST(phdr.p_offset == segment->offset && phdr.p_filesz == segment->filesz);
}

static void check_notes(void)
{
	const Elf64_Phdr phdr = header(0);
	const struct sizes sizes = header_sizes(plan.arch);
	size_t threads = 0, own = 0, at = (size_t)phdr.p_offset;

	MUST(phdr.p_type == PT_NOTE);
	MUST(at == sizes.ehdr + (1 + plan.n_segments + plan.n_tags) * sizes.phdr);
	MUST(at + phdr.p_filesz == plan.head_size);
	while (at < plan.head_size) {
		Elf64_Nhdr note;

		MUST(plan.head_size - at >= sizeof(note));
		memcpy(&note, plan.head + at, sizeof(note));
		at += sizeof(note);
		MUST(note.n_namesz > 0 && note.n_namesz < plan.head_size - at);
		MUST(plan.head[at + note.n_namesz - 1] == '\0');
		const bool kernels = memcmp(plan.head + at, "CORE", 5) == 0 ||
				     memcmp(plan.head + at, "LINUX", 6) == 0;

		at += (note.n_namesz + 3) / 4 * 4;
		MUST(note.n_descsz <= plan.head_size - at);
		at += (note.n_descsz + 3) / 4 * 4;
		threads += kernels && note.n_type == NT_PRSTATUS;
		own += !kernels;
	}
	MUST(at == plan.head_size && threads == f.s.n_threads && own == f.wishes.n_notes);
}

// One behind the other, and what is kept of a mapping is no more than it has.
static uint64_t check_segments(void)
{
	const uint64_t page = f.s.page_size;
	uint64_t at = (plan.head_size + page - 1) / page * page;
	size_t tag = 0;

	MUST(plan.n_segments == f.s.maps.n);
	for (size_t i = 0; i < plan.n_segments; i++) {
		const struct segment *const segment = &plan.segments[i];
		const struct mapping *const m = &f.maps[i];

		MUST(segment->vaddr == m->start && segment->memsz == m->end - m->start);
		MUST(segment->wanted == m->dump_size && segment->filesz == segment->kept);
		MUST(segment->kept <= m->dump_size && segment->kept % page == 0);
		MUST(segment->offset == at);
		at += segment->filesz;
		check_header(1 + i, PT_LOAD, segment);
	}
	MUST(plan.tags_at == at);
	for (size_t i = 0; i < plan.n_segments; i++) {
		if (!snapshot_has_tags(&f.s, &f.maps[i]))
			continue;
		const struct segment *const segment = &plan.tags[tag];

		MUST(segment->vaddr == f.maps[i].start && segment->offset == at);
		MUST(segment->filesz == plan.segments[i].kept / 32);
		at += segment->filesz;
		check_header(1 + plan.n_segments + tag++, plan.arch->tags.segment, segment);
	}
	MUST(tag == plan.n_tags && plan.data_end == at && plan.tail_size == 0);
	return at;
}

// Nothing gives way unless it must; then the largest do, until what is left fits.
static void check_limit(void)
{
	const uint64_t limit = f.wishes.max_size, page = f.s.page_size;
	const uint64_t head = (plan.head_size + page - 1) / page * page;
	uint64_t smallest_cut = UINT64_MAX;

	MUST(plan.whole >= plan.size);
	for (size_t i = 0; i < plan.n_segments; i++)
		if (plan.segments[i].kept < plan.segments[i].wanted &&
		    plan.segments[i].wanted < smallest_cut)
			smallest_cut = plan.segments[i].wanted;
	MUST((smallest_cut == UINT64_MAX) == (plan.whole == plan.size));
	if (!limit || plan.whole <= limit) {
		MUST(plan.whole == plan.size);
		return;
	}
	MUST(plan.size <= limit || plan.size == head);
	// Not a page more would fit.
	MUST(smallest_cut == UINT64_MAX || limit < head || plan.size + page + page / 32 > limit);
	for (size_t i = 0; i < plan.n_segments; i++)
		MUST(plan.segments[i].wanted >= smallest_cut ||
		     plan.segments[i].kept == plan.segments[i].wanted);
}

// Where the kernel would stop, which is nowhere without a limit, and later with a larger one.
static void check_stops(struct input *in)
{
	const uint64_t limit = take_below(in, plan.head_size + 1);
	uint64_t counted, more;
	const size_t end = plan_limit_head(&plan, limit, &counted);

	MUST(end <= plan.head_size && counted <= limit && counted <= end);
	MUST(plan_limit_head(&plan, limit + take(in, 1), &more) >= end && more >= counted);
	MUST(plan_limit_head(&plan, UINT64_MAX, &more) == plan.head_size);
	MUST(plan_limit_head(&plan, more, &counted) == plan.head_size && counted == more);
}

static void check_reader(void)
{
	struct livedump_head head = { 0 };

	MUST(livedump_head_read(&head, plan.head, plan.head_size) == 1);
	MUST(head.need == plan.head_size && head.threads == f.s.n_threads);
	MUST(head.segments == plan.n_segments && head.size == plan.size);
}

// Is what is wanted more than a file of its class has room for?
static bool too_large(void)
{
	const uint64_t most = f.s.arch->elf_class == ELFCLASS64 ? INT64_MAX : UINT32_MAX;
	uint64_t sum = 1 << 20; // more than any head has

	for (size_t i = 0; i < f.s.maps.n; i++)
		if (__builtin_add_overflow(sum, f.maps[i].dump_size / 32 * 33, &sum) || sum > most)
			return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct coresnap_error err = { 0 };

	fuzzed_init(&f, &in, 60000);
	if (plan_build(&plan, &f.s, &f.wishes, &err) == 0) {
		MUST(check_segments() == plan.size);
		check_notes();
		check_limit();
		check_stops(&in);
		check_reader();
	} else {
		MUST(err.code == CORESNAP_E_FAILED && err.os_errno == EFBIG && too_large());
	}
	arena_deinit(&f.arena);
	return 0;
}
