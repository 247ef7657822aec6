// SPDX-License-Identifier: BSD-3-Clause
#include "livedump.h"

#include <string.h>

#include "cleanup.h"
#include "livedump_parts.h"

#define TICK_NS 20000000
#define PIECE   (1u << 20)
#define BLOCK   4096u // of zeros: a hole where the output can have one

// One dump under way.
struct course {
	struct livedump *livedump;
	struct livedump_catch catch;
	struct livedump_writer writer;
	struct livedump_head head;
	bool head_known;
	bool cut; // by max_size: nothing more is wanted
	uint8_t *bytes;
	size_t have, room; // bytes that are read and not given to the sink; of the buffer
};

static int check_cancel(const struct livedump *livedump, struct coresnap_error *err)
{
	return __atomic_load_n(livedump->cancel, __ATOMIC_RELAXED) ? error_cancelled(err) : 0;
}

// Until one of both can be read from or somebody cancels.
static int wait_for(const struct livedump *livedump, int one, int other, struct coresnap_error *err)
{
	for (;;) {
		struct pollfd poll[] = { { .fd = one, .events = POLLIN },
					 { .fd = other, .events = POLLIN } };
		struct timespec tick = { .tv_nsec = TICK_NS };
		const int ret = check_cancel(livedump, err);

		if (ret < 0)
			return ret;
		if (sys_call(SYS_ppoll, poll, 2, &tick, NULL, 0) > 0)
			return 0;
	}
}

// W has ended and nobody came with the core.
static int nobody_came(struct course *course, struct coresnap_error *err)
{
	const pid_t pid = course->livedump->target->pid;
	const long result = livedump_writer_end(&course->writer, false);

	if (result < 0) {
		coresnap_livedump_error(pid, (int)-result, err);
		return (int)result;
	}
	error_remedy(err, "See the kernel's log for what coresnap-catch says; it must be in the "
			  "same network namespace as you, which it is not in most containers");
	return error_set(err, CORESNAP_E_FAILED, ENOTCONN,
			 "the kernel has dumped process %d, but coresnap-catch did not bring the "
			 "core here%s",
			 pid,
			 course->catch.turned_away ? ": one that it brought was another's" : "");
}

// The pipe with the core.
static int wait_for_core(struct course *course, struct coresnap_error *err)
{
	for (;;) {
		const int ret = wait_for(course->livedump, course->catch.listener,
					 course->writer.pidfd, err);

		if (ret < 0)
			return ret;
		const bool over = livedump_writer_over(&course->writer);
		const int pipe = livedump_catch_accept(&course->catch);

		if (pipe >= 0)
			return pipe;
		// The write lasts until the core is read, so after it nobody will come.
		if (over)
			return nobody_came(course, err);
	}
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

// How many bytes from here on, up to @size, are to be treated alike: blocks of zeros, or others.
static size_t run_length(const uint8_t *bytes, size_t size, uint64_t offset, bool *zero)
{
	size_t at = 0;

	while (at < size) {
		const size_t rest = BLOCK - (size_t)((offset + at) % BLOCK);
		const size_t piece = rest < size - at ? rest : size - at;
		const bool empty = is_zero(bytes + at, piece);

		if (at == 0)
			*zero = empty;
		else if (*zero != empty)
			break;
		at += piece;
	}
	return at;
}

static int give(struct course *course, const uint8_t *bytes, size_t size,
		struct coresnap_error *err)
{
	struct sink *const sink = course->livedump->sink;
	const uint64_t most = course->livedump->options->max_size;
	int ret = 0;

	if (most && size > most - sink->pos) {
		size = (size_t)(most - sink->pos);
		course->cut = true;
	}
	course->livedump->began = true;
	while (size && ret == 0) {
		bool zero = false;
		const size_t run = run_length(bytes, size, sink->pos, &zero);

		ret = zero ? sink_skip(sink, run, err) : sink_emit(sink, bytes, run, err);
		bytes += run;
		size -= run;
	}
	return ret;
}

static int know_head(struct course *course, struct coresnap_error *err)
{
	struct livedump *const livedump = course->livedump;
	const int ret = livedump_head_read(&course->head, course->bytes, course->have);

	if (ret < 0)
		return error_set(err, CORESNAP_E_FAILED, EINVAL,
				 "what the kernel sent of process %d does not begin as its cores do",
				 livedump->target->pid);
	if (ret == 0 && arena_grow(livedump->arena, &course->bytes, &course->room,
				   course->head.need, 1) < 0)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory for the core's head");
	if (ret == 0)
		return 0;
	const uint64_t most = livedump->options->max_size;
	const uint64_t size = most && most < course->head.size ? most : course->head.size;

	course->head_known = true;
	livedump->result->threads = course->head.threads;
	livedump->result->segments = course->head.segments;
	livedump->result->whole_size = course->head.size;
	livedump->progress->total = size;
	livedump->sink->expected = size;
	return 0;
}

// To the end of the pipe, or to where it may be cut.
static int read_core(struct course *course, int pipe, struct coresnap_error *err)
{
	struct livedump *const livedump = course->livedump;

	while (!course->cut) {
		const ssize_t n = sys_read(pipe, course->bytes + course->have,
					   course->room - course->have);

		if (n < 0)
			return error_set(err, CORESNAP_E_FAILED, (int)-n,
					 "the pipe with the core cannot be read: %s",
					 error_errno_name((int)-n));
		if (n == 0)
			break;
		livedump->result->bytes_read += (uint64_t)n;
		course->have += (size_t)n;
		int ret = course->head_known ? 0 : know_head(course, err);

		if (ret == 0 && course->head_known) {
			ret = give(course, course->bytes, course->have, err);
			course->have = 0;
		}
		if (ret == 0)
			ret = wait_for(livedump, pipe, -1, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

// Is it whole? The kernel takes a core that ends early for a core.
static int check_end(struct course *course, struct coresnap_error *err)
{
	struct livedump *const livedump = course->livedump;
	const pid_t pid = livedump->target->pid;
	const int ret = course->cut ? 0 : wait_for(livedump, course->writer.pidfd, -1, err);

	if (ret < 0)
		return ret;
	const long result = livedump_writer_end(&course->writer, course->cut);

	livedump->result->core_size = livedump->sink->pos;
	if (course->cut) {
		livedump->result->bytes_skipped[CORESNAP_SKIP_LIMIT] =
			course->head.size - livedump->sink->pos;
		return 0;
	}
	if (result < 0) {
		coresnap_livedump_error(pid, (int)-result, err);
		return (int)result;
	}
	if (course->head_known && livedump->sink->pos == course->head.size)
		return 0;
	error_remedy(err, "Look at the kernel's log");
	return error_set(err, CORESNAP_E_FAILED, EIO,
			 "the kernel ended the core of process %d early, after %llu bytes", pid,
			 (unsigned long long)livedump->sink->pos);
}

static int follow(struct course *course, int file, struct coresnap_error *err)
{
	struct livedump *const livedump = course->livedump;
	int ret = livedump_catch_open(&course->catch, livedump->target, err);

	if (ret == 0)
		ret = livedump_writer_start(&course->writer, livedump->arena, file,
					    course->catch.token, livedump->options, err);
	if (ret < 0)
		return ret;
	const int pipe = wait_for_core(course, err);

	if (pipe < 0)
		return pipe;
	// Whoever comes with the same token is sent away at once, and takes its core elsewhere.
	livedump_catch_close(&course->catch);
	// Fewer turns; of no account if the system does not let us.
	sys_call(SYS_fcntl, pipe, F_SETPIPE_SZ, PIECE);
	ret = wait_for(livedump, pipe, -1, err);
	if (ret == 0)
		ret = read_core(course, pipe, err);
	// The kernel waits for this, too.
	sys_close(pipe);
	return ret < 0 ? ret : check_end(course, err);
}

int livedump_run(struct livedump *livedump, struct coresnap_error *err)
{
	const int file guard(guard_close) = livedump_open(livedump->target, err);
	struct course *const course = arena_alloc(livedump->arena, sizeof(*course));

	if (file < 0)
		return file;
	if (!course)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory for the dump");
	course->livedump = livedump;
	course->catch = LIVEDUMP_CATCH_NONE;
	if (arena_grow(livedump->arena, &course->bytes, &course->room, PIECE, 1) < 0)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory for the dump");
	const int ret = follow(course, file, err);

	if (course->writer.pid)
		livedump_writer_end(&course->writer, true);
	livedump_catch_close(&course->catch);
	return ret;
}
