/* SPDX-License-Identifier: BSD-3-Clause */
// A snapshot that no process had: two threads, four mappings, every number another.
#ifndef CORESNAP_TESTS_HAND_SNAPSHOT_H
#define CORESNAP_TESTS_HAND_SNAPSHOT_H

#include "check.h"
#include "snapshot.h"

struct hand {
	struct arena arena;
	struct snapshot s;
	struct snap_thread threads[2];
	struct mapping maps[4];
	uint8_t gregs[2][272];
	uint8_t fp[5];
	uint8_t xstate[576];
	uint8_t auxv[32];
	uint8_t layout[16];
};

static inline const struct arch_regset *hand_row(const struct arch *arch, uint32_t type)
{
	for (size_t i = 0; i < arch->n_regsets; i++)
		if (arch->regsets[i].type == type)
			return &arch->regsets[i];
	CHECK_EQ(type, 0); // the architecture has no such regset
	return NULL;
}

static inline void hand_add(struct snap_thread *t, const struct arch *arch, uint32_t type,
			    const uint8_t *bytes, size_t size)
{
	t->regsets[t->n_regsets++] = (struct snap_regset){ .row = hand_row(arch, type),
							   .bytes = bytes,
							   .size = (uint32_t)size };
}

static inline struct mapping hand_mapping(uint64_t start, uint64_t pages, uint32_t flags,
					  uint64_t kept)
{
	return (struct mapping){ .start = start, .end = start + pages * 4096, .flags = flags,
				 .dump_size = kept, .skip_reason = -1 };
}

static inline void hand_file(struct mapping *m, uint64_t inode, uint64_t offset, const char *name)
{
	m->inode = inode;
	m->offset = offset;
	m->name = name;
	m->name_len = (uint32_t)strlen(name);
}

// A register note whose length varies, or the last one: NT_X86_XSTATE, NT_ARM_VFP, NT_ARM_SVE.
static inline uint32_t hand_extra(const struct arch *arch)
{
	return arch == &arch_arm ? 0x400 : arch == &arch_aarch64 ? 0x405 : 0x202;
}

static inline void hand_threads(struct hand *h, const struct arch *arch)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct snap_thread *t = &h->threads[i];

		for (size_t b = 0; b < sizeof(h->gregs[i]); b++)
			h->gregs[i][b] = (uint8_t)(b + i + 1);
		t->tid = 0x01020304 + (int)i;
		t->sigpend = 0x1112131415161718 + i;
		t->sighold = 0x2122232425262728 + i;
		t->utime_ns = 3000000000u + 456789012u + i * 1000;
		t->stime_ns = 5000000999u;
		hand_add(t, arch, 1, h->gregs[i], arch->gregs_size); // NT_PRSTATUS
	}
	memset(h->fp, 0xf0, sizeof(h->fp));
	memset(h->xstate, 0xe0, sizeof(h->xstate));
	hand_add(&h->threads[0], arch, 2, h->fp, sizeof(h->fp)); // NT_PRFPREG
	hand_add(&h->threads[0], arch, hand_extra(arch), h->xstate, sizeof(h->xstate));
	hand_add(&h->threads[1], arch, hand_extra(arch), h->xstate, 3);
}

static inline void hand_init(struct hand *h, const struct arch *arch)
{
	*h = (struct hand){ 0 };
	hand_threads(h, arch);
	memset(h->auxv, 0xa0, sizeof(h->auxv));
	memset(h->layout, 0xb0, sizeof(h->layout));
	h->maps[0] = hand_mapping(0x10000, 2, MAPPING_READ | MAPPING_EXEC, 4096);
	hand_file(&h->maps[0], 7, 0x3000, "/bin/x\n");
	h->maps[1] = hand_mapping(0x20000, 3, MAPPING_READ | MAPPING_WRITE, 3 * 4096);
	h->maps[2] = hand_mapping(0x30000, 1, 0, 0);
	hand_file(&h->maps[2], 8, 0x7ffff000, "");
	h->maps[3] = hand_mapping(0x40000, 2, MAPPING_WRITE | MAPPING_SHARED, 2 * 4096);
	h->s = (struct snapshot){
		.arena = &h->arena,
		.arch = arch,
		.page_size = 4096,
		.threads = h->threads,
		.n_threads = 2,
		.pid = 0x31323334,
		.ppid = 0x41424344,
		.pgrp = 0x51525354,
		.sid = 0x61626364,
		.uid = 1000,
		.gid = 0x12345,
		.flags = 0x71727374,
		.nice = -5,
		.fname = "fifteen bytes !",
		.psargs = "a b c ",
		.cutime_ns = 1999999999u,
		.cstime_ns = 999,
		.auxv = h->auxv,
		.auxv_size = sizeof(h->auxv),
		.process_note = h->layout,
		.process_note_size = arch->process_note ? sizeof(h->layout) : 0,
		.file_note_limit = 4 << 20,
		.maps = { .arena = &h->arena, .list = h->maps, .n = 4, .cap = 4 },
	};
}

#endif
