/* SPDX-License-Identifier: BSD-3-Clause */
// A copy-on-write image of a stopped target, made by the kernel's own fork. Drawn in copy.c.
//
// The copy never executes an instruction of the program, owns nothing but memory, and is reaped
// inside the target also when the dumper is killed.
#ifndef CORESNAP_COPY_H
#define CORESNAP_COPY_H

#include <linux/oom.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "arena.h"
#include "error.h"
#include "freeze.h"
#include "gadget.h"
#include "maps.h"
#include "victim.h"

// What the page begins with: known again by the dumper that made it, and by later ones.
struct copy_mark {
	char text[40];
	uint64_t dumper, dumper_start; // its pid, and when it began, in clock ticks since boot
	uint64_t made_ns;
};

struct copy {
	struct target *target;
	pid_t pid;            // G, as seen by the dumper; 0 when there is none
	int mem_fd;           // /proc/G/mem, or -1
	int proc_fd;          // directory /proc/G, or -1
	pid_t helper;         // H's tid; must not appear in the core
	uint64_t page;        // the mapping that injection left in the target until copy_release()
	uint64_t page_size;   // its size in bytes; must not appear in the core
	uint64_t left;        // such a page of a dumper that was killed, or 0; nor must that one
	int oom_score;        // oom_score_adj that G gets, at best
	bool oom_asked;       // it was asked for: without it there is no core
	bool strict_timeouts; // as struct freeze has it; for the second stop in copy_release()
	// private to the copy_* files
	struct gadgets gadgets;
	struct victim victim; // X; its thread is valid while the target is frozen
	struct victim_memory memory;
	uint64_t place; // where the page is wished to be
	struct copy_mark mark;
	bool helper_traced; // H has not been let go yet
	bool own_child;     // G is a child of D itself (a process that dumps itself)
};

// A copy that does not exist: copy_release() is safe on it.
#define COPY_NONE ((struct copy){ .mem_fd = -1, .proc_fd = -1, .oom_score = OOM_SCORE_ADJ_MAX })

// Looks through the code of the running target for what injected calls will run on, so that it need
// not be done in the pause (about 0.3 ms). Optional, before freeze_stop(); cannot fail: what it
// does not find is looked for again.
void copy_prepare(struct copy *copy, const struct target *target);

// Does the target's surrounding allow a copy: memory and number of its control groups, its user's
// limit, what the system promises, and what it is doing? 0 or a negative errno. Of a running target: it
// takes many calls. maps may be older than these.
int must_check copy_affordable(const struct target *target, const struct maps *maps,
			       struct coresnap_error *err);

// Can a copy be made of this frozen target? 0, or a negative errno with the reason and the remedy
// in err (seccomp, no gadget, no room on any stack, shadow stacks…): then stop is the method.
// Chooses the thread to inject, so it comes after restart_calls(). maps are the target's, with what
// smaps tells of them. Finds what a killed dumper has left: copy->left.
int must_check copy_possible(struct copy *copy, struct freeze *freeze, const struct maps *maps,
			     struct coresnap_error *err);

// Makes the copy while everything is stopped; after copy_possible() on the same copy, and after the
// registers were read. On success X has its registers and its stack back (still stopped, as freeze
// left it; also in G's image, which was made after that), G is stopped and traced by D, H sleeps in
// wait4. On failure the target is as before; copy_release() must be called then, too, after the
// thaw.
int must_check copy_create(struct copy *copy, struct freeze *freeze, struct coresnap_error *err);

// For a process that dumps itself: D shares the target's memory, so its own raw fork is the copy.
// copy_possible() is not needed. G inherits D's descriptors and closes them.
int must_check copy_create_self(struct copy *copy, struct freeze *freeze,
				struct coresnap_error *err);

// After the thaw: lets G give back descriptors, cwd and root, and name itself, and opens its
// memory. Best effort in what the kernel refuses; never fatal to the target.
int must_check copy_settle(struct copy *copy, struct coresnap_error *err);

// G's pid, stopped for D, which ptrace(2) can then ask about its memory; 0: it cannot be had. After
// copy_settle().
pid_t copy_tracee(const struct copy *copy);

// Ends G, waits until H has reaped it and left, unmaps the page in a short second stop. Idempotent.
void copy_release(struct copy *copy);

#endif
