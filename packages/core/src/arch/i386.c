/* SPDX-License-Identifier: BSD-3-Clause */
// i386: struct user_regs_struct of arch/x86/include/asm/user_32.h; regsets in the order of
// x86_32_regsets in arch/x86/kernel/ptrace.c. The same for a 32-bit process on a 64-bit kernel.
#include <elf.h>
#include <string.h>

#include "x86.h"

extern const struct arch_remote arch_i386_remote;

#ifndef NT_PRXFPREG
#define NT_PRXFPREG 0x46e62b7f
#endif

// struct user_desc of arch/x86/include/uapi/asm/ldt.h
struct user_desc {
	uint32_t entry_number;
	uint32_t base_addr;
	uint32_t limit;
	uint32_t flags;
};

// regset_tls_active() counts the used entries; fill_user_desc() of an empty descriptor gives
// base and limit 0 with read_exec_only and seg_not_present set (bits 3 and 5).
static bool tls_unused(const void *bytes, size_t size)
{
	struct user_desc desc;

	for (size_t at = 0; at + sizeof(desc) <= size; at += sizeof(desc)) {
		memcpy(&desc, (const char *)bytes + at, sizeof(desc));
		if (desc.base_addr || desc.limit || (desc.flags & ~0x28u))
			return false;
	}
	return true;
}

static const struct arch_regset regsets[] = {
	{ .owner = "CORE", .type = NT_PRSTATUS, .max_size = 68 },
	{ .owner = "CORE", .type = NT_FPREGSET, .max_size = 108 },
	{ .owner = "LINUX", .type = NT_PRXFPREG, .max_size = 512 },
	{ .owner = "LINUX", .type = NT_X86_XSTATE, .max_size = X86_MAX_XSTATE },
	{ .owner = "LINUX", .type = NT_386_TLS, .max_size = 48, .inactive = tls_unused },
	{ .owner = "LINUX", .type = NT_386_IOPERM, .max_size = 8192 },
};

static const struct arch_eintr_call eintr_calls[] = {
	{ .nr = 3, .timeout = EINTR_TIMEOUT_SOCKET },            // read
	{ .nr = 4, .timeout = EINTR_TIMEOUT_SOCKET },            // write
	{ .nr = 102, .timeout = EINTR_TIMEOUT_SOCKET },          // socketcall
	{ .nr = 117, .timeout = EINTR_TIMEOUT_IPC, .arg = 0 },   // ipc
	{ .nr = 145, .timeout = EINTR_TIMEOUT_SOCKET },          // readv
	{ .nr = 146, .timeout = EINTR_TIMEOUT_SOCKET },          // writev
	{ .nr = 177, .timeout = EINTR_TIMEOUT_PTR, .arg = 2 },   // rt_sigtimedwait
	{ .nr = 247, .timeout = EINTR_TIMEOUT_PTR, .arg = 4 },   // io_getevents
	{ .nr = 256, .timeout = EINTR_TIMEOUT_MS, .arg = 3 },    // epoll_wait
	{ .nr = 319, .timeout = EINTR_TIMEOUT_MS, .arg = 3 },    // epoll_pwait
	{ .nr = 337, .timeout = EINTR_TIMEOUT_SOCKET },          // recvmmsg
	{ .nr = 345, .timeout = EINTR_TIMEOUT_SOCKET },          // sendmmsg
	{ .nr = 362, .timeout = EINTR_TIMEOUT_SOCKET },          // connect
	{ .nr = 364, .timeout = EINTR_TIMEOUT_SOCKET },          // accept4
	{ .nr = 369, .timeout = EINTR_TIMEOUT_SOCKET },          // sendto
	{ .nr = 370, .timeout = EINTR_TIMEOUT_SOCKET },          // sendmsg
	{ .nr = 371, .timeout = EINTR_TIMEOUT_SOCKET },          // recvfrom
	{ .nr = 372, .timeout = EINTR_TIMEOUT_SOCKET },          // recvmsg
	{ .nr = 385, .timeout = EINTR_TIMEOUT_PTR, .arg = 4 },   // io_pgetevents
	{ .nr = 416, .timeout = EINTR_TIMEOUT_PTR, .arg = 4 },   // io_pgetevents_time64
	{ .nr = 417, .timeout = EINTR_TIMEOUT_SOCKET },          // recvmmsg_time64
	{ .nr = 420, .timeout = EINTR_TIMEOUT_PTR, .arg = 3 },   // semtimedop_time64
	{ .nr = 421, .timeout = EINTR_TIMEOUT_PTR, .arg = 2 },   // rt_sigtimedwait_time64
	{ .nr = 426, .timeout = EINTR_TIMEOUT_URING, .arg = 3 }, // io_uring_enter
	{ .nr = 441, .timeout = EINTR_TIMEOUT_PTR, .arg = 3 },   // epoll_pwait2
};

// Callers of set_user_sigmask() (kernel/signal.c), and sigsuspend.
static const int32_t lending_calls[] = {
	72,  // sigsuspend
	179, // rt_sigsuspend
	308, // pselect6
	309, // ppoll
	319, // epoll_pwait
	385, // io_pgetevents
	413, // pselect6_time64
	414, // ppoll_time64
	416, // io_pgetevents_time64
	426, // io_uring_enter
	441, // epoll_pwait2
};

const struct arch arch_i386 = {
	.name = "x86-32",
	.machine = EM_386,
	.elf_class = ELFCLASS32,
	.word = 4,
	.gregs_size = 68,
	.prstatus_size = 144,
	.prpsinfo_size = 124,
	.regsets = regsets,
	.n_regsets = sizeof(regsets) / sizeof(regsets[0]),
	.pc = 48,
	.sp = 60,
	.ret = 24,
	.orig_nr = 44,
	.args = { 0, 4, 8, 12, 16, 20 },
	.lending_calls = lending_calls,
	.n_lending_calls = sizeof(lending_calls) / sizeof(lending_calls[0]),
	.eintr_calls = eintr_calls,
	.n_eintr_calls = sizeof(eintr_calls) / sizeof(eintr_calls[0]),
	.process_note = x86_xsave_layout,
	.process_note_type = X86_XSAVE_LAYOUT,
	.process_note_owner = "LINUX",
	.remote = &arch_i386_remote,
};
