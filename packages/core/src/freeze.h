/* SPDX-License-Identifier: BSD-3-Clause */
// All threads of a target stopped, and the promise that they run again.
//
// T: the target's threads   D: the dumper (this thread: ptrace binds a tracee to one thread)
//
//   D: PTRACE_SEIZE each thread found in /proc/PID/task, until a pass finds none new
//   D: reads what does not change
//   D: PTRACE_INTERRUPT each                     T: runs on, or is woken from its system call
//   D: waitpid(tid) each                         T: stops (PTRACE_EVENT_STOP)
//   D: a foreign signal reported instead? hand it over (PTRACE_INTERRUPT, PTRACE_CONT), wait again
//   D: are these all? else list /proc/PID/task again: a thread born meanwhile is seized and stopped
//      likewise
//   D: registers are read; the work is done
//   D: PTRACE_DETACH each                        T: runs on; an interrupted call restarts
#ifndef CORESNAP_FREEZE_H
#define CORESNAP_FREEZE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "arena.h"
#include "error.h"
#include "target.h"

enum thread_state {
	THREAD_SEIZED, // attached, running or on its way to stop
	THREAD_STOPPED,
	THREAD_MISSED, // did not stop in time (uninterruptible sleep, vfork)
	THREAD_GONE,   // exited meanwhile
};

struct thread {
	pid_t tid;
	enum thread_state state;
	bool other_mode; // runs 32-bit code in a 64-bit process: its registers are not kept
	bool group_stop; // stopped by job control: goes back to that stop when detached
	bool changed;    // gregs_out differs from gregs
	int signal;      // that it has stopped for since, and takes when it is detached
	struct restart_sleep *sleep; // what restart_look() saw; NULL: nothing
	uint64_t switches;  // how often it had gone to sleep when it was first seen in state D
	uint64_t seen_ns;   // and when that was; 0: it was not
	uint64_t sigmask;   // PTRACE_GETSIGMASK at the stop
	uint16_t gregs_len; // bytes in gregs
	// The general registers exactly as PTRACE_GETREGSET gave them at the stop (orig_ax and a
	// result of -ERESTART… untouched), and as the thread shall go on.
	uint8_t gregs[288] __attribute__((aligned(8)));
	uint8_t gregs_out[288] __attribute__((aligned(8)));
};

struct freeze {
	struct target *target;
	struct arena *arena;
	struct thread *threads;
	size_t n_threads, cap_threads;
	uint64_t began_ns; // first PTRACE_INTERRUPT
	uint64_t ended_ns; // last PTRACE_DETACH; 0 while frozen
	uint64_t deadline_ns, grace_ns;
	// A wait with a finite timeout is left to fail with EINTR instead of starting anew.
	bool strict_timeouts;
	const int *cancel; // becomes non-zero when the caller gives up; may be NULL
};

// Zero-initialise with the target; then freeze_thaw() is safe at any time, also twice.
void freeze_init(struct freeze *freeze, struct target *target, struct arena *arena);

// Attaches to every thread, which disturbs none: what can be read beforehand is read between this
// and freeze_stop().
int must_check freeze_seize(struct freeze *freeze, struct coresnap_error *err);

// Says that no thread has stopped in time.
int must_check freeze_too_late(const struct target *target, struct coresnap_error *err);

// Stops every thread within timeout_ns, also those born meanwhile; those that do not stop are left
// THREAD_MISSED. What has stopped waits a fifth of it for one that sleeps uninterruptibly. Sets
// target->arch and fills gregs and sigmask of each stopped thread.
int must_check freeze_stop(struct freeze *freeze, uint64_t timeout_ns, struct coresnap_error *err);

// By this the stop timeout is divided for a thread that hangs while others have stopped for it.
enum { FREEZE_GRACE_PART = 5 };

// Gives each thread that is changed its gregs_out, which it then has even if the dumper is killed
// in the next moment.
void freeze_write_registers(struct freeze *freeze);

// Lets every thread run again.
void freeze_thaw(struct freeze *freeze);

// Waits until thread @tid reports a ptrace stop or its end, or deadline_ns (sys_now_ns()) passes.
// Returns 1 with *status, 0 at the deadline, -ECHILD when it is no tracee (any more).
int freeze_wait(pid_t tid, uint64_t deadline_ns, int *status);

// A signal on its way to the thread was reported instead of our stop: its handler's frame is set up, and our
// stop follows before it runs.
void freeze_hand_over(pid_t tid, int status);

#endif
