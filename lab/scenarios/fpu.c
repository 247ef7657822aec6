/* SPDX-License-Identifier: BSD-3-Clause */
// Threads that spin in user mode with a pattern in every general and vector register, by the means
// of each architecture.
#include "scenario.h"

#include "spin.h"

#if defined(__x86_64__) || defined(__i386__)
#include "fpu_x86.h"
#elif defined(__arm__)
#include "fpu_arm.h"
#elif defined(__aarch64__)
#include "fpu_aarch64.h"
#endif

int main(void)
{
	scenario_begin();
	fpu_start();
	scenario_hold(spin_verify, NULL);
}
