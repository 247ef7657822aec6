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

// Of what outlives the scope: who closes it again shall not close what has its number by then.
static inline void close_once(int *fd)
{
	guard_close(fd);
	*fd = -1;
}

#endif
