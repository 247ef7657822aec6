/* SPDX-License-Identifier: BSD-3-Clause */
// 32-bit ARM, EABI: r0 to r15, cpsr and ORIG_r0 of arch/arm/include/uapi/asm/ptrace.h; regsets in
// the order of arm_regsets in arch/arm/kernel/ptrace.c. On a 64-bit kernel the core of a 32-bit
// process has no FPA note (aarch32_regsets in arch/arm64/kernel/ptrace.c), and that of a 64-bit
// dumper's request is refused.
#include <elf.h>

#include "arch.h"

extern const struct arch_remote arch_arm_remote;

#ifndef NT_ARM_VFP
#define NT_ARM_VFP 0x400
#endif

static const struct arch_regset regsets[] = {
	{ .owner = "CORE", .type = NT_PRSTATUS, .max_size = 72 },
	{ .owner = "CORE", .type = NT_FPREGSET, .max_size = 116 }, // struct user_fp
	{ .owner = "LINUX", .type = NT_ARM_VFP, .max_size = 260 },
};

// As in x86_64.c; the numbers are those of arch/arm/tools/syscall.tbl.
static const struct arch_eintr_call eintr_calls[] = {
	{ .nr = 3, .timeout = EINTR_TIMEOUT_SOCKET },            // read
	{ .nr = 4, .timeout = EINTR_TIMEOUT_SOCKET },            // write
	{ .nr = 145, .timeout = EINTR_TIMEOUT_SOCKET },          // readv
	{ .nr = 146, .timeout = EINTR_TIMEOUT_SOCKET },          // writev
	{ .nr = 177, .timeout = EINTR_TIMEOUT_PTR, .arg = 2 },   // rt_sigtimedwait
	{ .nr = 245, .timeout = EINTR_TIMEOUT_PTR, .arg = 4 },   // io_getevents
	{ .nr = 252, .timeout = EINTR_TIMEOUT_MS, .arg = 3 },    // epoll_wait
	{ .nr = 283, .timeout = EINTR_TIMEOUT_SOCKET },          // connect
	{ .nr = 285, .timeout = EINTR_TIMEOUT_SOCKET },          // accept
	{ .nr = 289, .timeout = EINTR_TIMEOUT_SOCKET },          // send
	{ .nr = 290, .timeout = EINTR_TIMEOUT_SOCKET },          // sendto
	{ .nr = 291, .timeout = EINTR_TIMEOUT_SOCKET },          // recv
	{ .nr = 292, .timeout = EINTR_TIMEOUT_SOCKET },          // recvfrom
	{ .nr = 296, .timeout = EINTR_TIMEOUT_SOCKET },          // sendmsg
	{ .nr = 297, .timeout = EINTR_TIMEOUT_SOCKET },          // recvmsg
	{ .nr = 298, .timeout = EINTR_NO_TIMEOUT },              // semop
	{ .nr = 312, .timeout = EINTR_TIMEOUT_PTR, .arg = 3 },   // semtimedop
	{ .nr = 346, .timeout = EINTR_TIMEOUT_MS, .arg = 3 },    // epoll_pwait
	{ .nr = 365, .timeout = EINTR_TIMEOUT_SOCKET },          // recvmmsg
	{ .nr = 366, .timeout = EINTR_TIMEOUT_SOCKET },          // accept4
	{ .nr = 374, .timeout = EINTR_TIMEOUT_SOCKET },          // sendmmsg
	{ .nr = 399, .timeout = EINTR_TIMEOUT_PTR, .arg = 4 },   // io_pgetevents
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
	335, // pselect6
	336, // ppoll
	346, // epoll_pwait
	399, // io_pgetevents
	413, // pselect6_time64
	414, // ppoll_time64
	416, // io_pgetevents_time64
	426, // io_uring_enter
	441, // epoll_pwait2
};

const struct arch arch_arm = {
	.name = "arm",
	.machine = EM_ARM,
	.elf_class = ELFCLASS32,
	.word = 4,
	.gregs_size = 72,
	.prstatus_size = 148,
	.prpsinfo_size = 124,
	.regsets = regsets,
	.n_regsets = sizeof(regsets) / sizeof(regsets[0]),
	.pc = 60,
	.sp = 52,
	.ret = 0,
	.orig_nr = 28, // r7
	.args = { 0, 4, 8, 12, 16, 20 },
	.rewinds = true,
	.orig_arg0 = 68,
	.lending_calls = lending_calls,
	.n_lending_calls = sizeof(lending_calls) / sizeof(lending_calls[0]),
	.eintr_calls = eintr_calls,
	.n_eintr_calls = sizeof(eintr_calls) / sizeof(eintr_calls[0]),
	.remote = &arch_arm_remote,
};
