/* SPDX-License-Identifier: BSD-3-Clause */
// Layouts of note descriptions, spelled by width so that any host writes any target's.
//
// Source: include/linux/elfcore.h and include/linux/elfcore-compat.h of the Linux kernel
// (struct elf_prstatus, elf_prpsinfo and their compat twins); __kernel_uid_t is 16 bits wide on
// i386 and arm (include/uapi/asm-generic/posix_types.h, arch overrides).
#ifndef CORESNAP_LAYOUT_H
#define CORESNAP_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

// What precedes pr_reg in prstatus; pr_reg is followed by int pr_fpvalid and padding to a long.
struct layout_prstatus64 {
	int32_t si_signo;
	int32_t si_code;
	int32_t si_errno;
	int16_t cursig;
	uint16_t pad;
	uint64_t sigpend;
	uint64_t sighold;
	int32_t pid;
	int32_t ppid;
	int32_t pgrp;
	int32_t sid;
	int64_t utime[2];
	int64_t stime[2];
	int64_t cutime[2];
	int64_t cstime[2];
};
_Static_assert(sizeof(struct layout_prstatus64) == 112, "pr_reg of a 64-bit prstatus");
_Static_assert(offsetof(struct layout_prstatus64, sigpend) == 16, "pr_sigpend");
_Static_assert(offsetof(struct layout_prstatus64, pid) == 32, "pr_pid");

struct layout_prstatus32 {
	int32_t si_signo;
	int32_t si_code;
	int32_t si_errno;
	int16_t cursig;
	uint16_t pad;
	uint32_t sigpend;
	uint32_t sighold;
	int32_t pid;
	int32_t ppid;
	int32_t pgrp;
	int32_t sid;
	int32_t utime[2];
	int32_t stime[2];
	int32_t cutime[2];
	int32_t cstime[2];
};
_Static_assert(sizeof(struct layout_prstatus32) == 72, "pr_reg of a 32-bit prstatus");
_Static_assert(offsetof(struct layout_prstatus32, pid) == 24, "pr_pid");

struct layout_prpsinfo64 {
	int8_t state;
	char sname;
	int8_t zomb;
	int8_t nice;
	uint32_t pad;
	uint64_t flag;
	uint32_t uid;
	uint32_t gid;
	int32_t pid;
	int32_t ppid;
	int32_t pgrp;
	int32_t sid;
	char fname[16];
	char psargs[80];
};
_Static_assert(sizeof(struct layout_prpsinfo64) == 136, "64-bit prpsinfo");

// With 16-bit ids (i386, arm).
struct layout_prpsinfo32 {
	int8_t state;
	char sname;
	int8_t zomb;
	int8_t nice;
	uint32_t flag;
	uint16_t uid;
	uint16_t gid;
	int32_t pid;
	int32_t ppid;
	int32_t pgrp;
	int32_t sid;
	char fname[16];
	char psargs[80];
};
_Static_assert(sizeof(struct layout_prpsinfo32) == 124, "32-bit prpsinfo");

#define LAYOUT_SIGINFO_SIZE 128

#endif
