// SPDX-License-Identifier: BSD-3-Clause
#include "sink.h"

#include "sink_parts.h"
#include "squeeze.h"
#include "sys.h"

int sink_open(struct sink *sink, const struct coresnap_output *to, unsigned int flags,
	      struct coresnap_error *err)
{
	int ret;

	*sink = (struct sink){
		.kind = to->kind,
		.opened = true,
		.fd = -1,
		.force = flags & CORESNAP_FORCE,
		.dir_fd = -1,
		.user_fd = to->fd,
		.path = to->path,
	};
	switch (to->kind) {
	case CORESNAP_TO_PATH:
		ret = sink_file_open(sink, err);
		break;
	case CORESNAP_TO_FD:
		ret = sink_fd_open(sink, err);
		break;
	case CORESNAP_TO_MEMORY:
		ret = sink_memory_open(sink, err);
		break;
	default:
		ret = error_set(err, CORESNAP_E_USAGE, EINVAL, "unknown kind of output %d",
				to->kind);
		error_remedy(err, "use a member of enum coresnap_output_kind");
		break;
	}
	if (ret < 0)
		sink_close(sink);
	return ret;
}

void sink_close(struct sink *sink)
{
	if (!sink->opened)
		return;
	if (!sink->finished && sink->kind == CORESNAP_TO_PATH)
		sink_file_discard(sink);
	if (!sink->finished && sink->kind == CORESNAP_TO_FD)
		sink_fd_discard(sink);
	if (sink->own_fd && sink->fd >= 0)
		sys_close(sink->fd);
	if (sink->dir_fd >= 0)
		sys_close(sink->dir_fd);
	sink->fd = -1;
	sink->dir_fd = -1;
	sink->opened = false;
}

// The largest offset of a file is INT64_MAX (off_t).
static int advance(struct sink *sink, uint64_t size, struct coresnap_error *err)
{
	uint64_t limit = (uint64_t)INT64_MAX - sink->start;

	if (sink->out > limit || size > limit - sink->out)
		return sink_write_error(sink, EFBIG, err);
	sink->out += size;
	return 0;
}

bool sink_takes_places(const struct sink *sink)
{
	return sink->kind == CORESNAP_TO_PATH && sink->seekable && !sink->squeeze;
}

// Of a caller's file the place is the caller's, and SEEK_DATA would move it.
bool sink_make_hole(const struct sink *sink, uint64_t from, uint64_t size)
{
	if (!sink_takes_places(sink))
		return false;
	const int64_t data = sys_lseek(sink->fd, (int64_t)from, SEEK_DATA);

	return data == -ENXIO || (data >= 0 && (uint64_t)data >= from + size) ||
	       sys_punch_hole(sink->fd, from, size) == 0;
}

// Does the skipped bytes that end at sink->out. A hole where the file had data before would show
// that data in the core.
static int flush_skip(struct sink *sink, struct coresnap_error *err)
{
	uint64_t size = sink->to_skip;
	uint64_t from = sink->out - size;

	if (sink->seekable) {
		uint64_t begin = sink->start + from;
		uint64_t prior = sink->prior_size > begin ? sink->prior_size - begin : 0;

		if (size > prior)
			size = prior;
	}

	int ret = 0;

	if (size && !sink_make_hole(sink, from, size))
		ret = sink_write_zeros(sink, from, size, err);
	if (ret == 0)
		sink->to_skip = 0;
	return ret;
}

int sink_put(struct sink *sink, const void *bytes, size_t size, struct coresnap_error *err)
{
	uint64_t offset;
	int ret;

	if (sink->to_skip && size) {
		ret = flush_skip(sink, err);
		if (ret < 0)
			return ret;
	}
	offset = sink->out;
	ret = advance(sink, size, err);
	if (ret < 0)
		return ret;
	return sink_write(sink, offset, bytes, size, err);
}

int sink_emit(struct sink *sink, const void *bytes, size_t size, struct coresnap_error *err)
{
	const int ret = sink->squeeze ? squeeze_emit(sink->squeeze, bytes, size, err) :
					sink_put(sink, bytes, size, err);

	sink->pos += ret < 0 ? 0 : size;
	return ret;
}

int sink_skip(struct sink *sink, uint64_t size, struct coresnap_error *err)
{
	int ret;

	if (sink->squeeze) {
		ret = squeeze_skip(sink->squeeze, size, err);
	} else {
		ret = advance(sink, size, err);
		if (ret == 0)
			sink->to_skip += size;
	}
	if (ret < 0)
		return ret;
	sink->pos += size;
	return sink_check(sink, false, err);
}

int sink_keep(struct sink *sink, uint64_t size, struct coresnap_error *err)
{
	int ret = flush_skip(sink, err);

	if (ret == 0)
		ret = advance(sink, size, err);
	if (ret < 0)
		return ret;
	sink->pos += size;
	return sink_check(sink, false, err);
}

int sink_finish(struct sink *sink, int *memory_fd, struct coresnap_error *err)
{
	int ret = sink->squeeze ? squeeze_finish(sink->squeeze, err) : flush_skip(sink, err);

	// A request to stop that came after the last piece must not leave a file either.
	if (ret == 0)
		ret = sink_check(sink, true, err);
	if (ret == 0)
		ret = sink_check_room(sink, 0, true, err);
	if (ret == 0 && sink->seekable)
		ret = sink_set_size(sink, err);
	if (ret < 0)
		return ret;
	if (sink->kind == CORESNAP_TO_PATH)
		ret = sink_file_publish(sink, err);
	else if (sink->kind == CORESNAP_TO_FD)
		ret = sink_fd_finish(sink, err);
	else
		ret = sink_memory_seal(sink, err);
	if (ret < 0)
		return ret;
	sink->finished = true;
	if (sink->kind == CORESNAP_TO_MEMORY && memory_fd) {
		*memory_fd = sink->fd;
		sink->own_fd = false;
	}
	return 0;
}
