/* SPDX-License-Identifier: BSD-3-Clause */
// The head of a core that comes through a pipe from a process that may be anybody's: it is never
// read past what is there, however the pieces come the answer is the same, and it fits the headers.
#include <elf.h>

#include "fuzz.h"
#include "livedump_parts.h"

static int read_head(struct livedump_head *head, const uint8_t *data, size_t size)
{
	uint8_t *const copy = exact_copy(data, size);
	const int ret = livedump_head_read(head, copy, size);

	free(copy);
	MUST(ret == 1 || ret == 0 || ret == -EINVAL);
	if (ret == 0)
		MUST(head->need > size && head->need <= 1u << 30);
	if (ret == 1)
		MUST(head->need <= size);
	return ret;
}

// As one who reads a pipe does: as much as is needed, and no more.
static int read_by_need(struct livedump_head *head, const uint8_t *data, size_t size)
{
	size_t have = 0;

	for (unsigned int round = 0;; round++) {
		const int ret = read_head(head, data, have);

		MUST(round < 4);
		if (ret != 0 || head->need > size)
			return ret;
		have = head->need;
	}
}

static void check_size(const struct livedump_head *head, const uint8_t *data)
{
	Elf64_Ehdr wide;
	Elf32_Ehdr narrow;
	Elf64_Phdr phdr;
	Elf32_Phdr small;

	memcpy(&wide, data, sizeof(wide));
	memcpy(&narrow, data, sizeof(narrow));
	const bool is64 = wide.e_ident[EI_CLASS] == ELFCLASS64;
	const uint64_t first = is64 ? wide.e_phoff : narrow.e_phoff;
	const uint16_t told = is64 ? wide.e_phnum : narrow.e_phnum;
	unsigned int loads = 0;

	MUST(head->size >= head->need);
	MUST(head->threads <= head->need / sizeof(Elf64_Nhdr));
	for (uint64_t i = 0; told != PN_XNUM && i < told; i++) {
		const uint8_t *const at = data + first + i * (is64 ? sizeof(phdr) : sizeof(small));

		memcpy(&small, at, sizeof(small));
		phdr = (Elf64_Phdr){ .p_type = small.p_type,
				     .p_offset = small.p_offset,
				     .p_filesz = small.p_filesz };
		if (is64)
			memcpy(&phdr, at, sizeof(phdr));
		loads += phdr.p_type == PT_LOAD;
		// A sum that a number cannot hold is no size of a file.
		MUST(phdr.p_offset <= head->size && phdr.p_filesz <= head->size - phdr.p_offset);
	}
	MUST(told == PN_XNUM || head->segments == loads);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct livedump_head at_once = { 0 }, by_need = { 0 };
	const int ret = read_head(&at_once, data, size);

	MUST(read_by_need(&by_need, data, size) == ret);
	MUST(by_need.need == at_once.need);
	if (ret != 1)
		return 0;
	MUST(by_need.size == at_once.size && by_need.threads == at_once.threads);
	MUST(by_need.segments == at_once.segments);
	check_size(&at_once, data);
	return 0;
}
