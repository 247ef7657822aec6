/* SPDX-License-Identifier: BSD-3-Clause */
// One dump, from the open output to the finished core.
#ifndef CORESNAP_JOB_H
#define CORESNAP_JOB_H

#include "arena.h"
#include "copy.h"
#include "dumper.h"
#include "emit.h"
#include "freeze.h"
#include "mem.h"
#include "phases.h"
#include "plan.h"
#include "precopy.h"
#include "sink.h"
#include "snapshot.h"
#include "squeeze.h"
#include "target.h"

struct job {
	struct arena arena;
	struct dumper dumper;
	struct sink sink;
	struct squeeze squeeze; // if the core is compressed

	pid_t pid;
	int32_t first_tid; // of a process that dumps itself: the calling thread; else 0
	struct coresnap_options options;
	struct snapshot_options what;
	struct coresnap_estimate estimate;

	struct target target;
	bool target_died; // while it was stopped
	bool overdue;     // likewise, and stands still longer than it may
	struct freeze freeze;
	struct snapshot snapshot;
	struct mem mem;
	struct plan plan;
	struct precopy precopy;
	struct coresnap_error unaffordable; // why there is no room for a copy
	struct copy copy;
	struct target copy_image; // the copy as a source of bytes
	struct emit emit;
	uint8_t *gentle_stack; // once it was needed

	int memory_fd;
	struct coresnap_result *told; // where C finds the result when D goes on alone
	struct coresnap_progress progress;
	struct phases phases;
	uint64_t read_before; // of the target's memory, before anything was stopped
	struct coresnap_result result;
	struct coresnap_error error;
};

// The work of the dumper process: job->options and job->sink are set, everything else is filled.
// Returns enum coresnap_code.
int job_run(struct job *job);

// The kernel's own dump, where it was asked for or is expected to work. 1: that was it; 0: another
// method's turn; else the error, in job->error.
int must_check job_livedump(struct job *job);

#endif
