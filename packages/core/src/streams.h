/* SPDX-License-Identifier: BSD-3-Clause */
// The dumpers that write on while the call that made them has returned; each is to be waited for.
#ifndef CORESNAP_STREAMS_H
#define CORESNAP_STREAMS_H

#include <stdbool.h>

#define STREAMS_MAX 32

// Waits for those that have ended. From any thread or signal handler.
void streams_reap(void);

// Is there room for one more?
bool streams_have_room(void);

void streams_keep(int pid);

#endif
