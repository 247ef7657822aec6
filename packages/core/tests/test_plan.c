/* SPDX-License-Identifier: BSD-3-Clause */
#include "plan.h"

#include <elf.h>
#include <errno.h>

#include "check.h"
#include "hand_snapshot.h"

static struct plan build(const struct snapshot *s)
{
	struct coresnap_error err = { 0 };
	struct plan plan;
	const int ret = plan_build(&plan, s, &(struct plan_wishes){ 0 }, &err);

	if (ret < 0)
		fprintf(stderr, "%s\n", err.what);
	CHECK_EQ(ret, 0);
	CHECK_EQ(err.code, 0);
	return plan;
}

static int refused(const struct snapshot *s)
{
	struct coresnap_error err = { 0 };
	struct plan plan;
	const int ret = plan_build(&plan, s, &(struct plan_wishes){ 0 }, &err);

	CHECK(ret < 0);
	CHECK_EQ(err.code, CORESNAP_E_FAILED);
	return ret;
}

static void check_segments(const struct plan *plan, const struct snapshot *s)
{
	uint64_t offset = (plan->head_size + 4095) & ~(uint64_t)4095;

	CHECK_EQ(plan->n_segments, s->maps.n);
	for (size_t i = 0; i < plan->n_segments; i++) {
		const struct segment *segment = &plan->segments[i];
		const struct mapping *m = &s->maps.list[i];

		CHECK_EQ(segment->vaddr, m->start);
		CHECK_EQ(segment->memsz, m->end - m->start);
		CHECK_EQ(segment->filesz, m->dump_size);
		CHECK_EQ(segment->offset, offset);
		offset += m->dump_size;
	}
	CHECK_EQ(plan->data_end, offset);
	CHECK_EQ(plan->size, offset + plan->tail_size);
}

static void elf64_headers(void)
{
	static struct hand h;
	static const uint8_t ident[16] = { 0x7f, 'E', 'L', 'F', 2, 1, 1 };
	// Address, size in memory, flags: R E, RW, none, W.
	static const struct {
		uint64_t vaddr, memsz, filesz;
		uint32_t flags;
	} want[] = { { 0x10000, 0x2000, 0x1000, 5 },
		     { 0x20000, 0x3000, 0x3000, 6 },
		     { 0x30000, 0x1000, 0, 0 },
		     { 0x40000, 0x2000, 0x2000, 2 } };
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr;

	hand_init(&h, &arch_x86_64);
	const struct plan plan = build(&h.s);

	memcpy(&ehdr, plan.head, sizeof(ehdr));
	CHECK(memcmp(ehdr.e_ident, ident, 16) == 0);
	CHECK_EQ(ehdr.e_type, ET_CORE);
	CHECK_EQ(ehdr.e_machine, 62);
	CHECK_EQ(ehdr.e_version, 1);
	CHECK_EQ(ehdr.e_phoff, 64);
	CHECK_EQ(ehdr.e_ehsize, 64);
	CHECK_EQ(ehdr.e_phentsize, 56);
	CHECK_EQ(ehdr.e_phnum, 5);
	CHECK_EQ(ehdr.e_entry | ehdr.e_shoff | ehdr.e_flags, 0);
	CHECK_EQ(ehdr.e_shentsize | ehdr.e_shnum | ehdr.e_shstrndx, 0);
	memcpy(&phdr, plan.head + 64, sizeof(phdr));
	CHECK_EQ(phdr.p_type, PT_NOTE);
	CHECK_EQ(phdr.p_offset, 64 + 5 * 56);
	CHECK_EQ(phdr.p_filesz, plan.head_size - (64 + 5 * 56));
	CHECK_EQ(phdr.p_align, 4);
	CHECK_EQ(phdr.p_vaddr | phdr.p_paddr | phdr.p_memsz | phdr.p_flags, 0);
	CHECK(memcmp(plan.head + phdr.p_offset + 12, "CORE", 5) == 0);
	for (size_t i = 0; i < 4; i++) {
		memcpy(&phdr, plan.head + 64 + 56 * (i + 1), sizeof(phdr));
		CHECK_EQ(phdr.p_type, PT_LOAD);
		CHECK_EQ(phdr.p_vaddr, want[i].vaddr);
		CHECK_EQ(phdr.p_memsz, want[i].memsz);
		CHECK_EQ(phdr.p_filesz, want[i].filesz);
		CHECK_EQ(phdr.p_flags, want[i].flags);
		CHECK_EQ(phdr.p_offset, plan.segments[i].offset);
		CHECK_EQ(phdr.p_paddr, 0);
		CHECK_EQ(phdr.p_align, 4096);
	}
	check_segments(&plan, &h.s);
	CHECK_EQ(plan.tail_size, 0);
}

static void elf32_headers(void)
{
	static struct hand h;
	static const uint8_t ident[16] = { 0x7f, 'E', 'L', 'F', 1, 1, 1 };
	Elf32_Ehdr ehdr;
	Elf32_Phdr phdr;

	hand_init(&h, &arch_i386);
	// The last pages that a 32-bit address space has.
	h.maps[3].start = 0xffffe000;
	h.maps[3].end = 0x100000000;
	const struct plan plan = build(&h.s);

	memcpy(&ehdr, plan.head, sizeof(ehdr));
	CHECK(memcmp(ehdr.e_ident, ident, 16) == 0);
	CHECK_EQ(ehdr.e_type, ET_CORE);
	CHECK_EQ(ehdr.e_machine, 3);
	CHECK_EQ(ehdr.e_version, 1);
	CHECK_EQ(ehdr.e_phoff, 52);
	CHECK_EQ(ehdr.e_ehsize, 52);
	CHECK_EQ(ehdr.e_phentsize, 32);
	CHECK_EQ(ehdr.e_phnum, 5);
	CHECK_EQ(ehdr.e_entry | ehdr.e_shoff | ehdr.e_flags, 0);
	CHECK_EQ(ehdr.e_shentsize | ehdr.e_shnum | ehdr.e_shstrndx, 0);
	memcpy(&phdr, plan.head + 52, sizeof(phdr));
	CHECK_EQ(phdr.p_type, PT_NOTE);
	CHECK_EQ(phdr.p_offset, 52 + 5 * 32);
	CHECK_EQ(phdr.p_filesz, plan.head_size - (52 + 5 * 32));
	CHECK_EQ(phdr.p_align, 4);
	memcpy(&phdr, plan.head + 52 + 4 * 32, sizeof(phdr));
	CHECK_EQ(phdr.p_type, PT_LOAD);
	CHECK_EQ(phdr.p_vaddr, 0xffffe000);
	CHECK_EQ(phdr.p_memsz, 0x2000);
	CHECK_EQ(phdr.p_filesz, 0x2000);
	CHECK_EQ(phdr.p_flags, PF_W);
	CHECK_EQ(phdr.p_offset, plan.segments[3].offset);
	CHECK_EQ(phdr.p_align, 4096);
	check_segments(&plan, &h.s);
}

// The four architectures differ in class and e_machine, and none sets flags.
static void machines(void)
{
	static const struct {
		const struct arch *arch;
		uint8_t elf_class;
		uint16_t machine;
	} rows[] = { { &arch_x86_64, 2, 62 }, { &arch_i386, 1, 3 },
		     { &arch_arm, 1, 40 }, { &arch_aarch64, 2, 183 } };
	static struct hand h;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		hand_init(&h, rows[i].arch);
		const struct plan plan = build(&h.s);
		uint16_t machine;
		uint32_t flags;

		memcpy(&machine, plan.head + 18, sizeof(machine));
		memcpy(&flags, plan.head + (rows[i].elf_class == 2 ? 48 : 36), sizeof(flags));
		CHECK_EQ(plan.head[4], rows[i].elf_class);
		CHECK_EQ(machine, rows[i].machine);
		CHECK_EQ(flags, 0);
		check_segments(&plan, &h.s);
	}
}

// A kernel of AArch64 may have pages of 64 KiB: data begins on one, and p_align says so.
static void large_pages(void)
{
	static struct hand h;
	Elf64_Phdr phdr;

	hand_init(&h, &arch_aarch64);
	h.s.page_size = 65536;
	const struct plan plan = build(&h.s);

	CHECK_EQ(plan.segments[0].offset, 65536);
	memcpy(&phdr, plan.head + 64 + 56, sizeof(phdr));
	CHECK_EQ(phdr.p_offset, 65536);
	CHECK_EQ(phdr.p_align, 65536);
}

static struct mapping *many_mappings(size_t n)
{
	struct mapping *many = calloc(n, sizeof(*many));

	CHECK(many);
	for (size_t i = 0; i < n; i++)
		many[i] = hand_mapping(0x10000 + i * 8192, 1, MAPPING_READ, i % 2 * 4096);
	return many;
}

// Mappings with tags, one of which is left out and one only begun.
static void with_tags(struct hand *h, const struct arch *arch)
{
	hand_init(h, arch);
	h->maps[0].flags |= MAPPING_TAGGED;
	h->maps[1].flags |= MAPPING_TAGGED;
	h->maps[2].flags |= MAPPING_TAGGED;
}

static void headers_of_tags(void)
{
	static const struct {
		uint64_t vaddr, memsz, filesz;
	} want[] = { { 0x10000, 0x2000, 128 }, { 0x20000, 0x3000, 384 }, { 0x30000, 0x1000, 0 } };
	static struct hand h;
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr;

	with_tags(&h, &arch_aarch64);
	const struct plan plan = build(&h.s);
	uint64_t offset = plan.segments[3].offset + plan.segments[3].filesz;

	CHECK_EQ(plan.n_segments, 4);
	CHECK_EQ(plan.n_tags, 3);
	CHECK_EQ(plan.tags_at, offset);
	memcpy(&ehdr, plan.head, sizeof(ehdr));
	CHECK_EQ(ehdr.e_phnum, 8);
	for (size_t i = 0; i < 3; i++) {
		memcpy(&phdr, plan.head + 64 + 56 * (5 + i), sizeof(phdr));
		CHECK_EQ(phdr.p_type, 0x70000002);
		CHECK_EQ(phdr.p_vaddr, want[i].vaddr);
		CHECK_EQ(phdr.p_memsz, want[i].memsz);
		CHECK_EQ(phdr.p_filesz, want[i].filesz);
		CHECK_EQ(phdr.p_offset, offset);
		CHECK_EQ(plan.tags[i].offset, offset);
		CHECK_EQ(phdr.p_paddr | phdr.p_flags | phdr.p_align, 0);
		offset += phdr.p_filesz;
	}
	CHECK_EQ(plan.data_end, offset);
	CHECK_EQ(plan.size, offset);
	memcpy(&phdr, plan.head + 64, sizeof(phdr));
	CHECK_EQ(phdr.p_offset, 64 + 8 * 56);
}

// Where "mt" is no word of the kernel's.
static void no_tags_elsewhere(void)
{
	static const struct arch *const others[] = { &arch_x86_64, &arch_i386, &arch_arm };
	static struct hand h;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		with_tags(&h, others[i]);
		const struct plan plan = build(&h.s);

		CHECK_EQ(plan.n_tags, 0);
		CHECK_EQ(plan.tags_at, plan.data_end);
		check_segments(&plan, &h.s);
	}
}

// Headers of tags count, and the section header stands behind the tags.
static void more_tags_than_a_header_counts(void)
{
	static struct hand h;
	uint16_t e_phnum;
	uint64_t e_shoff;
	uint32_t sh_info;

	hand_init(&h, &arch_aarch64);
	h.s.maps.list = many_mappings(40000);
	h.s.maps.n = 40000;
	for (size_t i = 0; i < 40000; i++)
		h.s.maps.list[i].flags |= MAPPING_TAGGED;
	const struct plan plan = build(&h.s);

	memcpy(&e_phnum, plan.head + 56, sizeof(e_phnum));
	memcpy(&e_shoff, plan.head + 40, sizeof(e_shoff));
	memcpy(&sh_info, plan.tail + 44, sizeof(sh_info));
	CHECK_EQ(e_phnum, 0xffff);
	CHECK_EQ(sh_info, 80001);
	CHECK_EQ(plan.data_end, plan.tags_at + 20000 * 128);
	CHECK_EQ(e_shoff, plan.data_end);
	CHECK_EQ(plan.size, plan.data_end + 64);
	arena_deinit(&h.arena);
	free(h.s.maps.list);
}

// Headers that just fill a page, and that need one byte more.
static void data_begins_on_a_page(void)
{
	static struct hand h;
	static uint8_t auxv[8192];

	hand_init(&h, &arch_x86_64);
	h.s.auxv = auxv;
	h.s.auxv_size = 0;
	const size_t rest = (8192 - build(&h.s).head_size) & 4095;

	h.s.auxv_size = rest;
	const struct plan full = build(&h.s);

	CHECK_EQ(full.head_size % 4096, 0);
	CHECK_EQ(full.segments[0].offset, full.head_size);
	h.s.auxv_size = rest + 4;
	const struct plan more = build(&h.s);

	CHECK_EQ(more.head_size, full.head_size + 4);
	CHECK_EQ(more.segments[0].offset, full.head_size + 4096);
}

static void check_count(const struct arch *arch, size_t n_phdrs)
{
	static struct hand h;
	const bool wide = arch->elf_class == ELFCLASS64;
	const bool extended = n_phdrs >= 0xffff;

	hand_init(&h, arch);
	h.s.maps.list = many_mappings(n_phdrs - 1);
	h.s.maps.n = n_phdrs - 1;
	const struct plan plan = build(&h.s);
	uint16_t e_phnum, e_shentsize, e_shnum, e_shstrndx;
	uint64_t e_shoff = 0;

	// The last members of the header: e_phnum, e_shentsize, e_shnum, e_shstrndx.
	memcpy(&e_phnum, plan.head + (wide ? 56 : 44), 2);
	memcpy(&e_shentsize, plan.head + (wide ? 58 : 46), 2);
	memcpy(&e_shnum, plan.head + (wide ? 60 : 48), 2);
	memcpy(&e_shstrndx, plan.head + (wide ? 62 : 50), 2);
	memcpy(&e_shoff, plan.head + (wide ? 40 : 32), wide ? 8 : 4);
	CHECK_EQ(e_phnum, extended ? 0xffff : n_phdrs);
	CHECK_EQ(e_shnum, extended);
	CHECK_EQ(e_shentsize, !extended ? 0 : wide ? 64 : 40);
	CHECK_EQ(e_shstrndx, 0);
	CHECK_EQ(e_shoff, extended ? plan.data_end : 0);
	CHECK_EQ(plan.tail_size, e_shentsize);
	if (extended) {
		uint8_t want[64] = { 0 };

		want[wide ? 32 : 20] = 1; // sh_size: e_shnum
		memcpy(want + (wide ? 44 : 28), &(uint32_t){ (uint32_t)n_phdrs }, 4); // sh_info
		CHECK(memcmp(plan.tail, want, plan.tail_size) == 0);
	}
	check_segments(&plan, &h.s);
	// The last program header.
	uint64_t vaddr = 0;

	memcpy(&vaddr, plan.head + n_phdrs * (wide ? 56 : 32) + (wide ? 64 - 56 + 16 : 52 - 32 + 8),
	       wide ? 8 : 4);
	CHECK_EQ(vaddr, 0x10000 + (n_phdrs - 2) * 8192);
	arena_deinit(&h.arena);
	free(h.s.maps.list);
}

static void more_segments_than_a_header_counts(void)
{
	for (size_t n = 65534; n <= 65536; n++) {
		check_count(&arch_x86_64, n);
		check_count(&arch_i386, n);
	}
	check_count(&arch_x86_64, 70001);
}

static void elf32_too_large(void)
{
	static struct hand h;

	hand_init(&h, &arch_i386);
	h.s.maps.n = 1;
	h.maps[0].end = h.maps[0].start + 0xf0000000;
	const uint64_t data = build(&h.s).segments[0].offset;

	h.maps[0].dump_size = 0xfffff000 - data;
	CHECK_EQ(build(&h.s).data_end, 0xfffff000);
	h.maps[0].dump_size += 4095;
	CHECK_EQ(build(&h.s).data_end, 0xffffffff);
	h.maps[0].dump_size++;
	CHECK_EQ(refused(&h.s), -EFBIG);
	// Not of one segment alone.
	h.s.maps.n = 2;
	h.maps[0].dump_size = h.maps[1].dump_size = 0x80000000;
	CHECK_EQ(refused(&h.s), -EFBIG);
	// As many as that are fine for the other class.
	hand_init(&h, &arch_x86_64);
	h.maps[1].dump_size = 0x200000000;
	h.maps[1].end = h.maps[1].start + 0x200000000;
	const struct plan plan = build(&h.s);

	check_segments(&plan, &h.s);
}

static void elf64_too_large(void)
{
	static struct hand h;

	hand_init(&h, &arch_x86_64);
	h.maps[0].dump_size = (uint64_t)INT64_MAX - 65536;
	CHECK(build(&h.s).data_end <= INT64_MAX);
	h.maps[0].dump_size = INT64_MAX;
	CHECK_EQ(refused(&h.s), -EFBIG);
	h.maps[0].dump_size = h.maps[1].dump_size = UINT64_MAX - 4096;
	CHECK_EQ(refused(&h.s), -EFBIG);
}

static void nothing_mapped(void)
{
	static struct hand h;

	hand_init(&h, &arch_x86_64);
	h.s.maps.n = 0;
	const struct plan plan = build(&h.s);

	CHECK_EQ(plan.n_segments, 0);
	CHECK_EQ(plan.size, (plan.head_size + 4095) & ~(size_t)4095);
}

static const struct check_case cases[] = {
	CASE(elf64_headers),
	CASE(elf32_headers),
	CASE(machines),
	CASE(large_pages),
	CASE(headers_of_tags),
	CASE(no_tags_elsewhere),
	CASE(more_tags_than_a_header_counts),
	CASE(data_begins_on_a_page),
	CASE(more_segments_than_a_header_counts),
	CASE(elf32_too_large),
	CASE(elf64_too_large),
	CASE(nothing_mapped),
};

CHECK_MAIN(cases)
