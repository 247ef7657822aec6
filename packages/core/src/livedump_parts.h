/* SPDX-License-Identifier: BSD-3-Clause */
// What the files of livedump share with each other and with nobody else.
#ifndef CORESNAP_LIVEDUMP_PARTS_H
#define CORESNAP_LIVEDUMP_PARTS_H

#include <stddef.h>
#include <stdint.h>

#include "livedump.h"

// Bits of a token below its highest. A program of 32 bits cannot tell whether the kernel's words
// are wider than its own, and a kernel of 32 bits would turn a longer number into "unlimited".
#define LIVEDUMP_TOKEN_BITS (sizeof(long) == 8 ? 62 : 30)
#define LIVEDUMP_TOKEN_MOST ((2ull << LIVEDUMP_TOKEN_BITS) - 1)

// Where coresnap-catch comes to.
struct livedump_catch {
	int listener;
	uint64_t token;
	uint64_t start_stack, arg_start; // of the process: its copy has the same
	int turned_away;                 // others with our token
};

#define LIVEDUMP_CATCH_NONE ((struct livedump_catch){ .listener = -1 })

int must_check livedump_catch_open(struct livedump_catch *to, const struct target *target,
				   struct coresnap_error *err);
void livedump_catch_close(struct livedump_catch *to);

// Looks at one that has come: the pipe with the core, owned by the caller; -EAGAIN if it was
// another.
int must_check livedump_catch_accept(struct livedump_catch *to);

// The process that writes.
struct livedump_writer {
	int pid;    // 0: none
	int pidfd;  // to be told of its end
	int file;   // /proc/PID/livedump
	int parent; // who made it
	char text[96];
	size_t length;
	long result; // of the write; set when done is
	int done;
};

int must_check livedump_writer_start(struct livedump_writer *writer, struct arena *arena, int file,
				     uint64_t token, const struct coresnap_options *options,
				     struct coresnap_error *err);

// What is written: the token, and what the kernel is asked for besides. Returns its length. Pure.
size_t livedump_text(char *text, size_t size, uint64_t token,
		     const struct coresnap_options *options);

bool livedump_writer_over(const struct livedump_writer *writer);

// Waits for its end, having killed it first if it is not to end by itself: what the write returned,
// -EINTR if it was killed.
long livedump_writer_end(struct livedump_writer *writer, bool kill);

// What the head of a core tells.
struct livedump_head {
	size_t need;   // bytes from the beginning that must be known to tell the rest
	uint64_t size; // of the whole core
	unsigned int threads, segments;
};

// Reads what there is of the beginning of a core, in the kernel's order: 1 if that is all that is
// needed, 0 if head->need bytes are needed, -EINVAL if it is no core of the kernel's. Pure.
int must_check livedump_head_read(struct livedump_head *head, const uint8_t *bytes, size_t size);

#endif
