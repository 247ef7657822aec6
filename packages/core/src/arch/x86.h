/* SPDX-License-Identifier: BSD-3-Clause */
// What the two x86 rows share.
#ifndef CORESNAP_ARCH_X86_H
#define CORESNAP_ARCH_X86_H

#include "arch.h"

// XSAVE areas with AMX tile data have 11 KiB; what PTRACE_GETREGSET returns is used as it is.
#define X86_MAX_XSTATE 16384

// NT_X86_XSAVE_LAYOUT from CPUID leaf 0xD, as arch/x86/kernel/fpu/xstate.c writes it (Linux
// kernel commit ba386777a30b ("x86/elf: Add a new FPU buffer layout info to x86 core files") (in
// v6.12)). 0 on a host that is not x86.
#define X86_XSAVE_LAYOUT 0x205 // NT_X86_XSAVE_LAYOUT
size_t x86_xsave_layout(void *buf, size_t size);

// Has the processor no shadow stacks? Then the kernel has none for its threads.
bool x86_no_shadow_stacks(void);

#endif
