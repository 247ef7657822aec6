/* SPDX-License-Identifier: BSD-3-Clause */
// x86-64: struct user_regs_struct of arch/x86/include/asm/user_64.h; regsets in the order of
// x86_64_regsets in arch/x86/kernel/ptrace.c.
#include <elf.h>

#include "x86.h"

extern const struct arch_remote arch_x86_64_remote;

#ifndef NT_X86_SHSTK
#define NT_X86_SHSTK 0x204
#endif

static const struct arch_regset regsets[] = {
	{ .owner = "CORE", .type = NT_PRSTATUS, .max_size = 216 },
	{ .owner = "CORE", .type = NT_FPREGSET, .max_size = 512 },
	{ .owner = "LINUX", .type = NT_386_IOPERM, .max_size = 8192 },
	{ .owner = "LINUX", .type = NT_X86_XSTATE, .max_size = X86_MAX_XSTATE },
	{ .owner = "LINUX", .type = NT_X86_SHSTK, .max_size = 8, .absent = x86_no_shadow_stacks },
};

// signal(7), "Interruption of system calls and library functions by stop signals"; the calls on
// sockets are there because of SO_RCVTIMEO and SO_SNDTIMEO (sock_intr_errno in include/net/sock.h).
static const struct arch_eintr_call eintr_calls[] = {
	{ .nr = 0, .timeout = EINTR_TIMEOUT_SOCKET },            // read
	{ .nr = 1, .timeout = EINTR_TIMEOUT_SOCKET },            // write
	{ .nr = 19, .timeout = EINTR_TIMEOUT_SOCKET },           // readv
	{ .nr = 20, .timeout = EINTR_TIMEOUT_SOCKET },           // writev
	{ .nr = 42, .timeout = EINTR_TIMEOUT_SOCKET },           // connect
	{ .nr = 43, .timeout = EINTR_TIMEOUT_SOCKET },           // accept
	{ .nr = 44, .timeout = EINTR_TIMEOUT_SOCKET },           // sendto
	{ .nr = 45, .timeout = EINTR_TIMEOUT_SOCKET },           // recvfrom
	{ .nr = 46, .timeout = EINTR_TIMEOUT_SOCKET },           // sendmsg
	{ .nr = 47, .timeout = EINTR_TIMEOUT_SOCKET },           // recvmsg
	{ .nr = 65, .timeout = EINTR_NO_TIMEOUT },               // semop
	{ .nr = 128, .timeout = EINTR_TIMEOUT_PTR, .arg = 2 },   // rt_sigtimedwait
	{ .nr = 208, .timeout = EINTR_TIMEOUT_PTR, .arg = 4 },   // io_getevents
	{ .nr = 220, .timeout = EINTR_TIMEOUT_PTR, .arg = 3 },   // semtimedop
	{ .nr = 232, .timeout = EINTR_TIMEOUT_MS, .arg = 3 },    // epoll_wait
	{ .nr = 281, .timeout = EINTR_TIMEOUT_MS, .arg = 3 },    // epoll_pwait
	{ .nr = 288, .timeout = EINTR_TIMEOUT_SOCKET },          // accept4
	{ .nr = 299, .timeout = EINTR_TIMEOUT_SOCKET },          // recvmmsg
	{ .nr = 307, .timeout = EINTR_TIMEOUT_SOCKET },          // sendmmsg
	{ .nr = 333, .timeout = EINTR_TIMEOUT_PTR, .arg = 4 },   // io_pgetevents
	{ .nr = 426, .timeout = EINTR_TIMEOUT_URING, .arg = 3 }, // io_uring_enter
	{ .nr = 441, .timeout = EINTR_TIMEOUT_PTR, .arg = 3 },   // epoll_pwait2
};

// Callers of set_user_sigmask() (kernel/signal.c), and sigsuspend.
static const int32_t lending_calls[] = {
	130, // rt_sigsuspend
	270, // pselect6
	271, // ppoll
	281, // epoll_pwait
	333, // io_pgetevents
	426, // io_uring_enter
	441, // epoll_pwait2
};

const struct arch arch_x86_64 = {
	.name = "x86-64",
	.machine = EM_X86_64,
	.elf_class = ELFCLASS64,
	.word = 8,
	.gregs_size = 216,
	.prstatus_size = 336,
	.prpsinfo_size = 136,
	.regsets = regsets,
	.n_regsets = sizeof(regsets) / sizeof(regsets[0]),
	.pc = 128,
	.sp = 152,
	.ret = 80,
	.orig_nr = 120,
	.args = { 112, 104, 96, 56, 72, 64 },
	.lending_calls = lending_calls,
	.n_lending_calls = sizeof(lending_calls) / sizeof(lending_calls[0]),
	.eintr_calls = eintr_calls,
	.n_eintr_calls = sizeof(eintr_calls) / sizeof(eintr_calls[0]),
	.process_note = x86_xsave_layout,
	.process_note_type = X86_XSAVE_LAYOUT,
	.process_note_owner = "LINUX",
	.remote = &arch_x86_64_remote,
};
