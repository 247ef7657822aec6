/* SPDX-License-Identifier: BSD-3-Clause */
// How much memory the dumper may take to hold that of the target.
#ifndef CORESNAP_BUDGET_H
#define CORESNAP_BUDGET_H

#include <stdint.h>

#include "coresnap.h"

// Bytes: what the options say, or a part of what the system has; never more than the dumper's control
// group can bear.
uint64_t budget_of_stage(const struct coresnap_options *options);

#endif
