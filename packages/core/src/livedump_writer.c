// SPDX-License-Identifier: BSD-3-Clause
// The process that writes to /proc/PID/livedump: it can be killed, upon which the kernel gives the
// dump up.
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "livedump_parts.h"

#ifndef __WALL
#define __WALL 0x40000000
#endif

#define STACK_SIZE (64u << 10)

static int writer_main(void *arg)
{
	struct livedump_writer *const writer = arg;

	sys_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (sys_call(SYS_getppid) != writer->parent)
		return 0;
	sys_call(SYS_prctl, PR_SET_NAME, "coresnap-writer", 0, 0, 0);
	// Whatever D closes shall be closed, above all where coresnap-catch comes to.
	if (writer->file > 0)
		sys_call(SYS_close_range, 0, writer->file - 1, 0);
	sys_call(SYS_close_range, writer->file + 1, ~0u, 0);
	writer->result = sys_call(SYS_write, writer->file, writer->text, writer->length);
	__atomic_store_n(&writer->done, 1, __ATOMIC_RELEASE);
	return 0;
}

size_t livedump_text(char *text, size_t size, uint64_t token,
		     const struct coresnap_options *options)
{
	const struct {
		unsigned int flag;
		const char *name;
		int value;
	} all[] = {
		{ CORESNAP_NICE, "sched_prio", options->nice },
		{ CORESNAP_IO_PRIO, "io_prio", options->io_prio },
		{ CORESNAP_OOM_ADJ, "oom_adj", options->oom_adj },
	};
	int n = error_format(text, size, "core_limit=%llu", (unsigned long long)token);

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (options->flags & all[i].flag)
			n += error_format(text + n, size - (size_t)n, " %s=%d", all[i].name,
					  all[i].value);
	return (size_t)(n + error_format(text + n, size - (size_t)n, "\n"));
}

int livedump_writer_start(struct livedump_writer *writer, struct arena *arena, int file,
			  uint64_t token, const struct coresnap_options *options,
			  struct coresnap_error *err)
{
	uint8_t *const stack = arena_alloc(arena, STACK_SIZE);
	const int saved_errno = errno;

	if (!stack)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory for the dump");
	writer->file = file;
	writer->parent = (int)sys_call(SYS_getpid);
	writer->length = livedump_text(writer->text, sizeof(writer->text), token, options);
	// It has the memory and a table of descriptors of its own, like D itself; no signal tells its end.
	const int pid = clone(writer_main, stack + STACK_SIZE, CLONE_VM, writer);
	const int why = errno;

	errno = saved_errno;
	if (pid < 0)
		return error_set(err, CORESNAP_E_FAILED, why,
				 "cannot make a process for the dump: %s", error_errno_name(why));
	writer->pid = pid;
	writer->pidfd = (int)sys_call(SYS_pidfd_open, pid, 0);
	return 0;
}

bool livedump_writer_over(const struct livedump_writer *writer)
{
	struct pollfd poll = { .fd = writer->pidfd, .events = POLLIN };
	struct timespec now = { 0 };

	return sys_retry(SYS_ppoll, &poll, 1, &now, NULL, 0) > 0;
}

long livedump_writer_end(struct livedump_writer *writer, bool kill)
{
	if (!writer->pid)
		return -EINTR;
	if (kill)
		sys_call(SYS_kill, writer->pid, SIGKILL);
	sys_retry(SYS_wait4, writer->pid, NULL, __WALL, NULL);
	writer->pid = 0;
	close_once(&writer->pidfd);
	return __atomic_load_n(&writer->done, __ATOMIC_ACQUIRE) ? writer->result : -EINTR;
}
