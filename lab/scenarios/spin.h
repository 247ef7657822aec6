/* SPDX-License-Identifier: BSD-3-Clause */
// Threads that spin in user mode with known registers, and say when asked whether they still have
// them: by a signal whose handler compares what the kernel saved. The spin is one instruction, a
// jump to itself, so that the program counter is the same at every stop.
#ifndef SCENARIO_SPIN_H
#define SCENARIO_SPIN_H

#include <ucontext.h>

#define SPIN_STACK (64UL << 10)
// Of handlers, in memory that no core keeps. A frame holds all vector registers: with SME up to
// 64 KiB of ZA alone (arch/arm64/kernel/signal.c: setup_sigframe_layout).
#define SPIN_HANDLER_STACK (256UL << 10)
#define SPINNERS 4

struct spinner {
	void (*enter)(void *pattern); // loads the registers, tells so, spins; never returns
	const char *(*compare)(const struct spinner *spinner, const ucontext_t *context);
	void *pattern;
	const _Atomic uint32_t *spinning; // not 0 when the registers are loaded
	int kind;                         // for the scenario
	pid_t tid;
};

// In the arena: what a handler found.
struct spin_verdict {
	_Atomic uint32_t done;
	const char *_Atomic why;
};

static struct spinner spinners[SPINNERS];
static size_t n_spinners;

static struct spin_verdict *spin_verdict_of(size_t i)
{
	return (struct spin_verdict *)(void *)(arena->scratch + i * 64);
}

// Runs on a stack of its own, so that the thread's stays as it is.
static void spin_handler(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	const size_t i = (size_t)info->si_value.sival_int;
	spin_verdict_of(i)->why = spinners[i].compare(&spinners[i], context);
	spin_verdict_of(i)->done = 1;
}

static const char *spin_verify(void)
{
	for (size_t i = 0; i < n_spinners; i++) {
		struct spin_verdict *verdict = spin_verdict_of(i);
		siginfo_t info;
		memset(&info, 0, sizeof(info));
		info.si_code = SI_QUEUE;
		info.si_value.sival_int = (int)i;
		verdict->done = 0;
		if (syscall(SYS_rt_tgsigqueueinfo, getpid(), spinners[i].tid, SIGUSR1, &info) != 0)
			return "a spinning thread is gone";
		const time_t deadline = time(NULL) + AWAIT_SECONDS;
		while (!verdict->done) {
			if (time(NULL) > deadline)
				return "a spinning thread does not take its signal";
			sched_yield();
		}
		if (verdict->why)
			return scenario_why("spinner %zu: %s", i, verdict->why);
	}
	return NULL;
}

static void *spin_run(void *arg)
{
	const struct spinner *spinner = arg;
	void *at = mmap(NULL, SPIN_HANDLER_STACK, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED || madvise(at, SPIN_HANDLER_STACK, MADV_DONTDUMP) != 0)
		scenario_die("stack of a handler");
	const stack_t stack = {.ss_sp = at, .ss_size = SPIN_HANDLER_STACK};
	if (sigaltstack(&stack, NULL) != 0)
		scenario_die("sigaltstack");
	spinner->enter(spinner->pattern);
	return NULL;
}

// Starts a spinner and returns when its registers are loaded; it has its tid then.
static const struct spinner *spin_start(struct spinner spinner)
{
	const struct sigaction action = {.sa_sigaction = spin_handler,
					 .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	struct spinner *s = &spinners[n_spinners++];
	sigaction(SIGUSR1, &action, NULL);
	*s = spinner;
	s->tid = scenario_create(spin_run, s, SPIN_STACK);
	while (!*s->spinning)
		sched_yield();
	scenario_spinner(s->tid);
	return s;
}

#endif
