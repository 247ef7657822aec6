/* SPDX-License-Identifier: BSD-3-Clause */
// Interrupted system calls: those that Linux fails with EINTR after a stop though no signal came
// are made to restart.
#ifndef CORESNAP_RESTART_H
#define CORESNAP_RESTART_H

#include <stdbool.h>

#include "freeze.h"

// Marks in every stopped thread's gregs_out what must be restarted. With strict_timeouts a wait
// with a finite timeout is left to fail with EINTR instead of starting anew.
void restart_calls(struct freeze *freeze, bool strict_timeouts);

#endif
