/* SPDX-License-Identifier: BSD-3-Clause */
// What the files of the sink share with each other and with nobody else.
#ifndef CORESNAP_SINK_PARTS_H
#define CORESNAP_SINK_PARTS_H

#include <stddef.h>
#include <stdint.h>

#include "sink.h"

#define SINK_NAME_SIZE 160

// A quoted path for a message; of a long one the end, which tells more than the beginning.
void sink_quote(char buf[SINK_NAME_SIZE], const char *path, size_t len);

// What is written to: a quoted path, "descriptor 5" or "the memory file".
void sink_describe(const struct sink *sink, char buf[SINK_NAME_SIZE]);

// SIGXFSZ and SIGPIPE held back from the calling thread, whose program they would kill.
struct sink_signals {
	uint64_t old;     // mask of the thread; bit n is signal n + 1
	uint64_t pending; // held back already before
	uint64_t raised;  // sent by the kernel because of us
};

void sink_signals_hold(struct sink_signals *signals);
// Notes the signal that comes with this error.
void sink_signals_note(struct sink_signals *signals, int os_errno);
void sink_signals_release(struct sink_signals *signals);

// Asks cancel.check; when not @now, only if enough bytes or time have passed.
int must_check sink_check(struct sink *sink, bool now, struct coresnap_error *err);

// So many bytes were written: does what must stay free still? Looks when they are enough, or @now.
int must_check sink_check_room(struct sink *sink, uint64_t written, bool now,
			       struct coresnap_error *err);

// Writes at @offset of the core (where the output has offsets).
int must_check sink_write(struct sink *sink, uint64_t offset, const uint8_t *bytes, size_t size,
			  struct coresnap_error *err);
int must_check sink_write_zeros(struct sink *sink, uint64_t offset, uint64_t size,
				struct coresnap_error *err);

// Makes the output end where the core ends.
int must_check sink_set_size(struct sink *sink, struct coresnap_error *err);

// Fills @err for a write that failed with @os_errno.
int sink_write_error(const struct sink *sink, int os_errno, struct coresnap_error *err);

int must_check sink_file_open(struct sink *sink, struct coresnap_error *err);
int must_check sink_file_publish(struct sink *sink, struct coresnap_error *err);
void sink_file_discard(struct sink *sink);

int must_check sink_fd_open(struct sink *sink, struct coresnap_error *err);
int must_check sink_fd_finish(struct sink *sink, struct coresnap_error *err);
void sink_fd_discard(struct sink *sink);

int must_check sink_memory_open(struct sink *sink, struct coresnap_error *err);
int must_check sink_memory_seal(struct sink *sink, struct coresnap_error *err);

#endif
