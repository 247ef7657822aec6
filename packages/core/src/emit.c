/* SPDX-License-Identifier: BSD-3-Clause */
#include "emit.h"

#include <errno.h>

#include "plan_limit.h"
#include "tags.h"

void emit_limit(struct emit *emit, uint64_t max_size, uint64_t core_limit)
{
	emit->end = max_size ? max_size : UINT64_MAX;
	emit->left = core_limit ? core_limit : UINT64_MAX;
}

static int skip_to(struct emit *emit, uint64_t offset, struct coresnap_error *err)
{
	if (offset < emit->sink->pos)
		return error_set(err, CORESNAP_E_FAILED, EINVAL,
				 "the pages of the target are not in ascending order");
	if (offset >= emit->end) {
		offset = emit->end;
		emit->cut = true;
	}
	return sink_skip(emit->sink, offset - emit->sink->pos, err);
}

// Writes bytes at an offset. The kernel writes each unit as a whole or not at all.
static int put(struct emit *emit, uint64_t offset, const uint8_t *bytes, size_t size, size_t unit,
	       struct coresnap_error *err)
{
	if (size > emit->left) {
		size = (size_t)emit->left / unit * unit;
		emit->cut = true;
		// A hole at the end of what the kernel wrote is not in its file.
		if (size == 0)
			return 0;
	}
	const int ret = skip_to(emit, offset, err);

	if (ret < 0 || emit->sink->pos == emit->end)
		return ret;
	if (size > emit->end - offset) {
		size = (size_t)(emit->end - offset);
		emit->cut = true;
	}
	emit->left -= size;
	return sink_emit(emit->sink, bytes, size, err);
}

int emit_head(struct emit *emit, struct coresnap_error *err)
{
	const struct plan *plan = emit->plan;
	size_t size = plan->head_size;

	if (emit->left != UINT64_MAX) {
		uint64_t counted;

		size = plan_limit_head(plan, emit->left, &counted);
		emit->left -= counted;
		emit->cut = size < plan->head_size;
	}
	if (size >= emit->end) {
		size = (size_t)emit->end;
		emit->cut = true;
	}
	return sink_emit(emit->sink, plan->head, size, err);
}

static int image_gone(const struct emit *emit, uint64_t address, bool spooled, int ret,
		      struct coresnap_error *err)
{
	err->address = address;
	if (spooled)
		return error_set(err, CORESNAP_E_FAILED, -ret,
				 "the file that memory of process %d was copied to ahead cannot be "
				 "read: %s",
				 emit->mem->image->pid, error_errno_name(-ret));
	return error_set(err, CORESNAP_E_TARGET_GONE, -ret,
			 "the memory image of the target went away while it was written (process "
			 "%d)",
			 emit->mem->image->pid);
}

// Bytes of an extent that the core keeps: none where its segment was shortened before it.
static struct extent kept(const struct extent *extent, const struct segment *segment)
{
	const uint64_t end = segment->vaddr + segment->kept;
	struct extent part = *extent;

	if (part.end > end)
		part.end = end > part.start ? end : part.start;
	return part;
}

// Bytes that are where they belong.
static int keep_extent(struct emit *emit, const struct extent *extent, struct coresnap_error *err)
{
	const uint64_t size = extent->end - extent->start;
	int ret = skip_to(emit, extent->offset, err);

	if (ret == 0)
		ret = sink_keep(emit->sink, size, err);
	if (ret == 0)
		emit->sink->written += size;
	return ret;
}

// Where the segments that are in their places end.
static uint64_t end_of_places(const struct plan *plan)
{
	const struct segment *const segments = plan->segments;
	const size_t n = plan->n_in_places;

	return n ? segments[n - 1].offset + segments[n - 1].filesz : plan->head_size;
}

// From the last segment that is in its place to the first one that is not. What lies between is to be
// read yet, so no hole is made of it.
static int leave_places(struct emit *emit, struct coresnap_error *err)
{
	const struct plan *const plan = emit->plan;
	const size_t n = plan->n_in_places;
	struct sink *const sink = emit->sink;

	if (!emit->in_places || emit->segment < n || sink->pos >= plan->segments[n].offset)
		return 0;
	const int ret = skip_to(emit, end_of_places(plan), err);

	return ret < 0 ? ret : sink_keep(sink, plan->segments[n].offset - sink->pos, err);
}

static int emit_extent(struct emit *emit, const struct segment *segment,
		       const struct extent *extent, struct coresnap_error *err)
{
	const uint64_t offset = segment->offset + (extent->start - segment->vaddr);
	const size_t unit = emit->plan->page_size;

	if (emit->in_places && extent->spooled && !extent->bytes && extent->offset == offset)
		return keep_extent(emit, extent, err);

	for (uint64_t at = extent->start; at < extent->end && !emit->cut; at += EMIT_PIECE) {
		const size_t size =
			extent->end - at < EMIT_PIECE ? (size_t)(extent->end - at) : EMIT_PIECE;
		const uint8_t *const staged =
			extent->bytes ? extent->bytes + (at - extent->start) : NULL;
		int ret = staged ? 0 : mem_read(emit->mem, extent, at, emit->buffer, size);

		if (ret < 0)
			return image_gone(emit, at, extent->spooled, ret, err);
		ret = put(emit, offset + (at - extent->start), staged ? staged : emit->buffer, size,
			  unit, err);
		if (ret < 0)
			return ret;
		spent_add(&emit->spent, emit->mem, extent, at, at + size);
	}
	return 0;
}

int emit_extents(struct emit *emit, size_t until, struct coresnap_error *err)
{
	const struct plan *plan = emit->plan;

	for (; emit->extent < until && !emit->cut; emit->extent++) {
		const struct extent *extent = &emit->mem->list[emit->extent];

		while (emit->segment < plan->n_segments &&
		       plan->segments[emit->segment].vaddr + plan->segments[emit->segment].memsz <=
			       extent->start)
			emit->segment++;
		const struct segment *segment = &plan->segments[emit->segment];

		if (emit->segment == plan->n_segments || extent->start < segment->vaddr ||
		    extent->end - segment->vaddr > segment->wanted)
			return error_set(err, CORESNAP_E_FAILED, EINVAL,
					 "a page of the target lies in no segment");
		const struct extent part = kept(extent, segment);
		int ret = leave_places(emit, err);

		if (ret == 0)
			ret = emit_extent(emit, segment, &part, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int pull_tags(struct emit *emit, const struct extent *extent, uint64_t offset, size_t unit,
		     struct coresnap_error *err)
{
	for (uint64_t at = extent->start; at < extent->end && !emit->cut; at += EMIT_PIECE) {
		const size_t size =
			extent->end - at < EMIT_PIECE ? (size_t)(extent->end - at) : EMIT_PIECE;
		int ret = tags_read(emit->mem, extent, at, size, emit->buffer);

		if (ret < 0)
			return image_gone(emit, at, false, ret, err);
		ret = put(emit, offset + tags_packed(emit->mem, at - extent->start), emit->buffer,
			  tags_packed(emit->mem, size), unit, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int emit_tags_of(struct emit *emit, const struct segment *segment,
			const struct extent *extent, struct coresnap_error *err)
{
	const uint64_t offset =
		segment->offset + tags_packed(emit->mem, extent->start - segment->vaddr);
	const size_t unit = tags_packed(emit->mem, emit->plan->page_size);

	if (extent->start == extent->end)
		return 0;
	return extent->tags ? put(emit, offset, extent->tags,
				  tags_packed(emit->mem, extent->end - extent->start), unit, err) :
			      pull_tags(emit, extent, offset, unit, err);
}

int emit_tags(struct emit *emit, struct coresnap_error *err)
{
	const struct plan *plan = emit->plan;

	while (emit->tag_segment < plan->n_tags && emit->tag_extent < emit->mem->n && !emit->cut) {
		const struct segment *segment = &plan->tags[emit->tag_segment];
		const struct extent *extent = &emit->mem->list[emit->tag_extent];

		if (segment->vaddr + segment->memsz <= extent->start) {
			emit->tag_segment++;
			continue;
		}
		emit->tag_extent++;
		if (extent->start < segment->vaddr)
			continue;
		const struct extent part = kept(extent, segment);
		const int ret = emit_tags_of(emit, segment, &part, err);

		if (ret < 0)
			return ret;
	}
	return 0;
}

// What lies behind the last segment that is in its place was read by now. Best effort.
static void drop_sources(const struct emit *emit)
{
	const struct plan *const plan = emit->plan;
	const size_t n = plan->n_in_places;

	if (!emit->in_places || n == plan->n_segments)
		return;
	const uint64_t from = end_of_places(plan);

	(void)sink_make_hole(emit->sink, from, plan->segments[n].offset - from);
}

int emit_tail(struct emit *emit, struct coresnap_error *err)
{
	const struct plan *plan = emit->plan;

	if (emit->cut)
		return 0;
	drop_sources(emit);
	if (plan->tail_size)
		return put(emit, plan->data_end, plan->tail, plan->tail_size, plan->tail_size, err);
	// The kernel ends a hole by a byte (do_coredump() in fs/coredump.c), which counts, too.
	return emit->left ? skip_to(emit, plan->data_end, err) : 0;
}
