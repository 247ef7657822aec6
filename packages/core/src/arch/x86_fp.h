/* SPDX-License-Identifier: BSD-3-Clause */
// The extended state in a signal frame of the x86 architectures.
#ifndef CORESNAP_ARCH_X86_FP_H
#define CORESNAP_ARCH_X86_FP_H

#include "arch_remote.h"

#define X86_XSTATE_REGSET 0x202 // NT_X86_XSTATE
#define X86_FP_REGSET     2     // NT_PRFPREG

// An XSAVE area with the two marks by which sigreturn knows that it is more than the 512 bytes of
// FXSAVE. As short as the state in use allows.
size_t x86_fp_size(const struct arch_fp *fp);
void x86_put_fp(void *block, const struct arch_fp *fp);

// struct arch_remote, loaded_nr: mov $constant, %eax
int32_t x86_loaded_nr(const uint8_t *code);

#endif
