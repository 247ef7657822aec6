/* SPDX-License-Identifier: BSD-3-Clause */
// What the parts of precopy.h share.
#ifndef CORESNAP_PRECOPY_PARTS_H
#define CORESNAP_PRECOPY_PARTS_H

#include "precopy.h"

// Before the first pass; needs the estimate and the selected mappings.
int must_check precopy_open_spool(struct job *job, struct coresnap_error *err);

#endif
