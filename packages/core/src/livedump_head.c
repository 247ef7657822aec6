// SPDX-License-Identifier: BSD-3-Clause
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "livedump_parts.h"

// A program header, of either width.
struct segment_header {
	uint32_t type;
	uint64_t offset, filesz;
};

static uint64_t number_at(const uint8_t *at, size_t width)
{
	uint64_t wide;
	uint32_t word;
	uint16_t half;

	switch (width) {
	case 8:
		memcpy(&wide, at, sizeof(wide));
		return wide;
	case 4:
		memcpy(&word, at, sizeof(word));
		return word;
	default:
		memcpy(&half, at, sizeof(half));
		return half;
	}
}

// A member of the file's structs, by their name without width.
#define MEMBER(is64, type, member, base)                                                      \
	((is64) ? number_at((base) + offsetof(Elf64_##type, member),                          \
			    sizeof(((Elf64_##type *)NULL)->member)) :                         \
		  number_at((base) + offsetof(Elf32_##type, member),                          \
			    sizeof(((Elf32_##type *)NULL)->member)))

static struct segment_header header_at(bool is64, const uint8_t *at)
{
	return (struct segment_header){ .type = (uint32_t)MEMBER(is64, Phdr, p_type, at),
					.offset = MEMBER(is64, Phdr, p_offset, at),
					.filesz = MEMBER(is64, Phdr, p_filesz, at) };
}

// A PRSTATUS is a thread's.
static unsigned int count_threads(const uint8_t *notes, size_t size)
{
	unsigned int threads = 0;
	size_t at = 0;

	while (size - at >= sizeof(Elf32_Nhdr)) {
		Elf32_Nhdr note;

		memcpy(&note, notes + at, sizeof(note));
		at += sizeof(note);
		const uint64_t rest = ((uint64_t)note.n_namesz + 3) / 4 * 4 +
				      ((uint64_t)note.n_descsz + 3) / 4 * 4;

		if (rest > size - at)
			break;
		threads += note.n_type == NT_PRSTATUS && note.n_namesz == sizeof("CORE") &&
			   memcmp(notes + at, "CORE", sizeof("CORE")) == 0;
		at += (size_t)rest;
	}
	return threads;
}

static int need(struct livedump_head *head, uint64_t bytes, size_t have)
{
	if (bytes > (1u << 30))
		return -EINVAL; // of a kernel: it keeps the notes in memory, too
	head->need = (size_t)bytes;
	return bytes <= have;
}

// With more segments than a half-word holds, their number stands in the one section header, which
// is the last thing in the file.
static uint64_t count_segments(bool is64, const uint8_t *bytes)
{
	const size_t header = is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	const uint64_t told = MEMBER(is64, Ehdr, e_phnum, bytes);

	// The notes begin behind the last program header (elf_core_dump() in fs/binfmt_elf.c).
	if (told != PN_XNUM)
		return told;
	const uint64_t first = MEMBER(is64, Ehdr, e_phoff, bytes);
	const uint64_t notes = header_at(is64, bytes + first).offset;

	return notes > first ? (notes - first) / header : 0;
}

// False if a segment ends where no file does.
static bool measure(struct livedump_head *head, bool is64, const uint8_t *bytes, uint64_t count)
{
	const size_t header = is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	const uint64_t first = MEMBER(is64, Ehdr, e_phoff, bytes);

	head->size = head->need;
	head->segments = 0;
	for (uint64_t i = 0; i < count; i++) {
		const struct segment_header segment = header_at(is64, bytes + first + i * header);
		uint64_t end;

		if (__builtin_add_overflow(segment.offset, segment.filesz, &end) || end > INT64_MAX)
			return false;
		head->segments += segment.type == PT_LOAD;
		if (end > head->size)
			head->size = end;
	}
	if (MEMBER(is64, Ehdr, e_shnum, bytes))
		head->size += is64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
	return true;
}

int livedump_head_read(struct livedump_head *head, const uint8_t *bytes, size_t size)
{
	int ret = need(head, sizeof(Elf64_Ehdr), size);

	if (ret <= 0)
		return ret;
	if (memcmp(bytes, ELFMAG, SELFMAG) != 0)
		return -EINVAL;
	const bool is64 = bytes[EI_CLASS] == ELFCLASS64;
	const size_t header = is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	const uint64_t first = MEMBER(is64, Ehdr, e_phoff, bytes);

	if (MEMBER(is64, Ehdr, e_type, bytes) != ET_CORE || first > UINT16_MAX ||
	    MEMBER(is64, Ehdr, e_phentsize, bytes) != header)
		return -EINVAL;
	ret = need(head, first + header, size);
	if (ret <= 0)
		return ret;
	const struct segment_header notes = header_at(is64, bytes + first);
	const uint64_t count = count_segments(is64, bytes);

	if (notes.type != PT_NOTE || !count || count > UINT32_MAX ||
	    notes.offset < first + count * header || notes.offset > UINT32_MAX ||
	    notes.filesz > UINT32_MAX)
		return -EINVAL;
	ret = need(head, notes.offset + notes.filesz, size);
	if (ret <= 0)
		return ret;
	head->threads = count_threads(bytes + notes.offset, (size_t)notes.filesz);
	return measure(head, is64, bytes, count) ? 1 : -EINVAL;
}
