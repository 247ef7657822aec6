/* SPDX-License-Identifier: BSD-3-Clause */
// What the caller asks for, checked before anything is touched.
#ifndef CORESNAP_OPTIONS_H
#define CORESNAP_OPTIONS_H

#include "coresnap.h"
#include "error.h"

// Reads the caller's struct, which may be shorter or longer than ours; NULL: the defaults.
int must_check options_read(struct coresnap_options *to, const struct coresnap_options *from,
			    struct coresnap_error *err);

#endif
