/* SPDX-License-Identifier: BSD-3-Clause */
// 32-bit ARM, EABI: struct rt_sigframe of arch/arm/kernel/signal.h, struct sigcontext of
// arch/arm/include/uapi/asm/sigcontext.h, struct vfp_sigframe of arch/arm/include/asm/ucontext.h.
// Those of a 64-bit kernel are the same (arch/arm64/kernel/signal32.c).
#include <string.h>

#include "arch_remote.h"

extern const struct arch_remote arch_arm_remote;

enum {
	UC_STACK_FLAGS = 140, // siginfo: 128 bytes before the ucontext
	UC_REGS = 160,        // r0 to r15, cpsr, as in gregs
	REGS_SIZE = 68,
	UC_SIGMASK = 232,
	VFP = 360, // uc_regspace
	VFP_REGS = VFP + 8,
	VFP_FPSCR = VFP_REGS + 256,
	VFP_FPEXC = VFP + 272,
	VFP_SIZE = 288,
	FRAME_SIZE = VFP + VFP_SIZE + 8, // and a magic of 0

	VFP_REGSET_SIZE = 260, // d0 to d31, fpscr

	GREGS_PC = 60,
	GREGS_CPSR = 64,

	PSR_T = 0x20,
	PSR_IT = 0x0600fc00, // rest of an if-then block
	PSR_J = 0x01000000,
};

static uint32_t get(const void *gregs, size_t offset)
{
	uint32_t word;

	memcpy(&word, (const char *)gregs + offset, sizeof(word));
	return word;
}

static void put(void *to, size_t offset, uint32_t word)
{
	memcpy((char *)to + offset, &word, sizeof(word));
}

static void put_frame(void *frame, const void *gregs, uint64_t sigmask, uint64_t fp)
{
	uint8_t *const to = frame;

	(void)fp;
	// Flags that sigaltstack(2) refuses; the refusal is ignored and the thread keeps the
	// alternate stack that it has.
	put(to, UC_STACK_FLAGS, 4);
	memcpy(to + UC_REGS, gregs, REGS_SIZE);
	memcpy(to + UC_SIGMASK, &sigmask, sizeof(sigmask));
	put(to, VFP, 0x56465001); // VFP_MAGIC; must be there
	put(to, VFP + 4, VFP_SIZE);
	put(to, VFP_FPEXC, 1u << 30); // FPEXC_EN
}

static int32_t frame_growth(const struct arch_fp *fp)
{
	return fp->legacy_size < VFP_REGSET_SIZE ? -1 : 0;
}

static void put_fp_inside(void *frame, const struct arch_fp *fp)
{
	memcpy((char *)frame + VFP_REGS, fp->legacy, VFP_REGSET_SIZE);
}

static void set_code(void *gregs, uint64_t code)
{
	const uint32_t cpsr = get(gregs, GREGS_CPSR) & ~(uint32_t)(PSR_T | PSR_IT | PSR_J);

	put(gregs, GREGS_PC, (uint32_t)code & ~(uint32_t)1);
	put(gregs, GREGS_CPSR, cpsr | (code & 1 ? PSR_T : 0));
}

// The ways in which compilers put the number of a timed call into r7, but for 422 in Thumb code.
static int32_t loaded_nr(const uint8_t *code)
{
	uint16_t half[2];
	uint32_t word;

	memcpy(half, code, sizeof(half));
	memcpy(&word, code, sizeof(word));
	if (half[0] >> 8 == 0x27) // Thumb: movs
		return half[0] & 0xff;
	if ((half[0] & 0xfbf0) == 0xf240 && (half[1] & 0x8f00) == 0x0700) // movw
		return (half[0] & 15) << 12 | (half[0] >> 10 & 1) << 11 | (half[1] >> 12 & 7) << 8 |
		       (half[1] & 0xff);
	if (half[0] == 0xf04f && (half[1] & 0xff00) == 0x0700) // mov.w, a plain byte
		return half[1] & 0xff;
	if ((word & 0xfffff000) == 0xe3007000) // ARM: movw, 12 bits of it
		return (int32_t)(word & 0xfff);
	return (word & 0xffffff00) == 0xe3a07000 ? (int32_t)(word & 0xff) : -1; // mov
}

// Thumb: svc with any constant. ARM: svc #0; others are old ABI calls.
static unsigned int call_at(const void *gregs, const uint8_t *code)
{
	uint32_t word;

	memcpy(&word, code, sizeof(word));
	if (get(gregs, GREGS_CPSR) & PSR_T)
		return (word & 0xff00) == 0xdf00 ? 2 : 0;
	return (word & 0x0fffffff) == 0x0f000000 ? 4 : 0;
}

static uint64_t thread_pointer(const void *gregs, const void *tls, size_t tls_size)
{
	(void)gregs;
	return tls_size >= 4 ? get(tls, 0) : 0;
}

const struct arch_remote arch_arm_remote = {
	.call = {
		// svc 0; pop {r7}; bx lr
		{ .size = 6, .pops = 1, .thumb = true,
		  .bytes = { 0x00, 0xdf, 0x80, 0xbc, 0x70, 0x47 } },
		// svc 0; bx lr
		{ .size = 4, .thumb = true, .bytes = { 0x00, 0xdf, 0x70, 0x47 } },
		{ .size = 8, .bytes = { 0, 0, 0, 0xef, 0x1e, 0xff, 0x2f, 0xe1 } },
		// svc 0; pop {r4, r5, r6, r7}; bx lr
		{ .size = 12, .pops = 4,
		  .bytes = { 0, 0, 0, 0xef, 0xf0, 0, 0xbd, 0xe8, 0x1e, 0xff, 0x2f, 0xe1 } },
		{ .size = 6, .pops = 4, .thumb = true,
		  .bytes = { 0x00, 0xdf, 0xf0, 0xbc, 0x70, 0x47 } },
		// svc 0; pop {r7, pc}: __libc_do_syscall of glibc
		{ .size = 4, .pops = 1, .on_stack = true, .thumb = true,
		  .bytes = { 0x00, 0xdf, 0x80, 0xbd } },
	},
	.sigreturn = {
		// movs r7, #173; svc 0 or, in a 64-bit kernel's [sigpage], svc 173
		{ .size = 4, .thumb = true, .bytes = { 173, 0x27, 0x00, 0xdf } },
		{ .size = 4, .thumb = true, .bytes = { 173, 0x27, 173, 0xdf } },
		// mov.w r7, #173; svc 0: glibc
		{ .size = 6, .thumb = true, .bytes = { 0x4f, 0xf0, 173, 0x07, 0x00, 0xdf } },
		// mov r7, #173; svc 0
		{ .size = 8, .bytes = { 173, 0x70, 0xa0, 0xe3, 0, 0, 0, 0xef } },
	},
	.code_align = 4,
	.call_size = 4,
	.link = 56, // r14
	.set_code = set_code,
	.loaded_nr = loaded_nr,
	.call_at = call_at,
	.frame_size = FRAME_SIZE,
	.frame_align = 8,
	.put_frame = put_frame,
	.fp_regset = 0x400, // NT_ARM_VFP
	.frame_growth = frame_growth,
	.put_fp_inside = put_fp_inside,
	.map_size = 8192,
	.tls_regset = 0x401, // NT_ARM_TLS: what a 64-bit dumper sees
	.tls_request = 22,   // PTRACE_GET_THREAD_AREA: a 32-bit one
	.thread_pointer = thread_pointer,
	.tls_below = 4096,
	.nr_regset = 0x404, // NT_ARM_SYSTEM_CALL: likewise
	.nr_request = 23,   // PTRACE_SET_SYSCALL
	.audit = 0x40000028,
	.nr = {
		.chdir = 12,
		.chroot = 61,
		.clone = 120,
		.close = 6,
		.close_range = 436,
		.exit = 1,
		.exit_group = 248,
		.mmap = 192, // mmap2
		.munmap = 91,
		.prctl = 172,
		.restart_syscall = 0,
		.rt_sigreturn = 173,
		.unshare = 337,
		.userfaultfd = 388,
		.vfork = 190,
		.wait4 = 114,
	},
	// nanosleep, poll, futex, clock_nanosleep, and their 64-bit time twins
	.timed_calls = { 162, 168, 240, 265, 407, 422 },
};
