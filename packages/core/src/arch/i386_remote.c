/* SPDX-License-Identifier: BSD-3-Clause */
// i386: struct rt_sigframe_ia32 of arch/x86/include/asm/sigframe.h, struct sigcontext_32 and struct
// _fpstate_32 of arch/x86/include/uapi/asm/sigcontext.h. The same on a 32-bit kernel.
#include <string.h>

#include "arch_remote.h"
#include "x86_fp.h"

extern const struct arch_remote arch_i386_remote;

enum {
	UC_STACK_FLAGS = 156, // return address, signal, two pointers, siginfo: 144 bytes before
	UC_SEGMENTS = 164,
	UC_REGS = 180,
	UC_AX = 208,
	UC_IP = 220,
	UC_CS = 224,
	UC_FLAGS_REG = 228,
	UC_SS = 236,
	UC_FPSTATE = 240,
	UC_SIGMASK = 252,
	FRAME_SIZE = 260,

	FP_LEGACY = 108, // FSAVE; then status and magic, 16 bits each
	FP_LEAD = 112,
};

// Sources in gregs: gs, fs, es, ds; then di, si, bp, sp, bx, dx, cx.
static const uint8_t segments_of[] = { 40, 36, 32, 28 };
static const uint8_t gregs_of[] = { 16, 12, 20, 60, 0, 8, 4 };

static void put_frame(void *frame, const void *gregs, uint64_t sigmask, uint64_t fp)
{
	// Flags that sigaltstack(2) refuses; the refusal is ignored and the thread keeps the
	// alternate stack that it has.
	const uint32_t stack_flags = 4;
	const uint32_t fp32 = (uint32_t)fp;
	uint8_t *const to = frame;
	const uint8_t *const from = gregs;

	memcpy(to + UC_STACK_FLAGS, &stack_flags, sizeof(stack_flags));
	for (size_t i = 0; i < sizeof(segments_of); i++)
		memcpy(to + UC_SEGMENTS + 4 * i, from + segments_of[i], 2);
	for (size_t i = 0; i < sizeof(gregs_of); i++)
		memcpy(to + UC_REGS + 4 * i, from + gregs_of[i], 4);
	memcpy(to + UC_AX, from + 24, 4);
	memcpy(to + UC_IP, from + 48, 4);
	memcpy(to + UC_CS, from + 52, 2);
	memcpy(to + UC_FLAGS_REG, from + 56, 4);
	memcpy(to + UC_SS, from + 64, 2);
	memcpy(to + UC_FPSTATE, &fp32, sizeof(fp32));
	memcpy(to + UC_SIGMASK, &sigmask, sizeof(sigmask));
}

static size_t fp_size(const struct arch_fp *fp)
{
	const size_t xsave = x86_fp_size(fp);

	return xsave && fp->legacy ? FP_LEAD + xsave : 0;
}

// A magic of 0 (X86_FXSR_MAGIC) tells that an FXSAVE or XSAVE area follows the FSAVE one.
static void put_fp(void *block, const struct arch_fp *fp)
{
	uint8_t *const to = block;

	memcpy(to, fp->legacy, FP_LEGACY);
	memset(to + FP_LEGACY, 0, FP_LEAD - FP_LEGACY);
	x86_put_fp(to + FP_LEAD, fp);
}

// The base of the segment that gs selects, of struct user_desc tls[3] (asm/ldt.h).
static uint64_t thread_pointer(const void *gregs, const void *tls, size_t tls_size)
{
	uint32_t gs, desc[4];

	memcpy(&gs, (const char *)gregs + 40, sizeof(gs));
	for (size_t at = 0; at + sizeof(desc) <= tls_size; at += sizeof(desc)) {
		memcpy(desc, (const char *)tls + at, sizeof(desc));
		if (desc[0] == (gs & 0xffff) >> 3)
			return desc[1];
	}
	return 0;
}

const struct arch_remote arch_i386_remote = {
	.call = {
		{ .size = 3, .bytes = { 0xcd, 0x80, 0xc3 } },
		// __kernel_vsyscall of the vdso: pop %ebp; pop %edx; pop %ecx; ret
		{ .size = 6, .pops = 3, .bytes = { 0xcd, 0x80, 0x5d, 0x5a, 0x59, 0xc3 } },
	},
	.sigreturn = { { .size = 7, .bytes = { 0xb8, 173, 0, 0, 0, 0xcd, 0x80 } } },
	.pop_nr = { .size = 2, .bytes = { 0x58, 0xc3 } },
	.code_align = 1,
	.call_size = 2,
	.red_zone = 0,
	.loaded_nr = x86_loaded_nr,
	.entry_words = 3,
	.frame_size = FRAME_SIZE,
	.frame_align = 4,
	.put_frame = put_frame,
	.fp_regset = X86_FP_REGSET,
	.xstate_regset = X86_XSTATE_REGSET,
	.fp_lead = FP_LEAD,
	.fp_size = fp_size,
	.put_fp = put_fp,
	.map_size = 4096,
	.tls_regset = 0x200, // NT_386_TLS
	.thread_pointer = thread_pointer,
	.features_line = "x86_Thread_features:",
	.shadow_stack = "shstk",
	.audit = 0x40000003,
	.nr = {
		.chdir = 12,
		.chroot = 61,
		.clone = 120,
		.close = 6,
		.close_range = 436,
		.exit = 1,
		.exit_group = 252,
		.mmap = 192, // mmap2
		.munmap = 91,
		.prctl = 172,
		.restart_syscall = 0,
		.rt_sigreturn = 173,
		.unshare = 310,
		.userfaultfd = 374,
		.vfork = 190,
		.wait4 = 114,
	},
	// nanosleep, poll, futex, clock_nanosleep, and their 64-bit time twins
	.timed_calls = { 162, 168, 240, 267, 407, 422 },
};
