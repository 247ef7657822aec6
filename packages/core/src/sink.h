/* SPDX-License-Identifier: BSD-3-Clause */
// Where the bytes of a core go. Forward only: emit, skip, finish; never a seek backwards.
//
// After Linux fs/coredump.c (dump_emit, dump_skip): a skip is a hole where the output can have one
// and zeros where it cannot, and is flushed lazily by the next emit or by finish.
#ifndef CORESNAP_SINK_H
#define CORESNAP_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "coresnap.h"
#include "error.h"
#include "room.h"

// Called after at most 1 MiB and at least every 20 ms, also while waiting for a pipe; non-zero
// cancels. May be set any time after sink_open(), which clears it.
struct sink_cancel {
	int (*check)(void *arg);
	void *arg;
};

struct sink {
	int kind;    // enum coresnap_output_kind
	bool opened; // a zeroed sink may be closed
	bool finished;
	int fd; // what is written to; -1 once closed
	bool own_fd;
	bool on_disk;    // a regular file, which takes room of a file system
	bool seekable;   // holes by offset
	bool poll_first; // a pipe that could not be reopened: poll, then at most PIPE_BUF
	bool socket;     // send(MSG_DONTWAIT)
	bool force;
	int dir_fd;              // CORESNAP_TO_PATH: the directory, opened once; else -1
	int user_fd;             // CORESNAP_TO_FD: the number the caller knows
	const char *path;        // CORESNAP_TO_PATH: borrowed, for messages
	char name[256];          // final name in dir_fd
	char temp[64];           // temporary name in dir_fd; empty when none exists
	uint64_t start;          // offset of fd at which the core begins (CORESNAP_TO_FD on a file)
	uint64_t prior_size;     // of a file with something in it before: holes up to here must be made
	struct squeeze *squeeze; // what compresses the core on its way; NULL: nothing
	uint64_t pos;            // bytes of the core, emitted and skipped
	uint64_t out;        // bytes of the output, put and skipped; the same if nothing compresses
	uint64_t to_skip;    // of out, not yet flushed
	uint64_t written;    // bytes really given to fd
	uint64_t expected;   // bytes of the whole core, for messages; the caller may set it
	uint64_t unchecked;  // bytes written since the last cancel.check
	uint64_t checked_ns; // and when that was
	struct sink_cancel cancel;
	struct room room; // what must stay free; likewise set after sink_open()
};

// Opens the output; refuses what must be refused before the target is touched (existing name, link,
// FIFO, device, terminal, closed descriptor). On failure nothing is left behind. to->path must live
// as long as the sink.
int must_check sink_open(struct sink *sink, const struct coresnap_output *to, unsigned int flags,
			 struct coresnap_error *err);

// Deletes what was written unless sink_finish() succeeded, closes what is owned. Idempotent, and
// fine on a zeroed sink.
void sink_close(struct sink *sink);

// Do so many bytes leave what must stay free? Of a file; elsewhere nothing must.
int must_check sink_has_room(const struct sink *sink, uint64_t need, struct coresnap_error *err);

int must_check sink_emit(struct sink *sink, const void *bytes, size_t size,
			 struct coresnap_error *err);
int must_check sink_skip(struct sink *sink, uint64_t size, struct coresnap_error *err);

// Leaves bytes as they are in the file.
int must_check sink_keep(struct sink *sink, uint64_t size, struct coresnap_error *err);

// Can its file be written to anywhere, before the core is? It is ours, and nothing compresses.
bool sink_takes_places(const struct sink *sink);

// Makes a hole, if the file system can.
bool sink_make_hole(const struct sink *sink, uint64_t from, uint64_t size);

// Bytes of the output itself, past what compresses.
int must_check sink_put(struct sink *sink, const void *bytes, size_t size,
			struct coresnap_error *err);

// Sets the final size, seals or renames. For CORESNAP_TO_MEMORY *memory_fd gets the descriptor.
int must_check sink_finish(struct sink *sink, int *memory_fd, struct coresnap_error *err);

#endif
