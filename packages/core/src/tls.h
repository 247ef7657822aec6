/* SPDX-License-Identifier: BSD-3-Clause */
// A thread pointer for a process that shares memory with a thread that may end before it.
//
// The dumper borrows the thread-local storage of the thread that called the library. Code of others in
// it (the compressors) reads a canary there, and the C library's clone() writes errno when it fails.
#ifndef CORESNAP_TLS_H
#define CORESNAP_TLS_H

#include "arena.h"

struct tls {
	void *clone_arg;         // for CLONE_SETTLS
	uint8_t description[16]; // i386: struct user_desc
};

// A copy of the calling thread's control block, in the arena. 0 or -ENOMEM.
int tls_make(struct tls *tls, struct arena *arena) __attribute__((warn_unused_result));

#endif
