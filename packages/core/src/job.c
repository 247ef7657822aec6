/* SPDX-License-Identifier: BSD-3-Clause */
#include "job.h"

#include <string.h>

#include "account.h"
#include "allowance.h"
#include "cleanup.h"
#include "estimate.h"
#include "gentle.h"
#include "job_parts.h"
#include "restart.h"
#include "snapmaps.h"
#include "tags.h"

#define DEFAULT_STOP_TIMEOUT_NS 1000000000u

// What the estimate leaves out: pages of files, and what is written until the stop.
#define STAGE_SLACK (1u << 20)

static int cancel_check(void *arg)
{
	struct job *job = arg;

	job->progress.done = job->sink.pos;
	// Killed while it is stopped for a slow reader: its parent shall not wait for that one.
	if (job->progress.stopped && target_exited(&job->target)) {
		job->target_died = true;
		return 1;
	}
	if (job->progress.stopped && job->mem.deadline_ns && sys_now_ns() >= job->mem.deadline_ns) {
		job->overdue = true;
		return 1;
	}
	return __atomic_load_n(&job->dumper.cancel, __ATOMIC_RELAXED);
}

void job_thaw(struct job *job)
{
	for (size_t i = 0; i < job->freeze.n_threads; i++) {
		const struct thread *thread = &job->freeze.threads[i];

		if (thread->state != THREAD_MISSED && !thread->other_mode)
			continue;
		job->result.missed++;
		account_skip(job, CORESNAP_SKIP_THREAD, 0, 0, thread->tid);
	}
	const bool frozen = job->freeze.began_ns && !job->freeze.ended_ns;

	if (frozen)
		phases_enter(&job->phases, CORESNAP_PHASE_THAW);
	freeze_thaw(&job->freeze);
	if (frozen) {
		phases_enter_at(&job->phases, CORESNAP_PHASE_WRITE, job->freeze.ended_ns);
		job->result.pause_bytes = job->mem.bytes_read - job->read_before;
	}
	job->result.pause_ns = job->freeze.ended_ns - job->freeze.began_ns;
	job->progress.stopped = 0;
	// What takes the longer the more was copied ahead.
	if (job->precopy.ready)
		precopy_untrack(&job->precopy);
	else
		precopy_close(job);
}

static int begin_core(struct job *job)
{
	const struct coresnap_options *options = &job->options;
	const bool in_places = job->result.method == CORESNAP_METHOD_PRECOPY &&
			       job->precopy.in_places;
	const struct plan_wishes wishes = {
		.notes = options->notes,
		.n_notes = options->n_notes,
		.max_size = options->keep == CORESNAP_KEEP_SMALL ? options->max_size : 0,
		.places = in_places ? &job->precopy.places : NULL,
	};

	precopy_join(&job->precopy, &job->snapshot.maps, job->snapshot.flags);
	account_maps(job);
	const int ret = plan_build(&job->plan, &job->snapshot, &wishes, &job->error);

	if (ret < 0)
		return ret;
	job->emit = (struct emit){ .plan = &job->plan,
				   .mem = &job->mem,
				   .sink = &job->sink,
				   .in_places = in_places,
				   // There is room for the core once.
				   .spent.block = in_places ? job->snapshot.page_size : 0,
				   .buffer = arena_alloc(&job->arena, EMIT_PIECE) };
	if (!job->emit.buffer)
		return error_set(&job->error, CORESNAP_E_FAILED, ENOMEM, "no memory to write with");
	emit_limit(&job->emit, options->max_size, options->core_limit);
	const uint64_t size = job->plan.size < job->emit.end ? job->plan.size : job->emit.end;

	job->progress.total = size;
	job->sink.expected = size;
	return emit_head(&job->emit, &job->error);
}

// What is not written yet of the memory and its tags.
static int emit_memory(struct job *job)
{
	const int ret = emit_extents(&job->emit, job->mem.n, &job->error);

	return ret < 0 ? ret : emit_tags(&job->emit, &job->error);
}

static int write_end(void *arg)
{
	struct job *const job = arg;
	const int ret = emit_tail(&job->emit, &job->error);

	if (ret < 0)
		return ret;
	account_limits(job);
	return sink_finish(&job->sink, &job->memory_fd, &job->error);
}

// Writes what is left when the target runs: what @write does, and what follows.
int job_end_core(struct job *job, int (*write)(void *arg))
{
	int ret = gentle_run(job, write, job, &job->error);

	// The copy tells its tags to its tracer alone.
	if (ret == 0 && job->result.method == CORESNAP_METHOD_FORK && job->plan.n_tags)
		job->mem.tracee = copy_tracee(&job->copy);
	if (ret == 0)
		ret = emit_tags(&job->emit, &job->error);
	return ret < 0 ? ret : gentle_run(job, write_end, job, &job->error);
}

// Of the memory what is not written yet; also the head, if it is not.
int job_write_memory(void *arg)
{
	struct job *const job = arg;
	const int ret = job->emit.plan ? 0 : begin_core(job);

	return ret < 0 ? ret : emit_extents(&job->emit, job->mem.n, &job->error);
}

// There is no memory to stage in: the target stands still until everything is written.
static int write_stopped(struct job *job, size_t written)
{
	job->error = (struct coresnap_error){ 0 };
	phases_enter(&job->phases, CORESNAP_PHASE_SPILL);
	int ret = written ? 0 : begin_core(job);

	if (ret == 0)
		ret = emit_memory(job);
	if (ret < 0)
		return ret;
	job_thaw(job);
	return job_end_core(job, job_write_memory);
}

// Copies the extents from number @from on, and the tags of all.
int job_stage(struct job *job, size_t from, struct coresnap_error *err)
{
	phases_enter(&job->phases, CORESNAP_PHASE_COPY);
	const int ret = mem_stage(&job->mem, from, err);

	if (ret == -ETIME)
		return allowance_used_up(job, err);
	return ret < 0 ? ret : tags_stage(&job->mem, &job->snapshot, err);
}

// Nothing injected: what fits the budget is copied while the target is stopped, so that a small
// target is stopped for a memcpy only; of a large one the beginning is written before that.
static int dump_stop(struct job *job)
{
	struct mem *mem = &job->mem;
	const uint64_t budget = job->estimate.budget;
	uint64_t left = mem_size(mem, 0) + tags_size(mem, &job->snapshot);
	size_t staged = 0;
	int ret;

	mem->deadline_ns = allowance_deadline_ns(job, CORESNAP_METHOD_STOP);
	for (; staged < mem->n && left > budget; staged++)
		left -= mem->list[staged].end - mem->list[staged].start;
	if (staged > 0) {
		phases_enter(&job->phases, CORESNAP_PHASE_SPILL);
		ret = begin_core(job);
		if (ret == 0)
			ret = emit_extents(&job->emit, staged, &job->error);
		if (ret < 0)
			return ret;
	}
	// Not even the tags may fit.
	ret = left > budget ? -ENOMEM : job_stage(job, staged, &job->error);
	if (ret == -ENOMEM)
		return write_stopped(job, staged);
	if (ret < 0)
		return ret;
	job_thaw(job);
	return job_end_core(job, job_write_memory);
}

static bool tries_copy(const struct job *job)
{
	const int method = job->options.method;

	return method == CORESNAP_METHOD_FORK ||
	       (method == CORESNAP_METHOD_AUTO && !estimate_prefers_stop(&job->estimate));
}

// Where the bytes of stop will be staged is made before the target stops: the page faults would
// cost several times the copying.
static void reserve_stage(struct job *job)
{
	const uint64_t size = job->precopy.ready ? precopy_left(&job->precopy) : job->estimate.kept;

	if ((job->precopy.ready || !tries_copy(job)) && size <= job->estimate.budget)
		mem_reserve(&job->mem, size + size / 8 + STAGE_SLACK);
}

// Any of them can be asked about the memory that all share.
static pid_t stopped_thread(const struct freeze *freeze)
{
	for (size_t i = 0; i < freeze->n_threads; i++)
		if (freeze->threads[i].state == THREAD_STOPPED)
			return freeze->threads[i].tid;
	return 0;
}

// What a copy that could not be made has left in the lists and in the target.
void job_forget_copy(struct job *job)
{
	struct coresnap_result *result = &job->result;

	job->mem.n = 0;
	job->mem.fresh = false;
	job->mem.bytes_unreadable = 0;
	job->mem.bytes_untagged = 0;
	job->mem.tracee = stopped_thread(&job->freeze); // it may have lost one
	result->n_skips = 0;
	memset(result->bytes_skipped, 0, sizeof(result->bytes_skipped));
	job->what.injected = job->copy.page;
	job->what.injected_size = job->copy.page_size;
}

// The ladder below livedump: the best rung first; each refusal is kept for the result.
static int choose_and_dump(struct job *job)
{
	const int method = job->options.method;
	struct coresnap_error why = { 0 };
	char size[32];
	int done;

	if (job_precopied(job, &done))
		return done;
	if (tries_copy(job)) {
		if (job_make_copy(job, &why) == 0) {
			job->result.method = CORESNAP_METHOD_FORK;
			return job_dump_copy(job);
		}
		if (method == CORESNAP_METHOD_FORK || why.code == CORESNAP_E_TARGET_GONE ||
		    why.code == CORESNAP_E_CANCELLED) {
			job->error = why;
			return -EIO;
		}
		job_forget_copy(job);
	} else {
		error_set(&why, CORESNAP_OK, 0,
			  "it is small: about %s are copied as fast as a fork is made",
			  error_size(size, sizeof(size), job->estimate.kept));
	}
	if (method == CORESNAP_METHOD_AUTO)
		account_refusal(job, CORESNAP_METHOD_FORK, &why);
	job->result.method = CORESNAP_METHOD_STOP;
	phases_enter(&job->phases, CORESNAP_PHASE_SCAN);
	int ret = allowance_covers(job, CORESNAP_METHOD_STOP, &job->error);

	if (ret == 0)
		ret = snapmaps_whole(&job->snapshot, &job->target, &job->what, &job->error);
	if (ret == 0)
		ret = mem_scan(&job->mem, &job->snapshot, MEM_ALL, &job->error);
	return ret < 0 ? ret : dump_stop(job);
}

// Is there room for the copy that is tried? An error if there must be one, and then nothing is stopped.
static int look_for_room(struct job *job)
{
	const int ret = tries_copy(job) ? copy_affordable(&job->target, &job->what.ahead,
							  &job->unaffordable) :
					  0;

	if (ret == 0 || job->options.method != CORESNAP_METHOD_FORK)
		return allowance_begin(job, tries_copy(job) && ret == 0, &job->error);
	job->error = job->unaffordable;
	return ret;
}

// Seized threads run on, but a signal stops them until the dumper takes notice: what takes long and
// can be done before is.
static int read_ahead_of_seize(struct job *job)
{
	const int ret = snapmaps_ahead(&job->what, &job->target, &job->arena, &job->error);

	if (ret < 0)
		return ret;
	snapmaps_select_ahead(&job->what, &job->target);
	return job_copy_once_more(job);
}

// What needs no stopped target.
static int prepare(struct job *job)
{
	const bool precopied = job->precopy.ready;
	int ret = 0;

	freeze_init(&job->freeze, &job->target, &job->arena);
	job->freeze.strict_timeouts = job->options.flags & CORESNAP_STRICT_TIMEOUTS;
	job->freeze.cancel = &job->dumper.cancel;
	job->what = (struct snapshot_options){
		.has_filter = job->options.flags & CORESNAP_FILTER,
		.filter = job->options.filter,
		.first_tid = job->first_tid,
	};
	job->mem.arena = &job->arena;
	job->mem.image = &job->target;
	job->mem.cancel = &job->dumper.cancel;
	account_watch(job);
	if (job->options.method != CORESNAP_METHOD_STOP && !job->first_tid)
		copy_prepare(&job->copy, &job->target);
	if (precopied)
		ret = read_ahead_of_seize(job);
	phases_enter(&job->phases, CORESNAP_PHASE_SEIZE);
	if (ret == 0)
		ret = freeze_seize(&job->freeze, &job->error);
	if (ret == 0)
		ret = snapshot_prepare(&job->what, &job->freeze, &job->error);
	if (ret == 0 && !precopied)
		ret = snapmaps_ahead(&job->what, &job->target, &job->arena, &job->error);
	if (ret < 0)
		return ret;
	allowance_estimate(job);
	ret = look_for_room(job);
	if (ret == 0)
		reserve_stage(job);
	return ret;
}

// Everything stands still, and nothing is written yet.
static int ask_caller(struct job *job)
{
	const struct coresnap_options *options = &job->options;

	if (!options->stopped)
		return 0;
	phases_enter(&job->phases, PHASE_NONE);
	const int refused = options->stopped(options->stopped_arg);

	phases_enter(&job->phases, CORESNAP_PHASE_REGISTERS);
	if (!refused)
		return 0;
	return error_set(&job->error, CORESNAP_E_FAILED, ECANCELED,
			 "the dump of process %d was refused while it was stopped, by the "
			 "function that was to be asked",
			 job->pid);
}

static int dump(struct job *job)
{
	const struct coresnap_options *options = &job->options;
	bool limited;
	int ret = target_open(&job->target, job->pid, options->flags, &job->error);

	if (ret == 0)
		ret = gentle_check(job, &job->error);
	if (ret == 0)
		ret = job_check_room(job);
	if (ret == 0)
		ret = job_livedump(job);
	if (ret > 0)
		return 0;
	if (ret == 0)
		ret = job_copy_ahead(job);
	if (ret == 0)
		ret = prepare(job);
	if (ret < 0)
		return ret;
	restart_look(&job->freeze);
	job->progress.stopped = 1;
	job->read_before = job->mem.bytes_read;
	const uint64_t timeout_ns = options->stop_timeout_ns ? options->stop_timeout_ns :
							       DEFAULT_STOP_TIMEOUT_NS;

	ret = freeze_stop(&job->freeze, allowance_stop_ns(job, timeout_ns, &limited), &job->error);
	phases_enter_at(&job->phases, CORESNAP_PHASE_STOP, job->freeze.began_ns);
	phases_enter(&job->phases, CORESNAP_PHASE_REGISTERS);
	// Also when some have not stopped: those that have shall not notice.
	restart_calls(&job->freeze);
	freeze_write_registers(&job->freeze);
	if (allowance_stopped(job, limited, &job->error) < 0 || ret < 0)
		return -EIO;
	job->mem.tracee = stopped_thread(&job->freeze);
	ret = ask_caller(job);
	if (ret == 0)
		ret = snapshot_take(&job->snapshot, &job->freeze, &job->what, &job->error);
	return ret < 0 ? ret : choose_and_dump(job);
}

int job_run(struct job *job)
{
	struct coresnap_result *result = &job->result;

	job->target = TARGET_NONE;
	job->memory_fd = -1;
	job->copy = COPY_NONE;
	job->precopy = PRECOPY_NONE;
	job->copy.oom_asked = job->options.flags & CORESNAP_OOM_ADJ;
	if (job->copy.oom_asked)
		job->copy.oom_score = gentle_oom_score(job->options.oom_adj);
	job->sink.cancel = (struct sink_cancel){ .check = cancel_check, .arg = job };
	phases_init(&job->phases, result->phase_ns);
	const int ret = dump(job);

	// The copy dies first when memory is short, and the target lives.
	if (ret < 0 && job->error.code == CORESNAP_E_TARGET_GONE &&
	    job->mem.image == &job->copy_image && !target_exited(&job->target)) {
		job->error = (struct coresnap_error){ 0 };
		error_remedy(&job->error, "Use the method stop, or free some memory");
		error_set(
			&job->error, CORESNAP_E_FAILED, ENOMEM,
			"the copy of process %d was killed while it was written, perhaps for want "
			"of memory; the process itself runs on",
			job->pid);
	}
	if (job->target_died) {
		job->error = (struct coresnap_error){ 0 };
		error_set(&job->error, CORESNAP_E_TARGET_GONE, ESRCH,
			  "process %d went away while its core was written", job->pid);
	}
	if (job->overdue)
		allowance_used_up(job, &job->error);
	// Whatever happened, the target runs.
	job_thaw(job);
	phases_enter(&job->phases, PHASE_NONE);
	copy_release(&job->copy);
	precopy_close(job);
	// Last, for who compresses at a low priority may take long to notice, and be ended for it.
	squeeze_close(&job->squeeze);
	target_close(&job->target);
	result->bytes_read = job->mem.bytes_read;
	result->bytes_written = job->sink.written;
	result->memory_fd = job->memory_fd;
	if (ret < 0)
		return job->error.code ? job->error.code : CORESNAP_E_FAILED;
	if (result->missed || job->mem.bytes_unreadable || job->mem.bytes_untagged)
		return account_incomplete(job);
	return CORESNAP_OK;
}
