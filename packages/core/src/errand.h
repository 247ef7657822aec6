/* SPDX-License-Identifier: BSD-3-Clause */
// A few system calls that one thread of a running target makes for us, in a short stop of it alone.
//
// X: the thread, as victim.h would choose it   D: the dumper
//
//   D: seizes and stops X; the other threads run on
//   D: injects the calls                                                  (remote.h)
//   D: lets X go
#ifndef CORESNAP_ERRAND_H
#define CORESNAP_ERRAND_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "gadget.h"
#include "remote.h"
#include "seccomp.h"
#include "target.h"
#include "victim.h"

struct errand {
	struct target *target;       // its arch is known; mem_fd is opened anew if reopen says so
	bool reopen;                 // the memory may be another program's by now
	bool strict_timeouts;        // as struct freeze has it
	struct gadgets gadgets;      // looked for anew where they are no longer
	struct victim_memory memory; // of the thread that is tried first; gets the one that did it
	const struct seccomp_call *calls; // what its filters are asked about, without rt_sigreturn
	size_t n_calls;                   // at most ERRAND_MAX_CALLS
	// Asked of the stopped thread before anything is written: false: there is nothing to do any
	// more. May be NULL.
	bool (*needed)(void *arg);
	// Makes the calls. A negative errno if they were not run: another thread's turn.
	int (*work)(void *arg, struct remote *remote);
	void *arg;
};

enum { ERRAND_MAX_CALLS = 4 };

// Tries one thread after the other. 0: it was done, or was not needed; else a negative errno, with
// what tells against the first thread that stood still in err, or that none did.
int must_check errand_run(struct errand *errand, struct coresnap_error *err);

// The result of one injected call, or a negative errno, be it the call's or that of its making.
int64_t must_check errand_call(struct remote *remote, int32_t nr, const uint64_t args[6]);

#endif
