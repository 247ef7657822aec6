/* SPDX-License-Identifier: BSD-3-Clause */
// The rows' facts. Numbers and offsets here are taken from the kernel's headers by hand, anew.
#include "arch/arch.h"

#include <fcntl.h>

#include "check.h"
#include "maps.h"

static const struct arch *const all[] = { &arch_x86_64, &arch_i386, &arch_arm, &arch_aarch64 };

#define N(array) (sizeof(array) / sizeof((array)[0]))

static void check_order(const struct arch *arch, const uint32_t *types, size_t n)
{
	CHECK_EQ(arch->n_regsets, n);
	for (size_t i = 0; i < n; i++) {
		CHECK_EQ(arch->regsets[i].type, types[i]);
		// fill_thread_core_info() in fs/binfmt_elf.c
		CHECK(strcmp(arch->regsets[i].owner, types[i] <= 2 ? "CORE" : "LINUX") == 0);
		// ssp_get() in arch/x86/kernel/fpu/regset.c: ENODEV for either reason
		CHECK_EQ(arch->regsets[i].absent != NULL, types[i] == 0x204);
	}
}

// A note's place in the core follows user_regset_view: arch/x86/kernel/ptrace.c,
// arch/arm/kernel/ptrace.c, arch/arm64/kernel/ptrace.c.
static void regset_order(void)
{
	static const uint32_t x86_64[] = { 1, 2, 0x201, 0x202, 0x204 };
	static const uint32_t x86_32[] = { 1, 2, 0x46e62b7f, 0x202, 0x200, 0x201 };
	static const uint32_t arm[] = { 1, 2, 0x400 };
	// TLS, HW_BREAK, HW_WATCH, FPMR, SYSTEM_CALL, SVE, SSVE, ZA, ZT, PAC_MASK,
	// PAC_ENABLED_KEYS, PACA_KEYS, PACG_KEYS, TAGGED_ADDR_CTRL, POE, GCS
	static const uint32_t aarch64[] = { 1,     2,     0x401, 0x402, 0x403, 0x40e,
					    0x404, 0x405, 0x40b, 0x40c, 0x40d, 0x406,
					    0x40a, 0x407, 0x408, 0x409, 0x40f, 0x410 };

	check_order(&arch_x86_64, x86_64, N(x86_64));
	check_order(&arch_i386, x86_32, N(x86_32));
	check_order(&arch_arm, arm, N(arm));
	check_order(&arch_aarch64, aarch64, N(aarch64));
}

static uint32_t max_size(const struct arch *arch, uint32_t type)
{
	for (size_t i = 0; i < arch->n_regsets; i++)
		if (arch->regsets[i].type == type)
			return arch->regsets[i].max_size;
	return 0;
}

// PTRACE_GETREGSET refuses a room that is no multiple of the register's size.
static void regset_sizes(void)
{
	static const struct {
		uint32_t type, size, unit;
	} rows[] = {
		{ 1, 34 * 8, 8 },              // x0 to x30, sp, pc, pstate
		{ 2, 32 * 16 + 16, 4 },        // v0 to v31, fpsr, fpcr, two words unused
		{ 0x401, 16, 8 },              // tpidr, tpidr2
		{ 0x402, 8 + 16 * 16, 4 },     // struct user_hwdebug_state
		{ 0x403, 8 + 16 * 16, 4 },     //
		{ 0x404, 4, 4 },               //
		{ 0x40c, 16 + 256 * 256, 16 }, // a square of the longest vector
		{ 0x40d, 64, 8 },              //
		{ 0x406, 16, 8 },              //
		{ 0x407, 4 * 16, 16 },         //
		{ 0x408, 16, 16 },             //
		{ 0x410, 24, 8 },              //
	};

	for (size_t i = 0; i < N(rows); i++) {
		CHECK_EQ(max_size(&arch_aarch64, rows[i].type), rows[i].size);
		CHECK_EQ(rows[i].size % rows[i].unit, 0);
	}
	// 32 vectors and 17 predicates of the longest kind, header, FPSR and FPCR
	CHECK(max_size(&arch_aarch64, 0x405) >= 16 + 32 * 256 + 17 * 32 + 16 + 16);
	CHECK_EQ(max_size(&arch_aarch64, 0x405) % 16, 0);
	CHECK_EQ(max_size(&arch_aarch64, 0x40b), max_size(&arch_aarch64, 0x405));
	CHECK_EQ(max_size(&arch_arm, 1), 18 * 4);
	CHECK_EQ(max_size(&arch_arm, 2), 8 * 12 + 5 * 4); // struct user_fp of the FPA
	CHECK_EQ(max_size(&arch_arm, 0x400), 32 * 8 + 4); // d0 to d31, fpscr
}

static void registers(void)
{
	// Words before each: r15, r13, r0, r7, ORIG_r0; pc, sp, x0, x8.
	CHECK_EQ(arch_arm.pc, 15 * 4);
	CHECK_EQ(arch_arm.sp, 13 * 4);
	CHECK_EQ(arch_arm.ret, 0);
	CHECK_EQ(arch_arm.orig_nr, 7 * 4);
	CHECK_EQ(arch_arm.orig_arg0, 17 * 4);
	CHECK_EQ(arch_aarch64.pc, 32 * 8);
	CHECK_EQ(arch_aarch64.sp, 31 * 8);
	CHECK_EQ(arch_aarch64.ret, 0);
	CHECK_EQ(arch_aarch64.orig_nr, 8 * 8);
	CHECK_EQ(arch_aarch64.orig_arg0, 0);
	for (unsigned int i = 0; i < 6; i++) {
		CHECK_EQ(arch_arm.args[i], i * 4);
		CHECK_EQ(arch_aarch64.args[i], i * 8);
	}
	for (size_t i = 0; i < N(all); i++) {
		const size_t head = all[i]->word == 8 ? 112 : 72;

		CHECK_EQ(all[i]->regsets[0].max_size, all[i]->gregs_size);
		CHECK_EQ(all[i]->prstatus_size, head + all[i]->gregs_size + all[i]->word);
		CHECK_EQ(all[i]->prpsinfo_size, all[i]->word == 8 ? 136 : 124);
		CHECK_EQ(all[i]->rewinds, all[i] == &arch_arm || all[i] == &arch_aarch64);
		CHECK(all[i]->n_regsets <= ARCH_MAX_REGSETS);
	}
}

// arch/arm64/kernel/elfcore.c; p_filesz of a page's tags is MTE_PAGE_TAG_STORAGE.
static void tags(void)
{
	for (size_t i = 0; i < N(all); i++) {
		const bool some = all[i] == &arch_aarch64;

		CHECK_EQ(all[i]->tags.segment, some ? 0x70000002 : 0);
		CHECK_EQ(arch_tags_size(all[i], 4096), some ? 128 : 0);
		CHECK_EQ(arch_tags_size(all[i], 0), 0);
	}
	CHECK_EQ(arch_aarch64.tags.peek, 33);
}

// Numbers: arch/arm/tools/syscall.tbl and include/uapi/asm-generic/unistd.h. The argument is that
// of the timeout, counted from 0; -1: none, or not in an argument.
struct call {
	const char *name;
	int arm, aarch64;
	int timeout;
	int arg;
};

static const struct call calls[] = {
	{ "read", 3, 63, EINTR_TIMEOUT_SOCKET, -1 },
	{ "write", 4, 64, EINTR_TIMEOUT_SOCKET, -1 },
	{ "readv", 145, 65, EINTR_TIMEOUT_SOCKET, -1 },
	{ "writev", 146, 66, EINTR_TIMEOUT_SOCKET, -1 },
	{ "connect", 283, 203, EINTR_TIMEOUT_SOCKET, -1 },
	{ "accept", 285, 202, EINTR_TIMEOUT_SOCKET, -1 },
	{ "accept4", 366, 242, EINTR_TIMEOUT_SOCKET, -1 },
	{ "send", 289, -1, EINTR_TIMEOUT_SOCKET, -1 },
	{ "sendto", 290, 206, EINTR_TIMEOUT_SOCKET, -1 },
	{ "recv", 291, -1, EINTR_TIMEOUT_SOCKET, -1 },
	{ "recvfrom", 292, 207, EINTR_TIMEOUT_SOCKET, -1 },
	{ "sendmsg", 296, 211, EINTR_TIMEOUT_SOCKET, -1 },
	{ "recvmsg", 297, 212, EINTR_TIMEOUT_SOCKET, -1 },
	{ "recvmmsg", 365, 243, EINTR_TIMEOUT_SOCKET, -1 },
	{ "recvmmsg_time64", 417, -1, EINTR_TIMEOUT_SOCKET, -1 },
	{ "sendmmsg", 374, 269, EINTR_TIMEOUT_SOCKET, -1 },
	{ "semop", 298, 193, EINTR_NO_TIMEOUT, -1 },
	{ "semtimedop", 312, 192, EINTR_TIMEOUT_PTR, 3 },
	{ "semtimedop_time64", 420, -1, EINTR_TIMEOUT_PTR, 3 },
	{ "rt_sigtimedwait", 177, 137, EINTR_TIMEOUT_PTR, 2 },
	{ "rt_sigtimedwait_time64", 421, -1, EINTR_TIMEOUT_PTR, 2 },
	{ "io_getevents", 245, 4, EINTR_TIMEOUT_PTR, 4 },
	{ "io_pgetevents", 399, 292, EINTR_TIMEOUT_PTR, 4 },
	{ "io_pgetevents_time64", 416, -1, EINTR_TIMEOUT_PTR, 4 },
	{ "epoll_wait", 252, -1, EINTR_TIMEOUT_MS, 3 },
	{ "epoll_pwait", 346, 22, EINTR_TIMEOUT_MS, 3 },
	{ "epoll_pwait2", 441, 441, EINTR_TIMEOUT_PTR, 3 },
	{ "io_uring_enter", 426, 426, EINTR_TIMEOUT_URING, 3 },
};

static const struct arch_eintr_call *find_call(const struct arch *arch, int nr)
{
	for (size_t i = 0; i < arch->n_eintr_calls; i++)
		if (arch->eintr_calls[i].nr == nr)
			return &arch->eintr_calls[i];
	return NULL;
}

static size_t check_call(const struct arch *arch, const struct call *call, int nr)
{
	const struct arch_eintr_call *found = find_call(arch, nr);

	if (nr < 0)
		return 0;
	if (!found || (int)found->timeout != call->timeout)
		fprintf(stderr, "%s %s\n", arch->name, call->name);
	CHECK(found);
	CHECK_EQ(found->timeout, call->timeout);
	if (call->arg >= 0)
		CHECK_EQ(found->arg, call->arg);
	return 1;
}

static void interrupted_calls(void)
{
	size_t arm = 0, aarch64 = 0;

	for (size_t i = 0; i < N(calls); i++) {
		arm += check_call(&arch_arm, &calls[i], calls[i].arm);
		aarch64 += check_call(&arch_aarch64, &calls[i], calls[i].aarch64);
	}
	CHECK_EQ(arch_arm.n_eintr_calls, arm);
	CHECK_EQ(arch_aarch64.n_eintr_calls, aarch64);
}

static void check_lenders(const struct arch *arch, const int *numbers, size_t n)
{
	CHECK_EQ(arch->n_lending_calls, n);
	for (size_t i = 0; i < n; i++) {
		CHECK_EQ(arch->lending_calls[i], numbers[i]);
		CHECK(numbers[i] <= ARCH_LAST_CALL);
	}
}

static void lending_calls(void)
{
	// sigsuspend, rt_sigsuspend, pselect6, ppoll, epoll_pwait, io_pgetevents, those three with
	// 64-bit times, io_uring_enter, epoll_pwait2
	static const int x86_64[] = { 130, 270, 271, 281, 333, 426, 441 };
	static const int x86_32[] = { 72, 179, 308, 309, 319, 385, 413, 414, 416, 426, 441 };
	static const int arm[] = { 72, 179, 335, 336, 346, 399, 413, 414, 416, 426, 441 };
	static const int aarch64[] = { 22, 72, 73, 133, 292, 426, 441 };

	check_lenders(&arch_x86_64, x86_64, N(x86_64));
	check_lenders(&arch_i386, x86_32, N(x86_32));
	check_lenders(&arch_arm, arm, N(arm));
	check_lenders(&arch_aarch64, aarch64, N(aarch64));
}

static const struct arch_regset *regset(const struct arch *arch, uint32_t type)
{
	for (size_t i = 0; i < arch->n_regsets; i++)
		if (arch->regsets[i].type == type)
			return &arch->regsets[i];
	CHECK(false);
	return NULL;
}

// What PTRACE_GETREGSET leaves in a buffer of 16 KiB: a header that tells this size, then `written`
// bytes, then what was there before.
static size_t told_size(uint32_t type, uint32_t told, size_t written, size_t room)
{
	static uint8_t bytes[65552];

	memset(bytes, 0xff, sizeof(bytes));
	memset(bytes, 0, written);
	memcpy(bytes, &told, sizeof(told));
	return regset(&arch_aarch64, type)->note_size(bytes, room);
}

static void vector_sizes(void)
{
	for (uint32_t type = 0x405; type <= 0x40b; type += 6) {      // SVE, SSVE
		CHECK_EQ(told_size(type, 16 + 528, 544, 8768), 544); // the V registers only
		CHECK_EQ(told_size(type, 2216, 2224, 8768), 2224);   // vectors of 64 bytes
		CHECK_EQ(told_size(type, 8760, 8768, 8768), 8768);   // of 256
		CHECK_EQ(told_size(type, 16, 16, 8768), 16);         // only a header…
		CHECK_EQ(told_size(type, 16, 8768, 8768), 8768);     // … and zeros
		CHECK_EQ(told_size(type, 0, 16, 8768), 8768);        // makes no sense
		CHECK_EQ(told_size(type, 9000, 8768, 8768), 8768);
	}
	CHECK_EQ(told_size(0x40c, 16, 16, 65552), 16); // ZA off: the header
	CHECK_EQ(told_size(0x40c, 16 + 64 * 64, 16 + 64 * 64, 65552), 16 + 64 * 64);
	CHECK_EQ(told_size(0x40c, 65552, 65552, 65552), 65552);
	CHECK_EQ(regset(&arch_aarch64, 0x405)->note_size("", 1), 1);
}

// struct user_desc: an unused slot of the three has only "not present" and "read and execute".
static void unused_tls(void)
{
	uint32_t desc[12] = { 12, 0, 0, 0x28, 13, 0, 0, 0x28, 14, 0, 0, 0x28 };
	bool (*inactive)(const void *, size_t) = regset(&arch_i386, 0x200)->inactive;

	CHECK(inactive(desc, sizeof(desc)));
	desc[9] = 0x1000;
	CHECK(!inactive(desc, sizeof(desc)));
	desc[9] = 0;
	desc[2] = 1;
	CHECK(!inactive(desc, sizeof(desc)));
	desc[2] = 0;
	desc[7] = 0x51;
	CHECK(!inactive(desc, sizeof(desc)));
	CHECK(inactive(desc, 0));
}

static struct maps recorded_maps(const char *name)
{
	static struct arena arena;
	struct maps maps = { .arena = &arena };
	struct coresnap_error err = { 0 };
	const int dir = open(RECORDED, O_RDONLY | O_DIRECTORY);

	CHECK_EQ(maps_read(&maps, dir, name, &err), 0);
	close(dir);
	return maps;
}

// What the kernel of 32-bit ARM puts into every process is kept whole, the last page of the address
// space too; AArch64's [vvar] looks readable and faults.
static void arm_special_mappings(void)
{
	static const char *const names[] = { "[sigpage]", "[vvar]", "[vdso]", "[vectors]" };
	const struct mapping_facts facts = { .filter = 0x33, .page_size = 4096 };
	struct maps maps = recorded_maps("arm.smaps");

	CHECK(maps.n > 4);
	for (size_t i = 0; i < 4; i++) {
		struct mapping *m = &maps.list[maps.n - 4 + i];

		CHECK(mapping_named(m, names[i]));
		mapping_select(m, &facts);
		CHECK_EQ(m->dump_size, 4096);
		CHECK_EQ(m->flags & (MAPPING_IO | MAPPING_PFN), 0);
	}
	CHECK_EQ(maps.list[maps.n - 1].start, 0xffff0000);
	maps = recorded_maps("arm64.smaps");
	CHECK(mapping_named(&maps.list[maps.n - 3], "[vvar]"));
	CHECK(maps.list[maps.n - 3].flags & MAPPING_PFN);
}

static const struct check_case cases[] = {
	CASE(regset_order),      CASE(regset_sizes),         CASE(registers),
	CASE(interrupted_calls), CASE(lending_calls),        CASE(vector_sizes),
	CASE(unused_tls),        CASE(arm_special_mappings), CASE(tags),
};

CHECK_MAIN(cases)
