/* SPDX-License-Identifier: BSD-3-Clause */
#include "plan.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "plan_limit.h"
#include "plan_places.h"

static void put_ehdr(uint8_t *at, const struct arch *arch, size_t n_phdrs, uint64_t shoff)
{
	const struct sizes sizes = header_sizes(arch);
	Elf64_Ehdr wide = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, arch->elf_class, ELFDATA2LSB,
			     EV_CURRENT, ELFOSABI_NONE },
		.e_type = ET_CORE,
		.e_machine = arch->machine,
		.e_version = EV_CURRENT,
		.e_phoff = sizes.ehdr,
		.e_shoff = shoff,
		.e_ehsize = (uint16_t)sizes.ehdr,
		.e_phentsize = (uint16_t)sizes.phdr,
		.e_phnum = n_phdrs >= PN_XNUM ? PN_XNUM : (uint16_t)n_phdrs,
		.e_shentsize = shoff ? (uint16_t)sizes.shdr : 0,
		.e_shnum = shoff ? 1 : 0,
	};

	if (arch->elf_class == ELFCLASS64) {
		memcpy(at, &wide, sizeof(wide));
		return;
	}
	Elf32_Ehdr narrow = {
		.e_type = wide.e_type,
		.e_machine = wide.e_machine,
		.e_version = wide.e_version,
		.e_phoff = (uint32_t)wide.e_phoff,
		.e_shoff = (uint32_t)wide.e_shoff,
		.e_ehsize = wide.e_ehsize,
		.e_phentsize = wide.e_phentsize,
		.e_phnum = wide.e_phnum,
		.e_shentsize = wide.e_shentsize,
		.e_shnum = wide.e_shnum,
	};
	memcpy(narrow.e_ident, wide.e_ident, EI_NIDENT);
	memcpy(at, &narrow, sizeof(narrow));
}

static void put_phdr(uint8_t *at, const struct arch *arch, const Elf64_Phdr *phdr)
{
	if (arch->elf_class == ELFCLASS64) {
		memcpy(at, phdr, sizeof(*phdr));
		return;
	}
	const Elf32_Phdr narrow = {
		.p_type = phdr->p_type,
		.p_offset = (uint32_t)phdr->p_offset,
		.p_vaddr = (uint32_t)phdr->p_vaddr,
		.p_filesz = (uint32_t)phdr->p_filesz,
		.p_memsz = (uint32_t)phdr->p_memsz,
		.p_flags = phdr->p_flags,
		.p_align = (uint32_t)phdr->p_align,
	};
	memcpy(at, &narrow, sizeof(narrow));
}

static uint32_t segment_flags(const struct mapping *m)
{
	return (m->flags & MAPPING_READ ? PF_R : 0u) | (m->flags & MAPPING_WRITE ? PF_W : 0u) |
	       (m->flags & MAPPING_EXEC ? PF_X : 0u);
}

// fill_extnum_info()
static void put_tail(struct plan *plan, const struct arch *arch, size_t n_phdrs)
{
	const Elf64_Shdr wide = { .sh_size = 1, .sh_info = (uint32_t)n_phdrs };
	const Elf32_Shdr narrow = { .sh_size = 1, .sh_info = (uint32_t)n_phdrs };

	plan->tail_size = header_sizes(arch).shdr;
	if (arch->elf_class == ELFCLASS64)
		memcpy(plan->tail, &wide, sizeof(wide));
	else
		memcpy(plan->tail, &narrow, sizeof(narrow));
}

static size_t count_tags(const struct snapshot *s)
{
	size_t n = 0;

	for (size_t i = 0; s->arch->tags.segment && i < s->maps.n; i++)
		n += snapshot_has_tags(s, &s->maps.list[i]);
	return n;
}

static void keep_all(struct plan *plan, const struct snapshot *s)
{
	plan->n_segments = s->maps.n;
	for (size_t i = 0; i < s->maps.n; i++) {
		const struct mapping *m = &s->maps.list[i];

		plan->segments[i] = (struct segment){ .vaddr = m->start,
						      .memsz = m->end - m->start,
						      .wanted = m->dump_size,
						      .kept = m->dump_size };
	}
}

// Places a segment at *offset, and moves that behind it; false when the file would be larger than
// can be said.
static bool place(struct segment *segment, uint64_t filesz, uint64_t *offset)
{
	segment->filesz = filesz;
	segment->offset = *offset;
	return !__builtin_add_overflow(*offset, filesz, offset) && *offset <= INT64_MAX;
}

static bool place_loads(struct plan *plan, uint64_t *offset)
{
	for (size_t i = 0; i < plan->n_segments; i++)
		if (!place(&plan->segments[i], plan->segments[i].kept, offset))
			return false;
	return true;
}

// Places all segments from offset on; false when the file would be larger than its class can say.
static bool place_all(struct plan *plan, const struct snapshot *s, const struct places *places,
		      uint64_t offset)
{
	if (!(places ? plan_in_places(plan, places, &offset) : place_loads(plan, &offset)))
		return false;
	plan->tags_at = offset;
	for (size_t i = 0, n = 0; n < plan->n_tags; i++) {
		if (!snapshot_has_tags(s, &s->maps.list[i]))
			continue;
		plan->tags[n] = plan->segments[i];
		// Of what is kept (mte_vma_tag_dump_size); a header without any as well.
		if (!place(&plan->tags[n], arch_tags_size(s->arch, plan->tags[n].kept), &offset))
			return false;
		n++;
	}
	plan->data_end = offset;
	plan->size = offset + plan->tail_size;
	return s->arch->elf_class == ELFCLASS64 || offset <= UINT32_MAX;
}

static void put_loads(uint8_t *at, const struct plan *plan, const struct snapshot *s)
{
	const size_t size = header_sizes(s->arch).phdr;

	for (size_t i = 0; i < plan->n_segments; i++) {
		const struct segment *segment = &plan->segments[i];
		const Elf64_Phdr load = { .p_type = PT_LOAD,
					  .p_offset = segment->offset,
					  .p_vaddr = segment->vaddr,
					  .p_filesz = segment->filesz,
					  .p_memsz = segment->memsz,
					  .p_flags = segment_flags(&s->maps.list[i]),
					  .p_align = s->page_size };

		put_phdr(at + i * size, s->arch, &load);
	}
}

// elf_core_write_extra_phdrs()
static void put_tags(uint8_t *at, const struct plan *plan, const struct snapshot *s)
{
	const size_t size = header_sizes(s->arch).phdr;

	for (size_t i = 0; i < plan->n_tags; i++) {
		const struct segment *segment = &plan->tags[i];
		const Elf64_Phdr tags = { .p_type = s->arch->tags.segment,
					  .p_offset = segment->offset,
					  .p_vaddr = segment->vaddr,
					  .p_filesz = segment->filesz,
					  .p_memsz = segment->memsz };

		put_phdr(at + i * size, s->arch, &tags);
	}
}

static int build_head(struct plan *plan, const struct snapshot *s, const struct notes *notes,
		      uint64_t shoff)
{
	const struct sizes sizes = header_sizes(s->arch);
	const size_t n_phdrs = 1 + plan->n_segments + plan->n_tags;
	const size_t notes_at = sizes.ehdr + n_phdrs * sizes.phdr;
	uint8_t *head = arena_alloc(s->arena, notes_at + notes->size);
	const Elf64_Phdr note = {
		.p_type = PT_NOTE, .p_offset = notes_at, .p_filesz = notes->size, .p_align = 4
	};

	if (!head)
		return -ENOMEM;
	put_ehdr(head, s->arch, n_phdrs, shoff);
	put_phdr(head + sizes.ehdr, s->arch, &note);
	put_loads(head + sizes.ehdr + sizes.phdr, plan, s);
	put_tags(head + sizes.ehdr + (1 + plan->n_segments) * sizes.phdr, plan, s);
	memcpy(head + notes_at, notes->bytes, notes->size);
	plan->head = head;
	plan->head_size = notes_at + notes->size;
	return 0;
}

// Places all; what the caller's limit lets be kept, if there is one.
static bool place_kept(struct plan *plan, const struct snapshot *s, uint64_t offset,
		       const struct plan_wishes *wishes)
{
	const uint64_t max_size = wishes->max_size;

	keep_all(plan, s);
	// Without a limit on what is kept there may be no file that holds it.
	bool fits = place_all(plan, s, wishes->places, offset);

	plan->whole = fits ? plan->size : UINT64_MAX;
	if (max_size && plan->whole > max_size) {
		const uint64_t taken = offset + plan->tail_size;

		plan_shorten(plan, s, max_size > taken ? max_size - taken : 0);
		fits = place_all(plan, s, NULL, offset);
	}
	return fits;
}

int plan_build(struct plan *plan, const struct snapshot *s, const struct plan_wishes *wishes,
	       struct coresnap_error *err)
{
	const struct sizes sizes = header_sizes(s->arch);
	const size_t n_tags = count_tags(s);
	const size_t n_phdrs = 1 + s->maps.n + n_tags;
	struct notes notes;

	*plan = (struct plan){ .arch = s->arch,
			       .page_size = (size_t)s->page_size,
			       .n_tags = n_tags };
	plan->segments = arena_alloc(s->arena, s->maps.n * sizeof(*plan->segments));
	plan->tags = n_tags ? arena_alloc(s->arena, n_tags * sizeof(*plan->tags)) : NULL;
	if (!plan->segments || (n_tags && !plan->tags) ||
	    notes_build(&notes, s, wishes->notes, wishes->n_notes) < 0)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory for the headers");
	const uint64_t head_size = sizes.ehdr + (uint64_t)n_phdrs * sizes.phdr + notes.size;
	// ELF_EXEC_PAGESIZE, as p_align is: the size of a page wherever that is not 4096.
	const uint64_t data = (head_size + s->page_size - 1) & ~(s->page_size - 1);

	if (n_phdrs >= PN_XNUM)
		put_tail(plan, s->arch, n_phdrs);
	if (wishes->places && data > wishes->places->data)
		return error_set(err, CORESNAP_E_FAILED, EFBIG,
				 "the process has got more threads or mappings while it was dumped "
				 "than room was left for; try again");
	if (!place_kept(plan, s, data, wishes))
		return error_set(err, CORESNAP_E_FAILED, EFBIG,
				 "the core would be larger than its format can express");
	if (build_head(plan, s, &notes, plan->tail_size ? plan->data_end : 0) < 0)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory for the headers");
	return 0;
}
