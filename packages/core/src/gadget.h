/* SPDX-License-Identifier: BSD-3-Clause */
// Code of the target that injected calls run on: nothing executable is ever written or mapped.
#ifndef CORESNAP_GADGET_H
#define CORESNAP_GADGET_H

#include <stdbool.h>
#include <stdint.h>

#include "maps.h"
#include "target.h"

struct gadgets {
	uint64_t call;      // system call instruction, then a return
	unsigned int pops;  // words that it pops before the return
	uint64_t sigreturn; // loads rt_sigreturn's number and calls; 0: by pop_nr and call
	uint64_t pop_nr;
};

// Finds them in code that stays mapped as long as the program lives: the vdso, the C library, the
// executable. -ENOENT when one is missing.
int must_check gadget_find(struct gadgets *gadgets, const struct target *target,
			   const struct maps *maps);

// Are they still there? For what was found before the target was stopped.
bool gadget_check(const struct gadgets *gadgets, const struct target *target);

#endif
