/* SPDX-License-Identifier: BSD-3-Clause */
// Interrupted system calls: those that Linux fails with EINTR after a stop though no signal came
// are made to restart.
//
// Where the kernel has looked at the result before the stop (struct arch, rewinds), what it would
// have done is done by hand, in three steps:
//
//   D: notes what each thread sleeps in                                      restart_look()
//   D: stops all                                                             freeze_stop()
//   D: gives each thread with EINTR the registers from before its call       restart_calls()
//   D: takes that back from a thread that a handler is going to run in       restart_reconsider()
//
// The last step because a signal that came while the thread was stopped must end its call, as it
// would have without us. One that comes between that look and the thread's release finds the thread
// just before its call. (Letting the thread run to the entry of the call and stop there is no help:
// a thread that is released from a stop takes itself to have a signal, and the call would fail
// again.)
#ifndef CORESNAP_RESTART_H
#define CORESNAP_RESTART_H

#include <stdbool.h>

#include "freeze.h"

// For threads that are attached to and run; disturbs none. Only what is seen here can be restarted
// where it is needed.
void restart_look(struct freeze *freeze);

// Just before the stop, for a thread that was seen in such a call: it may be in another by now.
void restart_look_again(const struct freeze *freeze, struct thread *thread);

// Marks in every stopped thread's gregs_out what must be restarted.
void restart_calls(struct freeze *freeze);

// Just before a thread is released.
void restart_reconsider(const struct target *target, struct thread *thread);

// For restart.c and restart_rewind.c.
const struct arch_eintr_call *restart_eintr_call(const struct arch *arch, int64_t nr);
void restart_rewind(const struct target *target, struct thread *thread);

#endif
