/* SPDX-License-Identifier: BSD-3-Clause */
// x86-64: struct rt_sigframe of arch/x86/include/asm/sigframe.h, struct sigcontext_64 and struct
// _fpx_sw_bytes of arch/x86/include/uapi/asm/sigcontext.h.
#include <string.h>

#include "arch_remote.h"
#include "x86_fp.h"

extern const struct arch_remote arch_x86_64_remote;

enum {
	UC_FLAGS = 8, // the ucontext follows the return address
	UC_STACK_FLAGS = 32,
	UC_REGS = 48,
	UC_CS = 192,
	UC_SS = 198,
	UC_FPSTATE = 232,
	UC_SIGMASK = 304,
	FRAME_SIZE = 312, // rt_sigreturn does not read the siginfo that would follow

	GREGS_CS = 136,
	GREGS_SS = 160,
	GREGS_FS_BASE = 168,

	UC_FP_XSTATE = 1,
	UC_SIGCONTEXT_SS = 2,
	UC_STRICT_RESTORE_SS = 4,
};

// Where in gregs the first words of sigcontext_64 come from: r8…r15, di, si, bp, bx, dx, ax, cx,
// sp, ip, flags.
static const uint8_t gregs_of[] = { 72,  64, 56, 48, 24, 16, 8,   0,   112,
				    104, 32, 40, 96, 80, 88, 152, 128, 144 };

static void put_frame(void *frame, const void *gregs, uint64_t sigmask, uint64_t fp)
{
	const uint64_t flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
	// Flags that sigaltstack(2) refuses; restore_altstack() ignores the refusal, so that the
	// thread keeps the alternate stack that it has.
	const uint32_t stack_flags = 4;
	uint8_t *const to = frame;
	const uint8_t *const from = gregs;

	memcpy(to + UC_FLAGS, &flags, sizeof(flags));
	memcpy(to + UC_STACK_FLAGS, &stack_flags, sizeof(stack_flags));
	for (size_t i = 0; i < sizeof(gregs_of); i++)
		memcpy(to + UC_REGS + 8 * i, from + gregs_of[i], 8);
	memcpy(to + UC_CS, from + GREGS_CS, 2);
	memcpy(to + UC_SS, from + GREGS_SS, 2);
	memcpy(to + UC_FPSTATE, &fp, sizeof(fp));
	memcpy(to + UC_SIGMASK, &sigmask, sizeof(sigmask));
}

static uint64_t thread_pointer(const void *gregs, const void *tls, size_t tls_size)
{
	uint64_t base;

	(void)tls;
	(void)tls_size;
	memcpy(&base, (const char *)gregs + GREGS_FS_BASE, sizeof(base));
	return base;
}

const struct arch_remote arch_x86_64_remote = {
	.call = { { .size = 3, .bytes = { 0x0f, 0x05, 0xc3 } } },
	.sigreturn = {
		{ .size = 9, .bytes = { 0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05 } },
		{ .size = 7, .bytes = { 0xb8, 15, 0, 0, 0, 0x0f, 0x05 } },
	},
	.pop_nr = { .size = 2, .bytes = { 0x58, 0xc3 } },
	.code_align = 1,
	.call_size = 2,
	.red_zone = 128,
	.loaded_nr = x86_loaded_nr,
	.frame_size = FRAME_SIZE,
	.frame_align = 8,
	.put_frame = put_frame,
	.xstate_regset = X86_XSTATE_REGSET,
	.fp_size = x86_fp_size,
	.put_fp = x86_put_fp,
	.map_size = 4096,
	.thread_pointer = thread_pointer,
	.features_line = "x86_Thread_features:",
	.shadow_stack = "shstk",
	.audit = 0xc000003e,
	.nr = {
		.chdir = 80,
		.chroot = 161,
		.clone = 56,
		.close = 3,
		.close_range = 436,
		.exit = 60,
		.exit_group = 231,
		.mmap = 9,
		.munmap = 11,
		.prctl = 157,
		.restart_syscall = 219,
		.rt_sigreturn = 15,
		.unshare = 272,
		.userfaultfd = 323,
		.vfork = 58,
		.wait4 = 61,
	},
	// poll, nanosleep, futex, clock_nanosleep
	.timed_calls = { 7, 35, 202, 230 },
};
