/* SPDX-License-Identifier: BSD-3-Clause */
// The thread that calls are injected into: one that can bear it also if the dumper dies meanwhile.
#ifndef CORESNAP_VICTIM_H
#define CORESNAP_VICTIM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "freeze.h"
#include "maps.h"

// What an earlier stop told about a thread. A timed call that was interrupted once and sleeps again
// is restart_syscall(2): its own number is no longer in the registers.
struct victim_memory {
	pid_t tid; // 0: nothing known
	uint64_t pc;
	int32_t nr;
};

struct victim {
	struct thread *thread;
	int32_t restart_nr; // the call to restart if it must start anew, or -1
	int seccomp;        // 0, or 2 for a filter
	uint8_t call_size;  // where it stands before that call: bytes of the instruction; else 0
	bool timed;         // and the call may have been interrupted with time remaining
	uint64_t room_end;  // of unused memory for its frame; 0: there is room on its own stack
};

// Chooses among the stopped threads: one in user mode before one whose call restarts by plain
// re-execution before one in a timed call; with room for a signal frame on its own stack or at the far
// end of the main one; not in the middle of a restartable sequence, with no shadow stack, system call
// dispatch or strict seccomp. On
// failure err tells why the best one was refused.
int must_check victim_choose(struct victim *victim, struct freeze *freeze, const struct maps *maps,
			     const struct victim_memory *memory, struct coresnap_error *err);

// The stack pointer of a thread that sleeps in a call; false for one that runs.
bool victim_stack_pointer(const struct target *target, pid_t tid, uint64_t *sp);

// What tells against a thread of a running target before it is stopped: 0, or a negative errno and
// what victim_choose() would say. Its stack is known only while it sleeps.
int must_check victim_look(const struct target *target, const struct maps *maps, pid_t tid,
			   int *seccomp, struct coresnap_error *err);

// Where it stands before a system call instruction, else an address that is nobody's. Injected
// calls must not run on that very instruction: the kernel would take them for the restart of its
// own call (restart_addr in do_signal of arch/arm/kernel/signal.c and arch/arm64/kernel/signal.c).
uint64_t victim_pc(const struct arch *arch, const struct victim *victim);

#endif
