/* SPDX-License-Identifier: BSD-3-Clause */
// The progress callback that the Python package gives to the library.
//
// Entering Python takes the GIL, for which other threads may make us wait. So it is entered only
// when there is something to do there (a caller's callback, or signal handlers, which run in the
// main thread only), and not at every call; cancelling from another thread needs no Python.
#ifndef CORESNAP_PYTHON_CALLBACK_H
#define CORESNAP_PYTHON_CALLBACK_H

#include <stdint.h>
#include <time.h>

#include "coresnap.h"

// Half of the library's 20 ms, so that none of its regular calls is left out.
#define CALLBACK_INTERVAL_NS 10000000u

struct callback {
	int cancel;       // set by any thread
	void *handle;     // for callback_python(); NULL: Python is not entered
	uint64_t last_ns; // when Python was entered last, or the dump began
};

// Written by cffi: calls the function of that name in _ffi.py with the GIL held.
static int callback_python(const struct coresnap_progress *progress, void *handle);

static uint64_t callback_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int callback_progress(const struct coresnap_progress *progress, void *arg)
{
	struct callback *callback = arg;

	if (__atomic_load_n(&callback->cancel, __ATOMIC_RELAXED))
		return 1;
	if (!callback->handle)
		return 0;
	uint64_t now = callback_now_ns();
	if (now - callback->last_ns < CALLBACK_INTERVAL_NS)
		return 0;
	int ret = callback_python(progress, callback->handle);
	callback->last_ns = callback_now_ns();
	return ret;
}

// The address of callback_progress() is what Python needs of it.
static void callback_install(struct callback *callback, struct coresnap_options *options)
{
	callback->last_ns = callback_now_ns();
	options->progress = callback_progress;
	options->progress_arg = callback;
}

#endif
