/* SPDX-License-Identifier: BSD-3-Clause */
// The public entry points.
#include "coresnap.h"

#include <linux/futex.h>
#include <string.h>

#include "job.h"
#include "options.h"
#include "streams.h"
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

// C takes what it must know before D has the job alone.
static void on_ready(void *arg)
{
	const struct job *const job = arg;

	*job->told = job->result;
	job->told->core_size = job->plan.size < job->emit.end ? job->plan.size : job->emit.end;
	job->told->whole_size = job->plan.whole;
	streams_keep(job->dumper.pid);
}

static int run_job(struct job *job, const struct coresnap_output *to)
{
	int ret = sink_open(&job->sink, to, job->options.flags, &job->error);

	job->sink.room = (struct room){ .min_free = job->options.min_free,
					.percent = job->options.flags &
						   CORESNAP_MIN_FREE_PERCENT };
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
	job->dumper.on_ready = on_ready;
	job->dumper.stopped = &job->progress.stopped;
	const int fd = job->sink.fd;
	const bool own_fd = job->sink.own_fd;

	job->dumper.keep[0] = fd;
	job->dumper.keep[1] = job->sink.dir_fd;
	ret = dumper_run(&job->dumper, &job->arena, &job->error);
	if (ret == DUMPER_GOES_ON) {
		if (own_fd)
			sys_close(fd);
		return ret;
	}
	if (ret < 0)
		ret = job->error.code ? job->error.code : CORESNAP_E_FAILED;
	// What the dumper closed was closed in its own descriptor table.
	if (job->sink.fd < 0 && job->memory_fd != fd)
		sys_close(fd);
	// Its last act was to give it away, and it was killed before it could say so.
	if (ret != CORESNAP_OK && ret != CORESNAP_E_INCOMPLETE && job->memory_fd == fd &&
	    !job->sink.own_fd)
		sys_close(fd);
	sink_close(&job->sink);
	return ret;
}

// What is asked for: of which process, to where.
struct request {
	pid_t pid;
	int32_t first_tid; // of a process that dumps itself: the calling thread; else 0
	const struct coresnap_output *to;
	int ready_fd; // to be read by the caller while the core is written; else -1
};

static int dump_in(struct job *job, const struct request *request,
		   const struct coresnap_options *options, const struct coresnap_result *result,
		   struct coresnap_result *told)
{
	job->pid = request->pid;
	job->first_tid = request->first_tid;
	job->memory_fd = -1;
	job->told = told;
	job->dumper.own_process = request->first_tid != 0;
	job->dumper.ready_fd = request->ready_fd;
	job->result.memory_fd = -1;
	if (options_read(&job->options, options, &job->error) < 0 ||
	    check_output(request->to, result, &job->error) < 0)
		return CORESNAP_E_USAGE;
	if (request->first_tid && job->options.method == CORESNAP_METHOD_LIVEDUMP) {
		error_remedy(&job->error, "Use the method fork, or dump from another process");
		error_set(&job->error, CORESNAP_E_USAGE, EINVAL,
			  "a process cannot have its own core by the method livedump: who asks for "
			  "it shares its memory, and runs on");
		return CORESNAP_E_USAGE;
	}
	if (request->ready_fd >= 0 && job->options.method == CORESNAP_METHOD_STOP) {
		error_set(&job->error, CORESNAP_E_USAGE, EINVAL,
			  "a process that is stopped cannot read its own core");
		return CORESNAP_E_USAGE;
	}
	if (request->ready_fd >= 0)
		job->options.method = CORESNAP_METHOD_FORK;
	return run_job(job, request->to);
}

static int dump(const struct request *request, const struct coresnap_options *options,
		struct coresnap_result *result, struct coresnap_error *error)
{
	const int saved_errno = errno;
	struct arena arena;
	struct coresnap_error local = { 0 };
	struct coresnap_result told = { .memory_fd = -1 };
	int code = CORESNAP_E_FAILED;

	streams_reap();
	arena_init(&arena);
	arena.private_blocks = request->first_tid == 0;
	// In the arena and not on the stack: the caller may be a signal handler on a small one.
	struct job *job = arena_alloc(&arena, sizeof(*job));

	if (!job) {
		error_set(&local, CORESNAP_E_FAILED, ENOMEM, "no memory for the dump");
	} else {
		job->arena = arena;
		code = dump_in(job, request, options, result, &told);
		if (code != DUMPER_GOES_ON) {
			told = job->result;
			local = job->error;
			arena = job->arena;
		}
		if (code != CORESNAP_OK && code != CORESNAP_E_INCOMPLETE)
			told.memory_fd = -1;
		write_result(result, &told);
	}
	if (code == DUMPER_GOES_ON)
		code = CORESNAP_OK;
	else
		arena_deinit(&arena);
	if (code != CORESNAP_OK && !local.pid)
		local.pid = request->pid;
	if (error)
		*error = code == CORESNAP_OK ? (struct coresnap_error){ 0 } : local;
	errno = saved_errno;
	return code;
}

int coresnap_dump(pid_t pid, const struct coresnap_output *to,
		  const struct coresnap_options *options, struct coresnap_result *result,
		  struct coresnap_error *error)
{
	if (pid == (pid_t)sys_call(SYS_getpid))
		return coresnap_dump_self(to, options, result, error);
	const struct request request = { .pid = pid, .to = to, .ready_fd = -1 };

	return dump(&request, options, result, error);
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

static int dump_own(const struct coresnap_output *to, int ready_fd,
		    const struct coresnap_options *options, struct coresnap_result *result,
		    struct coresnap_error *error)
{
	const int tid = (int)sys_call(SYS_gettid);
	const struct request request = {
		.pid = (pid_t)sys_call(SYS_getpid), .first_tid = tid, .to = to, .ready_fd = ready_fd
	};
	struct coresnap_error local = { 0 };

	if (lock_self(tid) < 0) {
		error_set(&local, CORESNAP_E_FAILED, EBUSY,
			  "this thread is dumping its process already (a signal handler that "
			  "interrupted a dump)");
		if (error)
			*error = local;
		return CORESNAP_E_FAILED;
	}
	const int code = dump(&request, options, result, error);

	unlock_self();
	return code;
}

int coresnap_dump_self(const struct coresnap_output *to, const struct coresnap_options *options,
		       struct coresnap_result *result, struct coresnap_error *error)
{
	return dump_own(to, -1, options, result, error);
}

static int fail_open(struct coresnap_error *error, int os_errno, const char *what,
		     const char *remedy)
{
	struct coresnap_error local = { 0 };

	error_remedy(&local, "%s", remedy);
	error_set(&local, CORESNAP_E_FAILED, os_errno, "%s: %s", what, error_errno_name(os_errno));
	if (error)
		*error = local;
	return CORESNAP_E_FAILED;
}

int coresnap_open_self(int *fd, const struct coresnap_options *options,
		       struct coresnap_result *result, struct coresnap_error *error)
{
	int ends[2];

	*fd = -1;
	streams_reap();
	if (!streams_have_room())
		return fail_open(error, EAGAIN, "too many cores of this process are being read",
				 "Read them to their end, or close them");
	const long ret = sys_call(SYS_pipe2, ends, O_CLOEXEC);

	if (ret < 0)
		return fail_open(error, (int)-ret, "no pipe can be made",
				 "Close descriptors, or raise their limit (ulimit -n)");
	const struct coresnap_output to = { .kind = CORESNAP_TO_FD, .fd = ends[1] };
	const int code = dump_own(&to, ends[0], options, result, error);

	sys_close(ends[1]);
	if (code == CORESNAP_OK || code == CORESNAP_E_INCOMPLETE)
		*fd = ends[0];
	else
		sys_close(ends[0]);
	return code;
}
