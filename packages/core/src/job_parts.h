/* SPDX-License-Identifier: BSD-3-Clause */
// What the job_* files have from each other.
#ifndef CORESNAP_JOB_PARTS_H
#define CORESNAP_JOB_PARTS_H

#include "job.h"

// Lets the target run, and says so.
void job_thaw(struct job *job);

// Copies the extents from number @from on into memory, and the tags of all.
int must_check job_stage(struct job *job, size_t from, struct coresnap_error *err);

// What a method that came to nothing while the target stood still has left in the lists.
void job_forget_copy(struct job *job);

// Writes what is left when the target runs: what @write does, and what follows.
int must_check job_end_core(struct job *job, int (*write)(void *arg));

// Of the memory what is not written yet; also the head, if it is not. For job_end_core().
int must_check job_write_memory(void *arg);

// Before anything is done: reads the mappings into @what, and adds their sizes to the estimate.
int must_check job_survey(struct job *job, struct snapshot_options *what,
			  struct coresnap_estimate *estimate, struct coresnap_error *err);

// Likewise: does the core leave of its file system what must stay free?
int must_check job_check_room(struct job *job);

// The method fork: makes the copy of a stopped target; lets that go, and writes the core.
int must_check job_make_copy(struct job *job, struct coresnap_error *err);
int must_check job_dump_copy(struct job *job);

// The method precopy. Copies the memory of the running target ahead, if it is tried; what comes to
// nothing is no error where another method may follow.
int must_check job_copy_ahead(struct job *job);

// The same once more, as short before the stop as can be.
int must_check job_copy_once_more(struct job *job);

// Of the stopped target. true: there is a core, or there will be none, by *ret.
bool must_check job_precopied(struct job *job, int *ret);

#endif
