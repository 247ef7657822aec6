/* SPDX-License-Identifier: BSD-3-Clause */
// Cores by the kernel's own dumper of living processes, /proc/PID/livedump, handed to us by
// coresnap-catch.
//
// D: the dumper   W: a process that writes   K: the kernel   H: coresnap-catch, by core_pattern
//
//   D: listens with a random token; starts W
//   W: writes the token as core limit to /proc/PID/livedump, which takes until the core is read
//   K: makes the copy of the process, starts H with the token and the core
//   H: connects to D, says which copy it is, sends the pipe that K writes the core into
//   D: reads the core from K and gives it to the sink
//   W: ends with what the write returned
//
// Why W: a write to that file can be ended by SIGKILL only, and D has to hear its caller. The death
// of D kills W, and K gives the dump up.
#ifndef CORESNAP_LIVEDUMP_H
#define CORESNAP_LIVEDUMP_H

#include "arena.h"
#include "sink.h"
#include "target.h"

struct livedump {
	// Set by the caller; borrowed.
	const struct target *target;
	struct arena *arena;
	struct sink *sink;
	const struct coresnap_options *options;
	const int *cancel;
	struct coresnap_progress *progress;
	struct coresnap_result *result; // gets threads, segments, sizes; the sink is not finished
	// Set by livedump_run(): bytes went to the sink, and no other method can begin.
	bool began;
};

// Gives the core to the sink.
int must_check livedump_run(struct livedump *livedump, struct coresnap_error *err);

// Opens /proc/PID/livedump, for the caller to close, if this system has all of it; else err says
// what is missing.
int must_check livedump_open(const struct target *target, struct coresnap_error *err);

// Is it set up, so that auto is expected to take it? Of a system without it nothing need be said.
bool livedump_expected(const struct target *target);

// An option that the kernel's dump cannot honour is a usage error.
int must_check livedump_options(const struct coresnap_options *options, struct coresnap_error *err);

#endif
