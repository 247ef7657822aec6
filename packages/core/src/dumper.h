/* SPDX-License-Identifier: BSD-3-Clause */
// The process that does the work, beside the program that asked for it.
//
// C: the calling thread   D: the dumper, clone(CLONE_VM) of C: same memory, nothing else shared
//
//   C: blocks all signals, clones D, takes its own mask back
//   C: names D by PR_SET_PTRACER when D shall dump C's own process; says "go"
//   D: closes every descriptor but those it was given; works; exits
//   C: waits for D's end, awake every 20 ms to call the progress callback
//
// Why a process: ptrace stops are reported to the tracer's process, and a program with a
// waitpid(-1) of its own would collect them; a tracee that would not stop in time is let go by the
// kernel only when its tracer ends; a thread cannot trace its own process; D's end, for whatever
// reason, releases every stopped thread. Why CLONE_VM: nothing has to be copied, and results and
// progress need no channel. D runs on a stack of its own and never returns into the program.
#ifndef CORESNAP_DUMPER_H
#define CORESNAP_DUMPER_H

#include <stdbool.h>

#include "arena.h"
#include "error.h"

enum dumper_owner {
	DUMPER_BOTH,  // D works, C waits
	DUMPER_ENDED, // D has ended: the arena is C's
	DUMPER_ALONE, // C has returned: D unmaps the arena when it ends
};

struct dumper {
	int (*work)(void *arg); // runs in D; its return value is dumper_run()'s
	void *arg;
	// Called in C at least every 20 ms, except while C is stopped; non-zero sets cancel.
	int (*tick)(void *arg);
	void *tick_arg;
	const int *stopped; // non-zero while the target stands still; set by work()
	int keep[2];        // descriptors that D needs; -1: none
	bool own_process;   // D dumps C's process: it is named as tracer and survives C
	// D may go on alone once there is something to read here: C returns then. -1: it may not.
	int ready_fd;
	void (*on_ready)(void *arg); // called in C before that

	const struct arena *arena; // set by dumper_run(): that D's stack is in

	// Shared between C and D.
	int go;     // futex: set once D may begin
	int cancel; // set by C when the callback asks to stop
	int done;   // set by D when work() has returned
	int result; // what it returned
	int owner;  // enum dumper_owner of the arena
	int pid;    // D
	int caller; // the program's process id
	int caller_tid;
};

// Returned by dumper_run() when D goes on alone: nothing in the arena may be touched any more. D must be
// waited for (with __WALL) at some time; on_ready() was told of it in time.
#define DUMPER_GOES_ON 1000

// Runs dumper->work in a process of its own. Returns its result; a negative errno with err filled
// when D could not be made or died.
int must_check dumper_run(struct dumper *dumper, struct arena *arena, struct coresnap_error *err);

#endif
