/* SPDX-License-Identifier: BSD-3-Clause */
// Code of the target that injected calls run on: nothing executable is ever written or mapped.
#ifndef CORESNAP_GADGET_H
#define CORESNAP_GADGET_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/arch_remote.h"
#include "maps.h"
#include "target.h"

// Addresses of Thumb code have their bit 0 set.
struct gadgets {
	uint64_t call; // system call instruction, then a return
	const struct arch_code *call_code;
	uint64_t sigreturn; // loads rt_sigreturn's number and calls; 0: by pop_nr and call
	uint64_t pop_nr;
};

// Finds them in code that stays mapped as long as the program lives: the vdso, the C library, the
// executable. The call is not the one at address avoid. -ENOENT when one is missing.
int must_check gadget_find(struct gadgets *gadgets, const struct target *target,
			   const struct maps *maps, uint64_t avoid);

// Are they still there, and is the call not at avoid? For what was found before the target was
// stopped.
bool gadget_check(const struct gadgets *gadgets, const struct target *target, uint64_t avoid);

// Does a system call instruction stand at an address? Also where that cannot be read.
bool gadget_is_call(const struct target *target, uint64_t address);

// Where a thread is after the system call instruction; without the bit of Thumb code.
uint64_t gadget_behind_call(const struct gadgets *gadgets, const struct arch_remote *facts);

#endif
