/* SPDX-License-Identifier: BSD-3-Clause */
// AArch64: struct user_pt_regs of arch/arm64/include/uapi/asm/ptrace.h; regsets in the order of
// aarch64_regsets in arch/arm64/kernel/ptrace.c. FPMR, ZT, POE and GCS came after Linux 6.1.
#include <elf.h>
#include <string.h>

#include "arch.h"

extern const struct arch_remote arch_aarch64_remote;

// include/uapi/linux/elf.h; elf.h of older C libraries ends earlier.
enum {
	ARM_TLS = 0x401,
	ARM_HW_BREAK = 0x402,
	ARM_HW_WATCH = 0x403,
	ARM_SYSTEM_CALL = 0x404,
	ARM_SVE = 0x405,
	ARM_PAC_MASK = 0x406,
	ARM_PACA_KEYS = 0x407,
	ARM_PACG_KEYS = 0x408,
	ARM_TAGGED_ADDR_CTRL = 0x409,
	ARM_PAC_ENABLED_KEYS = 0x40a,
	ARM_SSVE = 0x40b,
	ARM_ZA = 0x40c,
	ARM_ZT = 0x40d,
	ARM_FPMR = 0x40e,
	ARM_POE = 0x40f,
	ARM_GCS = 0x410,
};

// struct user_sve_header and struct user_za_header, which are alike
struct vector_header {
	uint32_t size; // bytes of header and registers
	uint32_t max_size;
	uint16_t vl, max_vl; // bytes of a vector
	uint16_t flags;
	uint16_t reserved;
};
_Static_assert(sizeof(struct vector_header) == 16, "user_sve_header");

// The header tells the length; it is rounded up to a quadword (sve_get_common, za_get).
static size_t vector_size(const void *bytes, size_t size)
{
	struct vector_header header;

	if (size < sizeof(header))
		return size;
	memcpy(&header, bytes, sizeof(header));
	const size_t told = ((size_t)header.size + 15) & ~(size_t)15;

	return told >= sizeof(header) && told < size ? told : size;
}

// Of the mode (streaming or not) that the thread is not in, kernels since Linux 6.16 give nothing
// but the header; where sve_get_common() then says that it has filled everything, the note is as
// long as the regset, and zero.
static size_t sve_size(const void *bytes, size_t size)
{
	const size_t told = vector_size(bytes, size);

	if (told == sizeof(struct vector_header) && told < size &&
	    ((const uint8_t *)bytes)[told] == 0)
		return size;
	return told;
}

// The sizes are those of the longest vectors that Linux knows, 256 bytes; ZA is a square of them.
static const struct arch_regset regsets[] = {
	{ .owner = "CORE", .type = NT_PRSTATUS, .max_size = 272 },
	{ .owner = "CORE", .type = NT_FPREGSET, .max_size = 528 },
	{ .owner = "LINUX", .type = ARM_TLS, .max_size = 16 },
	{ .owner = "LINUX", .type = ARM_HW_BREAK, .max_size = 264 },
	{ .owner = "LINUX", .type = ARM_HW_WATCH, .max_size = 264 },
	{ .owner = "LINUX", .type = ARM_FPMR, .max_size = 8 },
	{ .owner = "LINUX", .type = ARM_SYSTEM_CALL, .max_size = 4 },
	{ .owner = "LINUX", .type = ARM_SVE, .max_size = 16384, .note_size = sve_size },
	{ .owner = "LINUX", .type = ARM_SSVE, .max_size = 16384, .note_size = sve_size },
	{ .owner = "LINUX", .type = ARM_ZA, .max_size = 65552, .note_size = vector_size },
	{ .owner = "LINUX", .type = ARM_ZT, .max_size = 64 },
	{ .owner = "LINUX", .type = ARM_PAC_MASK, .max_size = 16 },
	{ .owner = "LINUX", .type = ARM_PAC_ENABLED_KEYS, .max_size = 8 },
	{ .owner = "LINUX", .type = ARM_PACA_KEYS, .max_size = 64 },
	{ .owner = "LINUX", .type = ARM_PACG_KEYS, .max_size = 16 },
	{ .owner = "LINUX", .type = ARM_TAGGED_ADDR_CTRL, .max_size = 8 },
	{ .owner = "LINUX", .type = ARM_POE, .max_size = 8 },
	{ .owner = "LINUX", .type = ARM_GCS, .max_size = 24 },
};
_Static_assert(sizeof(regsets) / sizeof(regsets[0]) <= ARCH_MAX_REGSETS, "ARCH_MAX_REGSETS");

// As in x86_64.c; the numbers are those of include/uapi/asm-generic/unistd.h.
static const struct arch_eintr_call eintr_calls[] = {
	{ .nr = 4, .timeout = EINTR_TIMEOUT_PTR, .arg = 4 },     // io_getevents
	{ .nr = 22, .timeout = EINTR_TIMEOUT_MS, .arg = 3 },     // epoll_pwait
	{ .nr = 63, .timeout = EINTR_TIMEOUT_SOCKET },           // read
	{ .nr = 64, .timeout = EINTR_TIMEOUT_SOCKET },           // write
	{ .nr = 65, .timeout = EINTR_TIMEOUT_SOCKET },           // readv
	{ .nr = 66, .timeout = EINTR_TIMEOUT_SOCKET },           // writev
	{ .nr = 137, .timeout = EINTR_TIMEOUT_PTR, .arg = 2 },   // rt_sigtimedwait
	{ .nr = 192, .timeout = EINTR_TIMEOUT_PTR, .arg = 3 },   // semtimedop
	{ .nr = 193, .timeout = EINTR_NO_TIMEOUT },              // semop
	{ .nr = 202, .timeout = EINTR_TIMEOUT_SOCKET },          // accept
	{ .nr = 203, .timeout = EINTR_TIMEOUT_SOCKET },          // connect
	{ .nr = 206, .timeout = EINTR_TIMEOUT_SOCKET },          // sendto
	{ .nr = 207, .timeout = EINTR_TIMEOUT_SOCKET },          // recvfrom
	{ .nr = 211, .timeout = EINTR_TIMEOUT_SOCKET },          // sendmsg
	{ .nr = 212, .timeout = EINTR_TIMEOUT_SOCKET },          // recvmsg
	{ .nr = 242, .timeout = EINTR_TIMEOUT_SOCKET },          // accept4
	{ .nr = 243, .timeout = EINTR_TIMEOUT_SOCKET },          // recvmmsg
	{ .nr = 269, .timeout = EINTR_TIMEOUT_SOCKET },          // sendmmsg
	{ .nr = 292, .timeout = EINTR_TIMEOUT_PTR, .arg = 4 },   // io_pgetevents
	{ .nr = 426, .timeout = EINTR_TIMEOUT_URING, .arg = 3 }, // io_uring_enter
	{ .nr = 441, .timeout = EINTR_TIMEOUT_PTR, .arg = 3 },   // epoll_pwait2
};

// Callers of set_user_sigmask() (kernel/signal.c), and sigsuspend.
static const int32_t lending_calls[] = {
	22,  // epoll_pwait
	72,  // pselect6
	73,  // ppoll
	133, // rt_sigsuspend
	292, // io_pgetevents
	426, // io_uring_enter
	441, // epoll_pwait2
};

const struct arch arch_aarch64 = {
	.name = "arm64",
	.machine = EM_AARCH64,
	.elf_class = ELFCLASS64,
	.word = 8,
	.gregs_size = 272,
	.prstatus_size = 392,
	.prpsinfo_size = 136,
	.regsets = regsets,
	.n_regsets = sizeof(regsets) / sizeof(regsets[0]),
	.pc = 256,
	.sp = 248,
	.ret = 0,
	.orig_nr = 64, // x8
	.args = { 0, 8, 16, 24, 32, 40 },
	.rewinds = true,
	.lending_calls = lending_calls,
	.n_lending_calls = sizeof(lending_calls) / sizeof(lending_calls[0]),
	.eintr_calls = eintr_calls,
	.n_eintr_calls = sizeof(eintr_calls) / sizeof(eintr_calls[0]),
	// PT_AARCH64_MEMTAG_MTE, PTRACE_PEEKMTETAGS (arch/arm64/include/uapi/asm/ptrace.h),
	// MTE_GRANULE_SIZE (arch/arm64/include/asm/mte-def.h)
	.tags = { .segment = 0x70000002, .peek = 33, .covers = 16 },
	.remote = &arch_aarch64_remote,
};
