/* SPDX-License-Identifier: BSD-3-Clause */
// What an injected call returns to: code that performs rt_sigreturn, and the frame that it reads.
#ifndef CORESNAP_REMOTE_FRAME_H
#define CORESNAP_REMOTE_FRAME_H

#include <stdint.h>

#include "remote.h"

// include/linux/errno.h: results of an interrupted call that the kernel is going to restart.
#define ERESTARTSYS           512
#define ERESTARTNOINTR        513
#define ERESTARTNOHAND        514
#define ERESTART_RESTARTBLOCK 516

enum { REMOTE_MAX_FP = 16384 }; // an XSAVE area with AMX tiles has 11 KiB

// Regsets of a stopped tracee. *size: room, then what was filled.
int must_check remote_get_regset(pid_t tid, uint32_t type, void *buf, size_t *size);

// Builds the words and the frame with X's state that belong where X has room. Sets sp,
// frame, frame_size and frame_bytes (not yet read). *image gets the bytes.
int must_check remote_build_frame(struct remote *remote, const uint8_t **image);

#endif
