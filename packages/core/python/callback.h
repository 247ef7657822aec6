/* SPDX-License-Identifier: BSD-3-Clause */
// The callbacks that the Python package gives to the library.
//
// Entering Python takes the GIL, for which other threads may make us wait. So it is entered only
// when there is something to do there (a caller's callback, or signal handlers, which run in the
// main thread only), and not at every call; cancelling from another thread needs no Python.
#ifndef CORESNAP_PYTHON_CALLBACK_H
#define CORESNAP_PYTHON_CALLBACK_H

#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "coresnap.h"

// Half of the library's 20 ms, so that none of its regular calls is left out.
#define CALLBACK_INTERVAL_NS 10000000u

struct callback {
	int cancel;       // set by any thread
	void *handle;     // for callback_python(); NULL: Python is not entered
	uint64_t last_ns; // when Python was entered last, or the dump began
	int question;     // enum callback_question; a futex
	int answer;
};

enum callback_question { CALLBACK_QUIET, CALLBACK_ASKED, CALLBACK_ANSWERED };

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

static void callback_set(struct callback *callback, int question)
{
	__atomic_store_n(&callback->question, question, __ATOMIC_RELEASE);
	syscall(SYS_futex, &callback->question, FUTEX_WAKE, 1, NULL, NULL, 0);
}

// Waits while the question is this one, and returns which it is then.
static int callback_wait(struct callback *callback, int question)
{
	int now;

	while ((now = __atomic_load_n(&callback->question, __ATOMIC_ACQUIRE)) == question)
		syscall(SYS_futex, &callback->question, FUTEX_WAIT, question, NULL, NULL, 0);
	return now;
}

// In the library's own process, which has no Python: a thread of Python's waits for the question
// and answers it. If the dump is given up meanwhile, the library kills that process.
static int callback_stopped(void *arg)
{
	struct callback *callback = arg;

	callback_set(callback, CALLBACK_ASKED);
	callback_wait(callback, CALLBACK_ASKED);
	return callback->answer;
}

// For that thread: true when it must answer, false when there will be no question (any more).
static int callback_listen(struct callback *callback)
{
	return callback_wait(callback, CALLBACK_QUIET) == CALLBACK_ASKED;
}

static void callback_answer(struct callback *callback, int answer)
{
	callback->answer = answer;
	callback_set(callback, CALLBACK_ANSWERED);
}

// The addresses of the functions are what Python needs of them.
static void callback_install(struct callback *callback, struct coresnap_options *options, int asks)
{
	callback->last_ns = callback_now_ns();
	options->progress = callback_progress;
	options->progress_arg = callback;
	if (asks) {
		options->stopped = callback_stopped;
		options->stopped_arg = callback;
	}
}

#endif
