/* SPDX-License-Identifier: BSD-3-Clause */
// Of programs that measure.
#pragma once
#include <stdint.h>
#include <time.h>

// A clock that is never set, in ns.
static inline int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}
