/* SPDX-License-Identifier: BSD-3-Clause */
#include "arch.h"

#include <elf.h>
#include <string.h>

static const struct arch *const rows[] = {
	&arch_x86_64,
	&arch_i386,
	&arch_arm,
	&arch_aarch64,
};

const struct arch *arch_find(size_t gregs_size, uint8_t elf_class)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i]->gregs_size == gregs_size &&
		    (rows[i]->elf_class == elf_class || elf_class == ELFCLASSNONE))
			return rows[i];
	return NULL;
}

const struct arch *arch_of_elf(uint8_t elf_class, uint16_t machine)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i]->machine == machine && rows[i]->elf_class == elf_class)
			return rows[i];
	return NULL;
}

uint64_t arch_tags_size(const struct arch *arch, uint64_t memory)
{
	return arch->tags.segment ? memory / 2 / arch->tags.covers : 0;
}

uint64_t arch_get(const struct arch *arch, const void *gregs, uint16_t offset)
{
	uint64_t wide;
	uint32_t narrow;

	if (arch->word == 8) {
		memcpy(&wide, (const char *)gregs + offset, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, (const char *)gregs + offset, sizeof(narrow));
	return narrow;
}

void arch_set(const struct arch *arch, void *gregs, uint16_t offset, uint64_t value)
{
	const uint32_t narrow = (uint32_t)value;

	if (arch->word == 8)
		memcpy((char *)gregs + offset, &value, sizeof(value));
	else
		memcpy((char *)gregs + offset, &narrow, sizeof(narrow));
}

int64_t arch_get_signed(const struct arch *arch, const void *gregs, uint16_t offset)
{
	const uint64_t value = arch_get(arch, gregs, offset);

	return arch->word == 8 ? (int64_t)value : (int64_t)(int32_t)(uint32_t)value;
}
