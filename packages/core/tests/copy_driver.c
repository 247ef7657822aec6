/* SPDX-License-Identifier: BSD-3-Clause */
// Makes a copy of a process and ends it, for test_copy_kill.py.
//
// copy_driver PID [hold]: with hold it prints "COPY HELPER" when the copy has settled and waits for
// a byte on standard input. CORESNAP_KILL_AT=N: kills itself at the Nth kill point.
// CORESNAP_SEND=N: sends signal N to the target while that is stopped, after the copy was made.
// Prints how many kill points there are, and what the pause was spent on.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "copy.h"
#include "restart.h"
#include "step.h"
#include "sys.h"

static long steps, kill_at;
static uint64_t chosen_ns, created_ns; // how long they took

void coresnap_step(void)
{
	if (++steps == kill_at)
		kill(getpid(), SIGKILL);
}

static int make(struct target *target, struct freeze *freeze, struct copy *copy,
		struct coresnap_error *err)
{
	struct maps maps = { .arena = freeze->arena };
	int ret = target_open(target, target->pid, 0, err);

	if (ret < 0)
		return ret;
	copy_prepare(copy, target);
	coresnap_step();
	freeze_init(freeze, target, freeze->arena);
	ret = freeze_seize(freeze, err);
	if (ret < 0)
		return ret;
	restart_look(freeze);
	ret = freeze_stop(freeze, 5000000000, err);
	coresnap_step();
	if (ret == 0)
		ret = maps_read(&maps, target->proc_fd, "smaps", err);
	if (ret < 0)
		return ret;
	restart_calls(freeze);
	freeze_write_registers(freeze);
	const uint64_t began = sys_now_ns();

	ret = copy_possible(copy, freeze, &maps, err);
	chosen_ns = sys_now_ns() - began;
	if (ret == 0)
		ret = copy_create(copy, freeze, err);
	created_ns = sys_now_ns() - began - chosen_ns;
	coresnap_step();
	return ret;
}

int main(int argc, char **argv)
{
	const char *const at = getenv("CORESNAP_KILL_AT"), *const send = getenv("CORESNAP_SEND");
	struct coresnap_error err = { 0 };
	struct arena arena;
	struct freeze freeze = { .arena = &arena };
	struct target target = TARGET_NONE;
	struct copy copy = COPY_NONE;

	if (argc < 2)
		return 2;
	kill_at = at ? atol(at) : 0;
	target.pid = atoi(argv[1]);
	arena_init(&arena);
	int ret = make(&target, &freeze, &copy, &err);

	if (send)
		kill(target.pid, atoi(send));
	freeze_thaw(&freeze);
	coresnap_step();
	if (ret == 0)
		ret = copy_settle(&copy, &err);
	if (ret == 0 && argc > 2) {
		char byte;

		printf("%d %d\n", copy.pid, copy.helper);
		fflush(stdout);
		if (read(0, &byte, 1) < 0)
			ret = -EIO;
	}
	coresnap_step();
	const int tid = copy.memory.tid;

	copy_release(&copy);
	coresnap_step();
	target_close(&target);
	if (ret < 0) {
		fprintf(stderr, "%s (%s)\n", err.what, err.remedy);
		return 1;
	}
	printf("steps %ld, thread %d; ns: pause %llu, choice %llu, copy %llu\n", steps, tid,
	       (unsigned long long)(freeze.ended_ns - freeze.began_ns),
	       (unsigned long long)chosen_ns, (unsigned long long)created_ns);
	arena_deinit(&arena);
	return 0;
}
