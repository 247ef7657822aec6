/* SPDX-License-Identifier: BSD-3-Clause */
// AArch64: struct rt_sigframe of arch/arm64/kernel/signal.c, struct sigcontext and struct
// fpsimd_context of arch/arm64/include/uapi/asm/sigcontext.h.
#include <string.h>

#include "arch_remote.h"

extern const struct arch_remote arch_aarch64_remote;

enum {
	UC_STACK_FLAGS = 152, // siginfo: 128 bytes before the ucontext
	UC_SIGMASK = 168,
	UC_REGS = 312, // x0 to x30, sp, pc, pstate, as in gregs
	REGS_SIZE = 272,
	FPSIMD = 592, // __reserved: the records
	FPSIMD_FPSR = FPSIMD + 8,
	FPSIMD_FPCR = FPSIMD + 12,
	FPSIMD_VREGS = FPSIMD + 16,
	FPSIMD_SIZE = 528,
	// A record of zeros ends the list. The kernel looks no further, though its structure has
	// room for 4096 bytes of records.
	FRAME_SIZE = FPSIMD + FPSIMD_SIZE + 16,

	VREGS_SIZE = 512,
	FPREGS_FPSR = 512, // struct user_fpsimd_state
	FPREGS_FPCR = 516,
	FPREGS_SIZE = 520, // without its padding

	SVE_VL = 8, // struct user_sve_header
	SVE_FLAGS = 12,
	SVE_REGS = 16,
	// Bytes of a vector. What is longer takes a frame with an extra_context, and no processor
	// has it (sve_default_vector_length is 64).
	SVE_MAX_VL = 96,

	GREGS_PC = 256,
	GREGS_PSTATE = 264,
};

static void put_frame(void *frame, const void *gregs, uint64_t sigmask, uint64_t fp)
{
	// Flags that sigaltstack(2) refuses; restore_altstack() ignores the refusal, so that the
	// thread keeps the alternate stack that it has.
	const uint32_t stack_flags = 4;
	const uint32_t head[] = { 0x46508001, FPSIMD_SIZE }; // FPSIMD_MAGIC; must be there
	uint8_t *const to = frame;

	(void)fp;
	memcpy(to + UC_STACK_FLAGS, &stack_flags, sizeof(stack_flags));
	memcpy(to + UC_SIGMASK, &sigmask, sizeof(sigmask));
	memcpy(to + UC_REGS, gregs, REGS_SIZE);
	memcpy(to + FPSIMD, head, sizeof(head));
}

// struct user_sve_header: size, max_size, vl, max_vl, flags
static uint16_t sve_half(const void *bytes, size_t size, size_t offset)
{
	uint16_t half = 0;

	if (size >= SVE_REGS)
		memcpy(&half, (const char *)bytes + offset, sizeof(half));
	return half;
}

static bool sve_in_use(const void *bytes, size_t size)
{
	return sve_half(bytes, size, SVE_FLAGS) & 1; // SVE_PT_REGS_SVE
}

static bool sve_too_long(const void *bytes, size_t size)
{
	return sve_in_use(bytes, size) && sve_half(bytes, size, SVE_VL) > SVE_MAX_VL;
}

// Z, P and FFR registers for a length of vectors: 32 whole, 17 eighths of it.
static size_t sve_regs_size(uint16_t vl)
{
	return (size_t)vl * 32 + (size_t)vl / 8 * 17;
}

static bool fp_is_cleared(const struct arch_fp *fp)
{
	return sve_in_use(fp->xstate, fp->xstate_size);
}

static int32_t frame_growth(const struct arch_fp *fp)
{
	const uint16_t vl = sve_half(fp->xstate, fp->xstate_size, SVE_VL);

	if (fp->legacy_size < FPREGS_SIZE)
		return -1;
	if (!fp_is_cleared(fp))
		return 0;
	if (vl > SVE_MAX_VL || fp->xstate_size < SVE_REGS + sve_regs_size(vl))
		return -1;
	return (int32_t)((SVE_REGS + sve_regs_size(vl) + 15) & ~(size_t)15);
}

// struct sve_context: magic, size, vl, flags; its registers are those of the regset.
static void put_sve(uint8_t *to, const struct arch_fp *fp)
{
	const uint16_t vl = sve_half(fp->xstate, fp->xstate_size, SVE_VL);
	const uint32_t head[] = { 0x53564501, (uint32_t)frame_growth(fp), vl }; // SVE_MAGIC

	memcpy(to, head, sizeof(head));
	memcpy(to + SVE_REGS, fp->xstate + SVE_REGS, sve_regs_size(vl));
}

static void put_fp_inside(void *frame, const struct arch_fp *fp)
{
	uint8_t *const to = frame;

	memcpy(to + FPSIMD_FPSR, fp->legacy + FPREGS_FPSR, 4);
	memcpy(to + FPSIMD_FPCR, fp->legacy + FPREGS_FPCR, 4);
	memcpy(to + FPSIMD_VREGS, fp->legacy, VREGS_SIZE);
	if (fp_is_cleared(fp))
		put_sve(to + FPSIMD + FPSIMD_SIZE, fp);
}

// Without the trace of a branch: PSTATE.BTYPE would make the first instruction fault where a page
// is guarded (BTI) and it is no landing pad.
static void set_code(void *gregs, uint64_t code)
{
	uint64_t pstate;

	memcpy((char *)gregs + GREGS_PC, &code, sizeof(code));
	memcpy(&pstate, (char *)gregs + GREGS_PSTATE, sizeof(pstate));
	pstate &= ~(uint64_t)0xc00;
	memcpy((char *)gregs + GREGS_PSTATE, &pstate, sizeof(pstate));
}

// movz w8, #constant or movz x8, #constant
static int32_t loaded_nr(const uint8_t *code)
{
	uint32_t word;

	memcpy(&word, code, sizeof(word));
	return (word & 0x7fe0001f) == 0x52800008 ? (int32_t)(word >> 5 & 0xffff) : -1;
}

// svc #0
static unsigned int call_at(const void *gregs, const uint8_t *code)
{
	uint32_t word;

	(void)gregs;
	memcpy(&word, code, sizeof(word));
	return word == 0xd4000001 ? 4 : 0;
}

static uint64_t thread_pointer(const void *gregs, const void *tls, size_t tls_size)
{
	uint64_t base = 0;

	(void)gregs;
	if (tls_size >= sizeof(base))
		memcpy(&base, tls, sizeof(base));
	return base;
}

// struct user_za_header: size
static bool za_in_use(const void *bytes, size_t size)
{
	uint32_t used = 0;

	if (size >= sizeof(used))
		memcpy(&used, bytes, sizeof(used));
	return used > 16;
}

// struct user_gcs: features_enabled, features_locked, gcspr_el0
static bool gcs_in_use(const void *bytes, size_t size)
{
	uint64_t enabled = 0;

	if (size >= sizeof(enabled))
		memcpy(&enabled, bytes, sizeof(enabled));
	return enabled & 1; // PR_SHADOW_STACK_ENABLE
}

const struct arch_remote arch_aarch64_remote = {
	// svc #0; ret
	.call = { { .size = 8, .bytes = { 1, 0, 0, 0xd4, 0xc0, 3, 0x5f, 0xd6 } } },
	// mov x8, #139; svc #0
	.sigreturn = { { .size = 8, .bytes = { 0x68, 0x11, 0x80, 0xd2, 1, 0, 0, 0xd4 } } },
	.code_align = 4,
	.call_size = 4,
	.link = 240, // x30
	.set_code = set_code,
	.loaded_nr = loaded_nr,
	.call_at = call_at,
	.frame_size = FRAME_SIZE,
	.frame_align = 16,
	.put_frame = put_frame,
	.fp_regset = 2, // NT_PRFPREG
	.xstate_regset = 0x405, // NT_ARM_SVE
	.frame_growth = frame_growth,
	.put_fp_inside = put_fp_inside,
	.fp_is_cleared = fp_is_cleared,
	.map_size = 65536, // the largest page
	.tls_regset = 0x401, // NT_ARM_TLS
	.thread_pointer = thread_pointer,
	.tls_below = 4096,
	.refusals = {
		{ 0x410, gcs_in_use,
		  "has a shadow stack (GCS): it would fault on a return address that it did not "
		  "push" },
		{ 0x405, sve_too_long, "computes with SVE registers of more than 96 bytes" },
		{ 0x40b, sve_in_use,
		  "is in streaming mode (SME), which a system call would leave" },
		{ 0x40c, za_in_use,
		  "has its ZA storage (SME) in use, which a signal frame of ours does not keep" },
	},
	.nr_regset = 0x404, // NT_ARM_SYSTEM_CALL
	.audit = 0xc00000b7,
	.nr = {
		.chdir = 49,
		.chroot = 51,
		.clone = 220,
		.close = 57,
		.close_range = 436,
		.exit = 93,
		.exit_group = 94,
		.mmap = 222,
		.munmap = 215,
		.prctl = 167,
		.restart_syscall = 128,
		.rt_sigreturn = 139,
		.unshare = 97,
		.userfaultfd = 282,
		.vfork = -1,
		.wait4 = 260,
	},
	// futex, nanosleep, clock_nanosleep
	.timed_calls = { 98, 101, 115 },
};
