/* SPDX-License-Identifier: BSD-3-Clause */
// System calls injected into a thread of the target that restores itself.
//
// X: the thread, stopped   D: the dumper
//
//   D: writes below X's stack pointer, or where else there is room, the address of a sigreturn sequence,
//      and behind it the signal frame that this reads, with X's registers and signal mask
//   D: one SETREGSET: pc = "syscall; ret", sp = that word       from here X restores itself
//   D: blocks all signals of X (the frame undoes it)
//   D: PTRACE_SYSCALL, twice; reads the result
//   … more calls, each by a SETREGSET at the exit of the one before …
//   D: signal mask back, then registers back, then the bytes where the frame was
//
// Dies D at any of these steps, then the kernel detaches X, X finishes the call, returns into
// sigreturn and goes on where it was. Signal mask before registers: a D that dies between the two
// leaves a frame that still does it all; the other way round all signals would stay blocked.
//
// The normal way back is not by sigreturn, because that forgets what a timed call needs to restart
// with the remaining time (restart_block).
//
// Where the kernel has put X back before the call that it will restart, and forgotten why (struct
// arch, rewinds), plain registers would make X take a signal first and then the call, which the
// signal was to end. There the way back is by the entry of that call:
//
//   D: a call by the same means, with arguments that it refuses
//   X: stops at its entry: nothing has been done yet
//   D: signal mask back; the number of X's own call; its registers, behind the instruction
//
// From that stop X goes on into its call, where a signal that came meanwhile ends it as it should.
// Dies D before the last step, the refused call returns into the frame. A timed call is let run to
// its entry once before anything is injected: there the kernel tells by its number
// (restart_syscall) that it has kept the time that remains, and by that number it is entered again.
#ifndef CORESNAP_REMOTE_H
#define CORESNAP_REMOTE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "arch/arch_remote.h"
#include "arena.h"
#include "freeze.h"
#include "gadget.h"
#include "target.h"

// Ends a frame that is not on X's own stack, so that it is known again when D was killed.
#define REMOTE_MARK "coresnap puts a frame here as long as it makes calls"

#define REMOTE_CALL_NS 5000000000u // the calls injected into X take microseconds

struct remote {
	const struct target *target;
	struct arena *arena;
	struct thread *thread; // X
	struct gadgets gadgets;
	// The call that X is in, should it be restarted from its start, or -1.
	int32_t restart_nr;
	uint8_t call_size; // where X stands before that call: bytes of its instruction; else 0
	bool timed;        // and it may have been interrupted with time remaining
	uint64_t room_end; // of unused memory for the frame; 0: it is put below X's stack pointer
	uint64_t sp;       // of the injected calls: the first word above
	uint64_t frame;
	size_t frame_size;    // bytes from frame that were overwritten
	uint8_t *frame_bytes; // their content before
	struct arch_fp fp;    // X's
	bool injected;        // X's registers are ours
	bool prepared;        // X has options set
	bool blocked;         // and all signals blocked
	bool lost;            // X did not come back from a call: only the frame can restore it
	int32_t entry_nr;     // the call to be entered in the end
	uint64_t entry_nr_register;
};

// Writes the frame. Nothing of X has changed if this fails.
int must_check remote_begin(struct remote *remote);

// Runs one call in X. Its result, which may be a negative errno of the call, goes to *result; a
// thread or process that it made, stopped at its birth and traced, to *born (may be NULL). Returns
// a negative errno when the call was not run to its end.
int must_check remote_call(struct remote *remote, int32_t nr, const uint64_t args[6],
			   int64_t *result, pid_t *born);

// Gives X everything back. Does nothing when there is nothing to give back.
void remote_end(struct remote *remote);

// A link of a chain that a thread with no tracer runs through: a return address into sigreturn and
// a frame whose registers are those of a call. next: address of the link that follows.
struct remote_link {
	int32_t nr;
	uint64_t args[6];
	uint64_t next;
};

// Links lie in a row: bytes from one to the next, the address of one, and the link itself, into the
// zeroed bytes of the row.
size_t remote_link_stride(const struct remote *remote);
uint64_t remote_link_at(const struct remote *remote, uint64_t page, size_t index);
void remote_put_link(const struct remote *remote, uint8_t *buf, size_t index,
		     const struct remote_link *link);

// Sets gregs up for a call that returns to the chain at sp.
void remote_set_call(const struct arch *arch, const struct gadgets *gadgets, void *gregs,
		     int32_t nr, const uint64_t args[6], uint64_t sp);

// Lets a stopped tracee whose registers are set up run one call to its exit stop.
int must_check remote_run_call(pid_t tid, uint64_t deadline_ns, pid_t *born);

// Registers of a stopped tracee; *len gets their size.
int must_check remote_get_gregs(pid_t tid, void *gregs, size_t size, size_t *len);
int must_check remote_set_gregs(pid_t tid, const void *gregs, size_t len);

// Waits for a stop of a tracee that the kernel attached at its birth. 0 or a negative errno.
int must_check remote_wait_birth(pid_t tid, uint64_t deadline_ns);

// Lets a stopped tracee run, at first with a signal, until it has come to so many stops at entries
// and exits of calls.
int must_check remote_run(pid_t tid, uint64_t deadline_ns, unsigned int syscall_stops, int signal,
			  pid_t *born);

// Of X before a call that it will make again: what call that is, and its entry (drawn above).
int must_check remote_look_at_entry(struct remote *remote);
int must_check remote_enter(struct remote *remote);

long remote_set_sigmask(pid_t tid, uint64_t mask);

// ptrace(2) and freeze_wait() with a kill point before them.
long remote_ptrace(long request, pid_t tid, uintptr_t addr, uintptr_t data);
int remote_wait(pid_t tid, uint64_t deadline_ns, int *status);

#endif
