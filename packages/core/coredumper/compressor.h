/* SPDX-License-Identifier: BSD-3-Clause */
// A program that compresses, between two descriptors.
#ifndef COREDUMPER_COMPRESSOR_H
#define COREDUMPER_COMPRESSOR_H

#include <google/coredumper.h>
#include <stdbool.h>

struct compressor {
	int pid; // to be waited for with __WALL; it sends no signal when it ends
	const struct CoredumperCompressor *entry; // what was used; NULL: nothing compresses
};

// Starts the first entry that can be executed, reading @in and writing @out; both stay the caller's.
// Nothing is started, and entry has an empty name, where that one says so. 0 or a negative errno:
// that of the last entry that was tried.
//
// The program gets nothing else: no other descriptors, signals as they are by default, and
// /dev/null for its errors.
int compressor_start(struct compressor *compressor, const struct CoredumperCompressor *list, int in,
		     int out);

// Waits for its end: whether it ended well.
bool compressor_wait(const struct compressor *compressor);

#endif
