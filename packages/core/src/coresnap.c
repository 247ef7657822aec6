/* SPDX-License-Identifier: BSD-3-Clause */
// The public entry points.
#include "coresnap.h"

#include <linux/futex.h>
#include <string.h>

#include "job.h"
#include "options.h"
#include "sys.h"

static void write_result(struct coresnap_result *to, const struct coresnap_result *from)
{
	if (!to || to->size <= sizeof(to->size))
		return;
	const size_t size = to->size < sizeof(*from) ? to->size : sizeof(*from);

	memcpy((char *)to + sizeof(to->size), (const char *)from + sizeof(to->size),
	       size - sizeof(to->size));
}

// Does the caller's result reach as far as memory_fd?
static bool has_memory_fd(const struct coresnap_result *result)
{
	return result && result->size >= offsetof(struct coresnap_result, memory_fd) +
						 sizeof(result->memory_fd);
}

static int check_output(const struct coresnap_output *to, const struct coresnap_result *result,
			struct coresnap_error *err)
{
	if (!to)
		return error_set(err, CORESNAP_E_USAGE, EINVAL, "there is no output to write to");
	// Nobody could close it.
	if (to->kind == CORESNAP_TO_MEMORY && !has_memory_fd(result))
		return error_set(err, CORESNAP_E_USAGE, EINVAL,
				 "a core in memory is given back in the result, and there is none");
	return 0;
}

static int run_in_dumper(void *arg)
{
	return job_run(arg);
}

static int tick(void *arg)
{
	struct job *job = arg;

	return job->options.progress ?
		       job->options.progress(&job->progress, job->options.progress_arg) :
		       0;
}

static int compress(struct job *job)
{
	const struct codec *const codec = codec_of(job->options.compression);

	if (!codec)
		return 0;
	job->sink.squeeze = &job->squeeze;
	return squeeze_open(&job->squeeze, &job->arena, &job->sink, codec, job->options.level,
			    &job->error);
}

static int run_job(struct job *job, const struct coresnap_output *to)
{
	int ret = sink_open(&job->sink, to, job->options.flags, &job->error);

	if (ret == 0)
		ret = compress(job);
	if (ret < 0) {
		sink_close(&job->sink);
		return job->error.code ? job->error.code : CORESNAP_E_FAILED;
	}
	job->dumper.work = run_in_dumper;
	job->dumper.arg = job;
	job->dumper.tick = tick;
	job->dumper.tick_arg = job;
	job->dumper.stopped = &job->progress.stopped;
	const int fd = job->sink.fd;

	job->dumper.keep[0] = fd;
	job->dumper.keep[1] = job->sink.dir_fd;
	ret = dumper_run(&job->dumper, &job->arena, &job->error);
	if (ret < 0)
		ret = job->error.code ? job->error.code : CORESNAP_E_FAILED;
	// What the dumper closed was closed in its own descriptor table.
	if (job->sink.fd < 0 && job->memory_fd != fd)
		sys_close(fd);
	sink_close(&job->sink);
	return ret;
}

static int dump(pid_t pid, int32_t first_tid, const struct coresnap_output *to,
		const struct coresnap_options *options, struct coresnap_result *result,
		struct coresnap_error *error)
{
	const int saved_errno = errno;
	struct arena arena;
	struct coresnap_error local = { 0 };

	arena_init(&arena);
	arena.private_blocks = first_tid == 0;
	// In the arena and not on the stack: the caller may be a signal handler on a small one.
	struct job *job = arena_alloc(&arena, sizeof(*job));
	int code;

	if (!job) {
		error_set(&local, CORESNAP_E_FAILED, ENOMEM, "no memory for the dump");
		code = CORESNAP_E_FAILED;
	} else {
		job->arena = arena;
		job->pid = pid;
		job->first_tid = first_tid;
		job->memory_fd = -1;
		job->dumper.own_process = first_tid != 0;
		job->result.memory_fd = -1;
		if (options_read(&job->options, options, &job->error) < 0 ||
		    check_output(to, result, &job->error) < 0)
			code = CORESNAP_E_USAGE;
		else
			code = run_job(job, to);
		if (code != CORESNAP_OK && code != CORESNAP_E_INCOMPLETE)
			job->result.memory_fd = -1;
		write_result(result, &job->result);
		local = job->error;
		arena = job->arena;
	}
	if (code != CORESNAP_OK && !local.pid)
		local.pid = pid;
	if (error)
		*error = code == CORESNAP_OK ? (struct coresnap_error){ 0 } : local;
	arena_deinit(&arena);
	errno = saved_errno;
	return code;
}

int coresnap_dump(pid_t pid, const struct coresnap_output *to,
		  const struct coresnap_options *options, struct coresnap_result *result,
		  struct coresnap_error *error)
{
	if (pid == (pid_t)sys_call(SYS_getpid))
		return coresnap_dump_self(to, options, result, error);
	return dump(pid, 0, to, options, result, error);
}

// Serialises dumps of the own process: the id of the thread that dumps below, of its process above,
// since a fork copies a lock that nobody will release.
static uint64_t self_lock;

static int lock_self(int tid)
{
	const uint32_t pid = (uint32_t)sys_call(SYS_getpid);
	const uint64_t mine = (uint64_t)pid << 32 | (uint32_t)tid;

	for (;;) {
		uint64_t owner = 0;

		if (__atomic_compare_exchange_n(&self_lock, &owner, mine, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return 0;
		if (owner == mine)
			return -EBUSY;
		if (owner >> 32 != pid) {
			// Left over from before a fork.
			if (__atomic_compare_exchange_n(&self_lock, &owner, mine, false,
							__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				return 0;
			continue;
		}
		// The low half comes first in memory on every architecture that we know.
		sys_call(SYS_futex, &self_lock, FUTEX_WAIT, (uint32_t)owner, NULL, NULL, 0);
	}
}

static void unlock_self(void)
{
	__atomic_store_n(&self_lock, 0, __ATOMIC_RELEASE);
	sys_call(SYS_futex, &self_lock, FUTEX_WAKE, 1, NULL, NULL, 0);
}

int coresnap_dump_self(const struct coresnap_output *to, const struct coresnap_options *options,
		       struct coresnap_result *result, struct coresnap_error *error)
{
	const int tid = (int)sys_call(SYS_gettid);
	struct coresnap_error local;

	if (lock_self(tid) < 0) {
		local = (struct coresnap_error){ 0 };
		error_set(&local, CORESNAP_E_FAILED, EBUSY,
			  "this thread is dumping its process already (a signal handler that "
			  "interrupted a dump)");
		if (error)
			*error = local;
		return CORESNAP_E_FAILED;
	}
	const int code = dump((pid_t)sys_call(SYS_getpid), tid, to, options, result, error);

	unlock_self();
	return code;
}
