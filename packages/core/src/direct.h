/* SPDX-License-Identifier: BSD-3-Clause */
// Bytes that come into a process's memory without its page tables: reads with O_DIRECT, and what is
// pinned for a device. They are written to the pages that the memory had when the read began.
//
// A fork may take these pages away: where the kernel only counts their users (get_user_pages()) and does
// not pin them (iov_iter_extract_pages(), which more and more file systems use), the first write of the
// process to such a page gets it another one, and what is read goes to the copy alone. Which kernel and
// file system does so cannot be tried out: it takes a fork at the instant of a read.
// A write-protection sees nothing of them, so precopy would miss what is read after a page was copied.
#ifndef CORESNAP_DIRECT_H
#define CORESNAP_DIRECT_H

#include <stdbool.h>

#include "freeze.h"
#include "maps.h"
#include "target.h"

// Has the process what reads go on by while its threads stand still: an AIO context, an io_uring?
bool direct_in_background(const struct maps *maps);

// May such reads be under way in a fork? Of a running target, for it looks at each descriptor, and
// only if there is something in the background: else who reads sleeps uninterruptibly until it is done
// (__iomap_dio_rw() in fs/iomap/direct-io.c), and the stop waits. 0 or a negative errno, with what to
// do instead.
int must_check direct_may_fork(const struct target *target, const struct maps *maps,
			       struct coresnap_error *err);

// Is a thread that has not stopped in such a read? 0 or a negative errno.
int must_check direct_may_fork_now(const struct freeze *freeze, struct coresnap_error *err);

// Do all writes to the memory of a running target go by its page tables, as far as so many of its
// descriptors tell? 0 or a negative errno.
int must_check direct_may_track(const struct target *target, unsigned int most,
				struct coresnap_error *err);

// What texts of /proc/PID/fdinfo tell: does this file read directly? Has an io_uring files registered,
// or may have, if this is not the @whole text? Pure.
bool direct_flags(const char *text);
bool direct_ring_files(const char *text, bool whole);

#endif
