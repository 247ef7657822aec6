/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SELF_DUMP_H
#define SELF_DUMP_H

#include <coresnap.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CANARY 0x43616e6172795f31ull
#define MARK   4242 // an errno that nobody sets
// For threads to stop; a second is short where an emulated machine is under load.
#ifndef STOP_NS
#define STOP_NS 60000000000ull
#endif

struct arguments {
	const char *situation, *output, *core, *report;
	int method;
};

// One call of the library, and what is to be known of it.
struct call {
	struct coresnap_output to;
	struct coresnap_options options;
	struct coresnap_result result;
	struct coresnap_error error;
	int code, tid;
	uintptr_t canary; // where CANARY stood on the caller's stack
	uintptr_t tcb;
	bool kept_errno, kept_mask;
};

struct look {
	char files[1 << 14];
	char maps[1 << 16];
};

extern struct arguments args;
extern struct call call;
extern int pattern_tid, pattern_ready;
extern volatile long watch_rounds;
extern volatile sig_atomic_t sigchld_count;
extern volatile bool has_child; // one that is the program's own
extern sem_t drain_begin;

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void must(bool good, const char *what);
void finish(void) __attribute__((noreturn));

void call_library(void);

void look(struct look *look);
void compare(const struct look *before, const struct look *after);
void look_for_children(void);

pthread_t start(void *(*body)(void *), size_t stack);
void start_company(void);
void see_company_run(void);
void say_threads(void);

// A held pipe is not read before somebody posts drain_begin.
void open_output(bool held);
void close_output(void);
void finish_output(void);
void say_result(void);

#endif
