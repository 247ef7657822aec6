/* SPDX-License-Identifier: BSD-3-Clause */
// Scope guards: a resource is released when its name goes out of scope.
#ifndef CORESNAP_CLEANUP_H
#define CORESNAP_CLEANUP_H

#include "sys.h"

#define guard(release) __attribute__((cleanup(release)))

static inline void guard_close(const int *fd)
{
	if (*fd >= 0)
		sys_close(*fd);
}

#endif
