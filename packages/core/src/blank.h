/* SPDX-License-Identifier: BSD-3-Clause */
// Memory of a target that holds nothing, and looking at it without making pages of it.
#ifndef CORESNAP_BLANK_H
#define CORESNAP_BLANK_H

#include <stdbool.h>
#include <stdint.h>

#include "target.h"

// Is there a page at an address?
bool blank_has_page(const struct target *target, uint64_t address);

// Does a range of whole pages hold nothing but zeros, or not even pages? false where it cannot be told.
bool blank_range(const struct target *target, uint64_t start, uint64_t end);

#endif
