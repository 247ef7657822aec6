/* SPDX-License-Identifier: BSD-3-Clause */
// The notes of a core, encoded once: their size is the size of the bytes.
//
// Order (write_note_info in fs/binfmt_elf.c): PRSTATUS of the dumping thread, PRPSINFO, SIGINFO,
// AUXV, FILE, the other regsets of that thread; PRSTATUS and the other regsets of each other
// thread; notes of the whole process. docs/core-format.md describes each. Behind them come those of
// the caller.
#ifndef CORESNAP_NOTE_H
#define CORESNAP_NOTE_H

#include "arena.h"
#include "error.h"
#include "snapshot.h"

struct notes {
	struct arena *arena;
	uint8_t *bytes;
	size_t size, cap;
};

// Bytes that notes of so many threads take at most, and the caller's own.
uint64_t notes_foreseen(const struct arch *arch, unsigned int threads,
			const struct coresnap_note *own, size_t n_own);

// Encodes all notes of the snapshot, then the caller's own. 0 or -ENOMEM.
int must_check notes_build(struct notes *notes, const struct snapshot *snapshot,
			   const struct coresnap_note *own, size_t n_own);

#endif
