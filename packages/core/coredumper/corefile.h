/* SPDX-License-Identifier: BSD-3-Clause */
// The file that a compressed core is written to: complete under its name, or not there.
#ifndef COREDUMPER_COREFILE_H
#define COREDUMPER_COREFILE_H

#include <coresnap.h>
#include <stdbool.h>
#include <stdint.h>

struct corefile;

// Where coresnap is to write a file of this name: there, or where that is a link, a FIFO or a device,
// into what it leads to, which is opened. 0 or a negative errno. corefile_close() closes that again.
int corefile_output(struct coresnap_output *output, const char *name);
void corefile_close(const struct coresnap_output *output);

// A new file beside the one of that name and suffix. NULL with *ret set to a negative errno.
struct corefile *corefile_create(const char *name, const char *suffix, int *ret);

// Copies at most @limit bytes of a stream. 0 or a negative errno; *whole: whether that was all.
int corefile_copy(struct corefile *file, int stream, uint64_t limit, bool *whole);

// Gives it its name if @good, else removes it; frees it. 0 or a negative errno.
int corefile_finish(struct corefile *file, bool good);

#endif
