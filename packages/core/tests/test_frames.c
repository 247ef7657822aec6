/* SPDX-License-Identifier: BSD-3-Clause */
// The signal frames of the ARM architectures against the kernel's structures, which are written out
// here by width, so that every host can check them; and the code that is recognised.
#include <stddef.h>

#include "arch/arch_remote.h"
#include "check.h"

// arch/arm/include/uapi/asm/sigcontext.h and asm/ucontext.h, arch/arm/kernel/signal.h; likewise
// arch/arm64/include/asm/signal32.h
struct arm_vfp {
	uint32_t magic, size;
	uint64_t fpregs[32];
	uint32_t fpscr, pad;
	uint32_t fpexc, fpinst, fpinst2, pad2;
};
struct arm_frame {
	uint8_t info[128];
	uint32_t uc_flags, uc_link, ss_sp, ss_flags, ss_size;
	uint32_t trap_no, error_code, oldmask, r[16], cpsr, fault_address;
	uint32_t sigmask[2], unused[30];
	struct arm_vfp vfp;
	uint32_t end_magic, end_pad;
};
_Static_assert(sizeof(struct arm_vfp) == 288, "VFP_STORAGE_SIZE");
_Static_assert(offsetof(struct arm_frame, sigmask) == 232, "uc_sigmask");
_Static_assert(offsetof(struct arm_frame, vfp) == 360, "uc_regspace");

// arch/arm64/include/uapi/asm/sigcontext.h and ucontext.h, arch/arm64/kernel/signal.c
struct arm64_frame {
	uint8_t info[128];
	uint64_t uc_flags, uc_link, ss_sp;
	uint32_t ss_flags, pad;
	uint64_t ss_size, sigmask, unused[15], pad2;
	uint64_t fault_address, x[31], sp, pc, pstate, pad3;
	struct {
		uint32_t magic, size, fpsr, fpcr;
		uint8_t vregs[32][16];
	} fpsimd;
	uint32_t end_magic, end_size;
};
_Static_assert(offsetof(struct arm64_frame, fault_address) == 128 + 176, "uc_mcontext");
_Static_assert(offsetof(struct arm64_frame, fpsimd) == 128 + 176 + 288, "__reserved");

static void fill(void *to, size_t size, uint8_t seed)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)to)[i] = (uint8_t)(seed + i * 13);
}

static void arm_frame(void)
{
	const struct arch_remote *const facts = arch_arm.remote;
	struct arm_frame frame = { 0 };
	uint32_t gregs[18];
	uint8_t vfp[260];
	const struct arch_fp fp = { .legacy = vfp, .legacy_size = sizeof(vfp) };

	CHECK(facts->frame_size >= offsetof(struct arm_frame, end_magic) + 4);
	CHECK(facts->frame_size <= sizeof(frame));
	CHECK_EQ(facts->frame_align, 8);
	fill(gregs, sizeof(gregs), 3);
	fill(vfp, sizeof(vfp), 101);
	facts->put_frame(&frame, gregs, 0x1122334455667788, 0);
	CHECK(frame.ss_flags & 4);
	CHECK_EQ(frame.sigmask[0], 0x55667788);
	CHECK_EQ(frame.sigmask[1], 0x11223344);
	CHECK(memcmp(frame.r, gregs, 64) == 0);
	CHECK_EQ(frame.cpsr, gregs[16]);
	CHECK_EQ(frame.vfp.magic, 0x56465001);
	CHECK_EQ(frame.vfp.size, 288);
	CHECK_EQ(frame.vfp.fpregs[31], 0);
	CHECK_EQ(facts->frame_growth(&fp), 0);
	facts->put_fp_inside(&frame, &fp);
	CHECK(memcmp(frame.vfp.fpregs, vfp, 256) == 0);
	CHECK(memcmp(&frame.vfp.fpscr, vfp + 256, 4) == 0);
	CHECK_EQ(frame.vfp.fpexc, 0x40000000);
	CHECK_EQ(frame.end_magic, 0);
	CHECK_EQ(facts->frame_growth(&(struct arch_fp){ .legacy = vfp, .legacy_size = 256 }), -1);
}

static void arm64_frame(void)
{
	const struct arch_remote *const facts = arch_aarch64.remote;
	struct arm64_frame frame = { 0 };
	uint64_t gregs[34];
	uint8_t fpregs[528];
	const struct arch_fp fp = { .legacy = fpregs, .legacy_size = sizeof(fpregs) };

	CHECK(facts->frame_size >= sizeof(frame));
	CHECK_EQ(facts->frame_align, 16);
	fill(gregs, sizeof(gregs), 3);
	fill(fpregs, sizeof(fpregs), 101);
	facts->put_frame(&frame, gregs, 0x1122334455667788, 0);
	CHECK(frame.ss_flags & 4);
	CHECK_EQ(frame.sigmask, 0x1122334455667788);
	CHECK(memcmp(frame.x, gregs, sizeof(frame.x)) == 0);
	CHECK_EQ(frame.sp, gregs[31]);
	CHECK_EQ(frame.pc, gregs[32]);
	CHECK_EQ(frame.pstate, gregs[33]);
	CHECK_EQ(frame.fpsimd.magic, 0x46508001);
	CHECK_EQ(frame.fpsimd.size, 528);
	CHECK_EQ(facts->frame_growth(&fp), 0);
	facts->put_fp_inside(&frame, &fp);
	CHECK(memcmp(frame.fpsimd.vregs, fpregs, 512) == 0);
	CHECK(memcmp(&frame.fpsimd.fpsr, fpregs + 512, 4) == 0);
	CHECK(memcmp(&frame.fpsimd.fpcr, fpregs + 516, 4) == 0);
	CHECK_EQ(frame.end_magic, 0);
	CHECK_EQ(frame.end_size, 0);
}

// The record that follows, for a thread that computes with vectors of 64 bytes.
static void arm64_sve(void)
{
	enum { VL = 64, REGS = 32 * VL + 17 * VL / 8 };
	const struct arch_remote *const facts = arch_aarch64.remote;
	uint8_t sve[16 + REGS + 16], fpregs[528];
	struct {
		struct arm64_frame frame; // what ends it there gives way
		uint8_t rest[sizeof(sve)];
	} all = { 0 };
	uint8_t *const record = (uint8_t *)&all.frame.end_magic;
	struct arch_fp fp = { fpregs, sizeof(fpregs), sve, sizeof(sve) };
	uint64_t gregs[34] = { 0 };
	const uint32_t head[] = { 0x53564501, (16 + REGS + 15) / 16 * 16, VL };

	fill(sve, sizeof(sve), 7);
	fill(fpregs, sizeof(fpregs), 101);
	memcpy(sve, (uint16_t[]){ sizeof(sve), 0, 8784, 0, VL, 256, 0, 0 }, 16);
	CHECK(!facts->fp_is_cleared(&fp));
	CHECK_EQ(facts->frame_growth(&fp), 0);
	sve[12] = 1;
	CHECK(facts->fp_is_cleared(&fp));
	CHECK_EQ(facts->frame_growth(&fp), head[1]);
	// It must fit behind the frame, and the whole list into __reserved.
	CHECK_EQ(facts->frame_size % facts->frame_align, 0);
	CHECK(528 + head[1] + 16 <= 4096);
	facts->put_frame(&all, gregs, 0, 0);
	facts->put_fp_inside(&all, &fp);
	CHECK(memcmp(record, head, sizeof(head)) == 0);
	CHECK(memcmp(record + 16, sve + 16, REGS) == 0);
	for (size_t i = 16 + REGS; i < head[1] + 16; i++)
		CHECK_EQ(record[i], 0);
	sve[8] = 112; // longer vectors
	CHECK_EQ(facts->frame_growth(&fp), -1);
	sve[8] = VL;
	fp.xstate_size = 16 + REGS - 1;
	CHECK_EQ(facts->frame_growth(&fp), -1);
}

// A frame must hold what it is given: the copy maps room for four of them, with what precedes them.
static void room_for_links(void)
{
	CHECK(4 * (arch_aarch64.remote->frame_size + 64u) <= arch_aarch64.remote->map_size / 2);
	CHECK(4 * (arch_arm.remote->frame_size + 64u) <= arch_arm.remote->map_size / 2);
}

static void modes(void)
{
	uint32_t gregs[18] = { [16] = 0x2600fc30 }; // in an if-then block of Thumb code
	uint64_t wide[34] = { [33] = 0x60000c00 };  // after an indirect branch

	arch_arm.remote->set_code(gregs, 0x12345);
	CHECK_EQ(gregs[15], 0x12344);
	CHECK_EQ(gregs[16], 0x20000030);
	arch_arm.remote->set_code(gregs, 0x12344);
	CHECK_EQ(gregs[16], 0x20000010);
	arch_aarch64.remote->set_code(wide, 0xffff12345678);
	CHECK_EQ(wide[32], 0xffff12345678);
	CHECK_EQ(wide[33], 0x60000000);
}

static int32_t arm_nr(uint32_t word)
{
	uint8_t code[8] = { 0 };

	memcpy(code, &word, sizeof(word));
	return arch_arm.remote->loaded_nr(code);
}

static int32_t arm64_nr(uint32_t word)
{
	uint8_t code[8] = { 0 };

	memcpy(code, &word, sizeof(word));
	return arch_aarch64.remote->loaded_nr(code);
}

static void numbers(void)
{
	CHECK_EQ(arm_nr(0xdf0027f0), 240);  // movs r7, #240
	CHECK_EQ(arm_nr(0x1709f240), 265);  // movw r7, #265
	CHECK_EQ(arm_nr(0x7797f240), 1943); // movw r7, #1943
	CHECK_EQ(arm_nr(0x07a2f04f), 162);  // mov.w r7, #162
	CHECK_EQ(arm_nr(0xe3a070a2), 162);  // mov r7, #162
	CHECK_EQ(arm_nr(0xe3007197), 407);  // movw r7, #407
	CHECK_EQ(arm_nr(0xdf0026f0), -1);   // movs r6, #240
	CHECK_EQ(arm_nr(0x1609f240), -1);   // movw r6, #265
	CHECK_EQ(arm64_nr(0xd2800e68), 115);
	CHECK_EQ(arm64_nr(0x52800c48), 98); // w8
	CHECK_EQ(arm64_nr(0xd2800e67), -1); // x7
	CHECK_EQ(arm64_nr(0xd2a00e68), -1); // shifted
}

static unsigned int call_at(const struct arch *arch, const void *gregs, uint32_t word)
{
	uint8_t code[4];

	memcpy(code, &word, sizeof(word));
	return arch->remote->call_at(gregs, code);
}

static void calls(void)
{
	const uint32_t thumb[18] = { [16] = 0x30 }, arm[18] = { [16] = 0x10 };
	const uint64_t wide[34] = { 0 };

	CHECK_EQ(call_at(&arch_arm, thumb, 0xbc80df00), 2);
	CHECK_EQ(call_at(&arch_arm, thumb, 0xdf00bc80), 0);
	CHECK_EQ(call_at(&arch_arm, thumb, 0xef000000), 0);
	CHECK_EQ(call_at(&arch_arm, arm, 0xef000000), 4);
	CHECK_EQ(call_at(&arch_arm, arm, 0xef90005a), 0); // the old ABI
	CHECK_EQ(call_at(&arch_arm, arm, 0xbc80df00), 0);
	CHECK_EQ(call_at(&arch_aarch64, wide, 0xd4000001), 4);
	CHECK_EQ(call_at(&arch_aarch64, wide, 0xd4000021), 0); // svc #1
}

static const char *refused(uint32_t regset, const void *bytes, size_t size)
{
	const struct arch_refusal *const rows = arch_aarch64.remote->refusals;

	for (size_t i = 0; i < sizeof(arch_aarch64.remote->refusals) / sizeof(rows[0]); i++)
		if (rows[i].regset == regset && rows[i].refuses(bytes, size))
			return rows[i].why;
	return "";
}

static void refusals(void)
{
	const uint16_t sve_idle[] = { 528, 0, 8768, 0, 16, 256, 0, 0 };
	const uint16_t sve_busy[] = { 560, 0, 8768, 0, 16, 256, 1, 0 };
	const uint16_t sve_long[] = { 8768, 0, 8768, 0, 256, 256, 1, 0 };
	const uint32_t za_idle[] = { 16, 65552, 16, 0 }, za_busy[] = { 272, 65552, 16, 0 };
	const uint64_t gcs_off[] = { 0, 1, 0 }, gcs_on[] = { 1, 0, 0xffff00000000 };

	CHECK_EQ(refused(0x405, sve_idle, 16)[0], 0);
	CHECK_EQ(refused(0x405, sve_busy, 16)[0], 0);
	CHECK_HAS(refused(0x405, sve_long, 16), "SVE");
	CHECK_HAS(refused(0x40b, sve_busy, 16), "streaming");
	CHECK_EQ(refused(0x40c, za_idle, 16)[0], 0);
	CHECK_HAS(refused(0x40c, za_busy, 16), "ZA");
	CHECK_EQ(refused(0x410, gcs_off, 24)[0], 0);
	CHECK_HAS(refused(0x410, gcs_on, 24), "GCS");
	CHECK_EQ(refused(0x405, sve_long, 2)[0], 0);
}

static const struct check_case cases[] = {
	CASE(arm_frame), CASE(arm64_frame), CASE(arm64_sve), CASE(room_for_links),
	CASE(modes),     CASE(numbers),     CASE(calls),     CASE(refusals),
};

CHECK_MAIN(cases)
