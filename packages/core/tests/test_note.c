/* SPDX-License-Identifier: BSD-3-Clause */
// Offsets here are those of the kernel's structs, counted by hand.
#include "note.h"

#include "check.h"
#include "hand_snapshot.h"

struct cursor {
	const uint8_t *at, *end;
};

static struct cursor build(const struct snapshot *s)
{
	struct notes notes;

	CHECK_EQ(notes_build(&notes, s, NULL, 0), 0);
	return (struct cursor){ .at = notes.bytes, .end = notes.bytes + notes.size };
}

static uint32_t u32(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t word(const uint8_t *at, unsigned int size)
{
	return size == 4 ? u32(at) : u32(at) | (uint64_t)u32(at + 4) << 32;
}

// Checks the head and the padding of the next note, and returns its description.
static const uint8_t *next(struct cursor *c, const char *owner, uint32_t type, uint32_t size)
{
	const uint32_t name_size = (uint32_t)strlen(owner) + 1;
	const uint8_t *desc = c->at + 20;

	CHECK(c->end - c->at >= 20);
	CHECK_EQ(u32(c->at), name_size);
	CHECK_EQ(u32(c->at + 4), size);
	CHECK_EQ(u32(c->at + 8), type);
	// "CORE" with its NUL is 5 bytes, "LINUX" 6: both take 8.
	CHECK(memcmp(c->at + 12, strcmp(owner, "CORE") == 0 ? "CORE\0\0\0" : "LINUX\0\0", 8) == 0);
	CHECK((size_t)(c->end - desc) >= size);
	c->at = desc + size;
	for (; (c->at - desc) % 4; c->at++) {
		CHECK(c->at < c->end);
		CHECK_EQ(*c->at, 0);
	}
	return desc;
}

static void put(uint8_t *to, size_t at, uint64_t value, unsigned int size)
{
	for (unsigned int i = 0; i < size; i++)
		to[at + i] = (uint8_t)(value >> (8 * i));
}

// struct elf_prstatus of a 64-bit architecture whose registers have this many bytes.
static void expect_prstatus64(uint8_t *to, const struct hand *h, unsigned int i, size_t gregs)
{
	memset(to, 0, 112 + gregs + 8);
	put(to, 16, 0x1112131415161718 + i, 8); // pr_sigpend
	put(to, 24, 0x2122232425262728 + i, 8); // pr_sighold
	put(to, 32, 0x01020304 + i, 4);         // pr_pid
	put(to, 36, 0x41424344, 4);             // pr_ppid
	put(to, 40, 0x51525354, 4);             // pr_pgrp
	put(to, 44, 0x61626364, 4);             // pr_sid
	put(to, 48, 3, 8);                      // pr_utime
	put(to, 56, 456789 + i, 8);
	put(to, 64, 5, 8); // pr_stime
	put(to, 72, 0, 8);
	put(to, 80, 1, 8); // pr_cutime
	put(to, 88, 999999, 8);
	// pr_cstime is 999 ns: zero
	memcpy(to + 112, h->gregs[i], gregs); // pr_reg
	put(to, 112 + gregs, i == 0, 4);      // pr_fpvalid
}

static void expect_prpsinfo64(uint8_t *to)
{
	memset(to, 0, 136);
	to[1] = 'R';
	to[3] = 0xfb;               // nice -5
	put(to, 8, 0x71727374, 8);  // pr_flag
	put(to, 16, 1000, 4);       // pr_uid
	put(to, 20, 0x12345, 4);    // pr_gid
	put(to, 24, 0x31323334, 4); // pr_pid
	put(to, 28, 0x41424344, 4); // pr_ppid
	put(to, 32, 0x51525354, 4); // pr_pgrp
	put(to, 36, 0x61626364, 4); // pr_sid
	memcpy(to + 40, "fifteen bytes !", 15);
	memcpy(to + 56, "a b c ", 6);
}

// struct compat_elf_prstatus.
static void expect_prstatus32(uint8_t *to, const struct hand *h, unsigned int i, size_t gregs)
{
	memset(to, 0, 72 + gregs + 4);
	put(to, 16, 0x15161718 + i, 4); // pr_sigpend
	put(to, 20, 0x25262728 + i, 4); // pr_sighold
	put(to, 24, 0x01020304 + i, 4); // pr_pid
	put(to, 28, 0x41424344, 4);     // pr_ppid
	put(to, 32, 0x51525354, 4);     // pr_pgrp
	put(to, 36, 0x61626364, 4);     // pr_sid
	put(to, 40, 3, 4);              // pr_utime
	put(to, 44, 456789 + i, 4);
	put(to, 48, 5, 4); // pr_stime
	put(to, 56, 1, 4); // pr_cutime
	put(to, 60, 999999, 4);
	memcpy(to + 72, h->gregs[i], gregs); // pr_reg
	put(to, 72 + gregs, i == 0, 4);      // pr_fpvalid
}

static void expect_prpsinfo32(uint8_t *to)
{
	memset(to, 0, 124);
	to[1] = 'R';
	to[3] = 0xfb;
	put(to, 4, 0x71727374, 4);  // pr_flag
	put(to, 8, 1000, 2);        // pr_uid
	put(to, 10, 65534, 2);      // pr_gid: 0x12345 does not fit
	put(to, 12, 0x31323334, 4); // pr_pid
	put(to, 16, 0x41424344, 4); // pr_ppid
	put(to, 20, 0x51525354, 4); // pr_pgrp
	put(to, 24, 0x61626364, 4); // pr_sid
	memcpy(to + 28, "fifteen bytes !", 15);
	memcpy(to + 44, "a b c ", 6);
}

static void check_file_note(const uint8_t *at, unsigned int w)
{
	CHECK_EQ(word(at, w), 2);
	CHECK_EQ(word(at + w, w), 4096);
	CHECK_EQ(word(at + 2 * w, w), 0x10000);
	CHECK_EQ(word(at + 3 * w, w), 0x12000);
	CHECK_EQ(word(at + 4 * w, w), 3);
	CHECK_EQ(word(at + 5 * w, w), 0x30000);
	CHECK_EQ(word(at + 6 * w, w), 0x31000);
	CHECK_EQ(word(at + 7 * w, w), 0x7ffff);
	CHECK(memcmp(at + 8 * w, "/bin/x\n\0", 9) == 0);
}

// Everything that is behind the first two notes of the first thread.
static void check_rest(struct cursor *c, const struct hand *h, const uint8_t *second_prstatus)
{
	static const uint8_t no_siginfo[128];
	const struct arch *arch = h->s.arch;

	CHECK(memcmp(next(c, "CORE", 0x53494749, 128), no_siginfo, 128) == 0);
	CHECK(memcmp(next(c, "CORE", 6, 32), h->auxv, 32) == 0);
	check_file_note(next(c, "CORE", 0x46494c45, 8u * arch->word + 9), arch->word);
	CHECK(memcmp(next(c, "CORE", 2, 5), h->fp, 5) == 0);
	CHECK(memcmp(next(c, "LINUX", hand_extra(arch), 576), h->xstate, 576) == 0);
	CHECK(memcmp(next(c, "CORE", 1, arch->prstatus_size), second_prstatus,
		     arch->prstatus_size) == 0);
	CHECK(memcmp(next(c, "LINUX", hand_extra(arch), 3), h->xstate, 3) == 0);
	if (arch->machine == 62 || arch->machine == 3) // only x86 tells how its state is laid out
		CHECK(memcmp(next(c, "LINUX", 0x205, 16), h->layout, 16) == 0);
	CHECK(c->at == c->end);
}

static void check_bytes64(const struct arch *arch, size_t gregs, uint32_t prstatus)
{
	static struct hand h;
	uint8_t want[392];

	hand_init(&h, arch);
	struct cursor c = build(&h.s);

	expect_prstatus64(want, &h, 0, gregs);
	CHECK(memcmp(next(&c, "CORE", 1, prstatus), want, prstatus) == 0);
	expect_prpsinfo64(want);
	CHECK(memcmp(next(&c, "CORE", 3, 136), want, 136) == 0);
	expect_prstatus64(want, &h, 1, gregs);
	check_rest(&c, &h, want);
}

static void check_bytes32(const struct arch *arch, size_t gregs, uint32_t prstatus)
{
	static struct hand h;
	uint8_t want[148];

	hand_init(&h, arch);
	struct cursor c = build(&h.s);

	expect_prstatus32(want, &h, 0, gregs);
	CHECK(memcmp(next(&c, "CORE", 1, prstatus), want, prstatus) == 0);
	expect_prpsinfo32(want);
	CHECK(memcmp(next(&c, "CORE", 3, 124), want, 124) == 0);
	expect_prstatus32(want, &h, 1, gregs);
	check_rest(&c, &h, want);
}

static void x86_64_bytes(void)
{
	check_bytes64(&arch_x86_64, 27 * 8, 336);
}

static void i386_bytes(void)
{
	check_bytes32(&arch_i386, 17 * 4, 144);
}

static void arm_bytes(void)
{
	check_bytes32(&arch_arm, 18 * 4, 148);
}

static void aarch64_bytes(void)
{
	check_bytes64(&arch_aarch64, 34 * 8, 392);
}

static void ids_of_16_bits(void)
{
	static const struct {
		uint32_t id;
		uint16_t shown;
	} rows[] = { { 0, 0 }, { 65533, 65533 }, { 65534, 65534 }, { 65535, 65535 },
		     { 65536, 65534 }, { UINT32_MAX, 65534 } };
	static struct hand h;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		hand_init(&h, i % 2 ? &arch_arm : &arch_i386);
		h.s.uid = h.s.gid = rows[i].id;
		struct cursor c = build(&h.s);

		next(&c, "CORE", 1, i % 2 ? 148 : 144);
		const uint8_t *desc = next(&c, "CORE", 3, 124);

		CHECK_EQ(desc[8] | desc[9] << 8, rows[i].shown);
		CHECK_EQ(desc[10] | desc[11] << 8, rows[i].shown);
		hand_init(&h, i % 2 ? &arch_aarch64 : &arch_x86_64);
		h.s.uid = rows[i].id;
		c = build(&h.s);
		next(&c, "CORE", 1, i % 2 ? 392 : 336);
		CHECK_EQ(u32(next(&c, "CORE", 3, 136) + 16), rows[i].id);
	}
}

// Descriptions of every length modulo 4, an empty one included.
static void padding(void)
{
	static struct hand h;

	for (uint32_t size = 0; size < 9; size++) {
		hand_init(&h, &arch_x86_64);
		h.threads[1].regsets[1].size = size;
		struct cursor c = build(&h.s);

		next(&c, "CORE", 1, 336);
		next(&c, "CORE", 3, 136);
		next(&c, "CORE", 0x53494749, 128);
		next(&c, "CORE", 6, 32);
		next(&c, "CORE", 0x46494c45, 64 + 9);
		next(&c, "CORE", 2, 5);
		next(&c, "LINUX", 0x202, 576);
		next(&c, "CORE", 1, 336);
		next(&c, "LINUX", 0x202, size);
		next(&c, "LINUX", 0x205, 16);
		CHECK(c.at == c.end);
	}
}

// A thread without any other regset, no note of the whole process.
static void least(void)
{
	static struct hand h;

	hand_init(&h, &arch_x86_64);
	h.s.n_threads = 1;
	h.threads[0].n_regsets = 1;
	h.s.process_note_size = 0;
	h.s.auxv_size = 0;
	struct cursor c = build(&h.s);
	const uint8_t *prstatus = next(&c, "CORE", 1, 336);

	CHECK_EQ(u32(prstatus + 328), 0);
	next(&c, "CORE", 3, 136);
	next(&c, "CORE", 0x53494749, 128);
	next(&c, "CORE", 6, 0);
	next(&c, "CORE", 0x46494c45, 64 + 9);
	CHECK(c.at == c.end);
}

static bool has_file_note(const struct snapshot *s, uint32_t *size)
{
	struct cursor c = build(s);

	for (int i = 0; i < 4; i++)
		c.at += 20 + (u32(c.at + 4) + 3) / 4 * 4;
	*size = u32(c.at + 4);
	return u32(c.at + 8) == 0x46494c45;
}

static void no_files(void)
{
	static struct hand h;
	uint32_t size;

	hand_init(&h, &arch_x86_64);
	h.maps[0].inode = h.maps[2].inode = 0;
	// fill_files_note() writes the note also then.
	CHECK(has_file_note(&h.s, &size));
	CHECK_EQ(size, 16);
	h.s.maps.n = 0;
	CHECK(!has_file_note(&h.s, &size));
}

// The kernel's first guess is 64 bytes a mapping, with a file or not, and it gives up at the limit.
static void file_note_of_many_mappings(void)
{
	static struct hand h;
	struct mapping *many = calloc(65536, sizeof(*many));
	uint32_t size;

	hand_init(&h, &arch_x86_64);
	CHECK(many);
	for (size_t i = 0; i < 65536; i++)
		many[i] = hand_mapping(0x10000 + i * 8192, 1, 0, 0);
	hand_file(&many[0], 7, 0, "/bin/x");
	h.s.maps.list = many;
	h.s.maps.n = 65535;
	CHECK(has_file_note(&h.s, &size));
	CHECK_EQ(size, 5 * 8 + 7);
	h.s.maps.n = 65536; // 4 MiB
	CHECK(!has_file_note(&h.s, &size));
	h.s.file_note_limit = (4 << 20) + 1;
	CHECK(has_file_note(&h.s, &size));
}

// A guess that is too small grows by a quarter, on pages.
static void file_note_limit(void)
{
	static char name[100001];
	static struct hand h;
	uint32_t size;

	memset(name, 'x', sizeof(name) - 1);
	hand_init(&h, &arch_x86_64);
	h.s.file_note_limit = 100 << 10;
	h.s.maps.n = 1;
	hand_file(&h.maps[0], 7, 0, name);
	// Guesses: 4096, 5120 → 8192, 10240 → 12288, 15360 → 16384, 20480, 25600 → 28672, 35840 →
	// 36864, 46080 → 49152, 61440, 76800 → 77824, 97280 → 98304, 122880: too large.
	h.maps[0].name_len = 98304 - 40 - 1;
	CHECK(has_file_note(&h.s, &size));
	CHECK_EQ(size, 98304);
	h.maps[0].name_len++;
	CHECK(!has_file_note(&h.s, &size));
	// On 32 bits the table is shorter.
	hand_init(&h, &arch_i386);
	h.s.file_note_limit = 100 << 10;
	h.s.maps.n = 1;
	hand_file(&h.maps[0], 7, 0, name);
	h.maps[0].name_len = 98304 - 20 - 1;
	CHECK(has_file_note(&h.s, &size));
	CHECK_EQ(size, 98304);
	h.maps[0].name_len++;
	CHECK(!has_file_note(&h.s, &size));
}

// Room that is kept before the process stops is enough.
static void foreseen(void)
{
	static const struct arch *const all[] = { &arch_x86_64, &arch_i386, &arch_arm,
						  &arch_aarch64 };
	static const uint8_t bytes[100001];
	const struct coresnap_note own = { .name = "a long owner's name", .type = 7,
					   .desc = bytes, .size = sizeof(bytes) };

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		struct notes plain, more;
		struct hand h;

		hand_init(&h, all[i]);
		CHECK_EQ(notes_build(&plain, &h.s, NULL, 0), 0);
		CHECK_EQ(notes_build(&more, &h.s, &own, 1), 0);
		CHECK(plain.size < notes_foreseen(all[i], 2, NULL, 0) + 4096);
		CHECK(notes_foreseen(all[i], 2, NULL, 0) > 2 * all[i]->regsets[1].max_size);
		CHECK(more.size - plain.size <=
		      notes_foreseen(all[i], 2, &own, 1) - notes_foreseen(all[i], 2, NULL, 0));
		arena_deinit(&h.arena);
	}
}

static const struct check_case cases[] = {
	CASE(foreseen),
	CASE(x86_64_bytes),
	CASE(i386_bytes),
	CASE(arm_bytes),
	CASE(aarch64_bytes),
	CASE(ids_of_16_bits),
	CASE(padding),
	CASE(least),
	CASE(no_files),
	CASE(file_note_of_many_mappings),
	CASE(file_note_limit),
};

CHECK_MAIN(cases)
