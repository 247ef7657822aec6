// SPDX-License-Identifier: BSD-3-Clause
// The head of a core, as it is read from the kernel's pipe.
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "livedump_parts.h"

struct core {
	Elf64_Ehdr file;
	Elf64_Phdr segments[3];
	struct {
		Elf64_Nhdr head;
		char name[8];
		uint8_t desc[8];
	} notes[2];
};

static struct core make_core(void)
{
	struct core core = { .file = { .e_type = ET_CORE,
				       .e_phoff = sizeof(Elf64_Ehdr),
				       .e_phentsize = sizeof(Elf64_Phdr),
				       .e_phnum = 3 } };

	memcpy(core.file.e_ident, ELFMAG, SELFMAG);
	core.file.e_ident[EI_CLASS] = ELFCLASS64;
	core.segments[0] = (Elf64_Phdr){ .p_type = PT_NOTE,
					 .p_offset = offsetof(struct core, notes),
					 .p_filesz = sizeof(core.notes) };
	core.segments[1] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_offset = 4096, .p_filesz = 8192 };
	core.segments[2] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_offset = 12288, .p_filesz = 0 };
	for (size_t i = 0; i < 2; i++) {
		core.notes[i].head = (Elf64_Nhdr){ .n_namesz = 5,
						   .n_descsz = sizeof(core.notes[i].desc),
						   .n_type = NT_PRSTATUS };
		memcpy(core.notes[i].name, "CORE", 5);
	}
	return core;
}

static void whole(void)
{
	const struct core core = make_core();
	struct livedump_head head = { 0 };

	CHECK_EQ(livedump_head_read(&head, (const uint8_t *)&core, sizeof(core)), 1);
	CHECK_EQ(head.threads, 2);
	CHECK_EQ(head.segments, 2);
	CHECK_EQ(head.size, 12288);
}

// However little there is, it says how much it needs, and never reads behind what there is.
static void pieces(void)
{
	const struct core core = make_core();

	for (size_t size = 0; size < sizeof(core); size++) {
		struct livedump_head head = { 0 };
		uint8_t *const bytes = malloc(size ? size : 1);

		memcpy(bytes, &core, size);
		CHECK_EQ(livedump_head_read(&head, bytes, size), 0);
		CHECK(head.need > size && head.need <= sizeof(core));
		free(bytes);
	}
}

// More segments than e_phnum holds: their number follows from where the notes begin.
static void many(void)
{
	struct core core = make_core();
	struct livedump_head head = { 0 };

	core.file.e_phnum = PN_XNUM;
	core.file.e_shnum = 1;
	CHECK_EQ(livedump_head_read(&head, (const uint8_t *)&core, sizeof(core)), 1);
	CHECK_EQ(head.segments, 2);
	CHECK_EQ(head.size, 12288 + sizeof(Elf64_Shdr));
}

static void no_core(void)
{
	struct core core = make_core();
	struct livedump_head head = { 0 };

	core.segments[0].p_type = PT_LOAD;
	CHECK_EQ(livedump_head_read(&head, (const uint8_t *)&core, sizeof(core)), -EINVAL);
	core = make_core();
	core.segments[0].p_filesz = UINT64_MAX - 4096;
	CHECK_EQ(livedump_head_read(&head, (const uint8_t *)&core, sizeof(core)), -EINVAL);
	core = make_core();
	core.segments[1].p_filesz = UINT64_MAX - 4095; // ends at 0
	CHECK_EQ(livedump_head_read(&head, (const uint8_t *)&core, sizeof(core)), -EINVAL);
	core = make_core();
	core.segments[2].p_offset = 1ull << 63;
	CHECK_EQ(livedump_head_read(&head, (const uint8_t *)&core, sizeof(core)), -EINVAL);
	core = make_core();
	core.file.e_type = ET_EXEC;
	CHECK_EQ(livedump_head_read(&head, (const uint8_t *)&core, sizeof(core)), -EINVAL);
	core = make_core();
	core.notes[0].head.n_descsz = UINT32_MAX;
	CHECK_EQ(livedump_head_read(&head, (const uint8_t *)&core, sizeof(core)), 1);
	CHECK_EQ(head.threads, 0);
}

static const struct check_case cases[] = {
	CASE(whole),
	CASE(pieces),
	CASE(many),
	CASE(no_core),
};

CHECK_MAIN(cases)
