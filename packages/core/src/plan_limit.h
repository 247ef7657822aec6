/* SPDX-License-Identifier: BSD-3-Clause */
// A core that must not exceed a size: which segments give way, and where the kernel would stop. Pure.
#ifndef CORESNAP_PLAN_LIMIT_H
#define CORESNAP_PLAN_LIMIT_H

#include <elf.h>

#include "plan.h"

struct sizes {
	size_t ehdr, phdr, shdr;
};

static inline struct sizes header_sizes(const struct arch *arch)
{
	return arch->elf_class == ELFCLASS64 ?
		       (struct sizes){ sizeof(Elf64_Ehdr), sizeof(Elf64_Phdr),
				       sizeof(Elf64_Shdr) } :
		       (struct sizes){ sizeof(Elf32_Ehdr), sizeof(Elf32_Phdr), sizeof(Elf32_Shdr) };
}

// CORESNAP_KEEP_SMALL: lets segments keep less until all of them, with their tags, take at most
// @room bytes.
void plan_shorten(struct plan *plan, const struct snapshot *snapshot, uint64_t room);

// Bytes of the head that the kernel would have written before it would exceed @limit, counting as
// dump_emit() in fs/coredump.c does: padding is free. *counted gets what it has counted then.
size_t plan_limit_head(const struct plan *plan, uint64_t limit, uint64_t *counted);

#endif
