/* SPDX-License-Identifier: BSD-3-Clause */
// How much memory the dumper may take to make a pause shorter.
#ifndef CORESNAP_BUDGET_H
#define CORESNAP_BUDGET_H

#include <stdint.h>

#include "coresnap.h"

// Bytes that staging may take: what was asked for or an eighth of what is available, and no more than
// half of what the dumper's control group has left.
uint64_t budget_stage(const struct coresnap_options *options);

#endif
