/* SPDX-License-Identifier: BSD-3-Clause */
#include "emit.h"

#include <errno.h>

#include "tags.h"

static int skip_to(struct emit *emit, uint64_t offset, struct coresnap_error *err)
{
	if (offset < emit->sink->pos)
		return error_set(err, CORESNAP_E_FAILED, EINVAL,
				 "the pages of the target are not in ascending order");
	return sink_skip(emit->sink, offset - emit->sink->pos, err);
}

int emit_head(struct emit *emit, struct coresnap_error *err)
{
	return sink_emit(emit->sink, emit->plan->head, emit->plan->head_size, err);
}

static int image_gone(const struct emit *emit, uint64_t address, int ret,
		      struct coresnap_error *err)
{
	err->address = address;
	return error_set(err, CORESNAP_E_TARGET_GONE, -ret,
			 "the memory image of the target went away while it was written (process "
			 "%d)",
			 emit->mem->image->pid);
}

static int pull(struct emit *emit, const struct extent *extent, struct coresnap_error *err)
{
	for (uint64_t at = extent->start; at < extent->end; at += EMIT_PIECE) {
		const size_t size =
			extent->end - at < EMIT_PIECE ? (size_t)(extent->end - at) : EMIT_PIECE;
		int ret = mem_read(emit->mem, extent, at, emit->buffer, size);

		if (ret < 0)
			return image_gone(emit, at, ret, err);
		ret = sink_emit(emit->sink, emit->buffer, size, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int emit_extents(struct emit *emit, size_t until, struct coresnap_error *err)
{
	const struct plan *plan = emit->plan;

	for (; emit->extent < until; emit->extent++) {
		const struct extent *extent = &emit->mem->list[emit->extent];

		while (emit->segment < plan->n_segments &&
		       plan->segments[emit->segment].vaddr + plan->segments[emit->segment].memsz <=
			       extent->start)
			emit->segment++;
		const struct segment *segment = &plan->segments[emit->segment];

		if (emit->segment == plan->n_segments || extent->start < segment->vaddr ||
		    extent->end - segment->vaddr > segment->filesz)
			return error_set(err, CORESNAP_E_FAILED, EINVAL,
					 "a page of the target lies in no segment");
		int ret = skip_to(emit, segment->offset + (extent->start - segment->vaddr), err);

		if (ret < 0)
			return ret;
		ret = extent->bytes ? sink_emit(emit->sink, extent->bytes,
						(size_t)(extent->end - extent->start), err) :
				      pull(emit, extent, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int pull_tags(struct emit *emit, const struct extent *extent, struct coresnap_error *err)
{
	for (uint64_t at = extent->start; at < extent->end; at += EMIT_PIECE) {
		const size_t size =
			extent->end - at < EMIT_PIECE ? (size_t)(extent->end - at) : EMIT_PIECE;
		int ret = tags_read(emit->mem, extent, at, size, emit->buffer);

		if (ret < 0)
			return image_gone(emit, at, ret, err);
		ret = sink_emit(emit->sink, emit->buffer, tags_packed(emit->mem, size), err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int emit_tags_of(struct emit *emit, const struct segment *segment,
			const struct extent *extent, struct coresnap_error *err)
{
	const size_t before = tags_packed(emit->mem, extent->start - segment->vaddr);
	const size_t size = tags_packed(emit->mem, extent->end - extent->start);
	const int ret = skip_to(emit, segment->offset + before, err);

	if (ret < 0)
		return ret;
	return extent->tags ? sink_emit(emit->sink, extent->tags, size, err) :
			      pull_tags(emit, extent, err);
}

int emit_tags(struct emit *emit, struct coresnap_error *err)
{
	const struct plan *plan = emit->plan;

	while (emit->tag_segment < plan->n_tags && emit->tag_extent < emit->mem->n) {
		const struct segment *segment = &plan->tags[emit->tag_segment];
		const struct extent *extent = &emit->mem->list[emit->tag_extent];

		if (segment->vaddr + segment->memsz <= extent->start) {
			emit->tag_segment++;
			continue;
		}
		emit->tag_extent++;
		if (extent->start < segment->vaddr)
			continue;
		const int ret = emit_tags_of(emit, segment, extent, err);

		if (ret < 0)
			return ret;
	}
	return 0;
}

int emit_tail(struct emit *emit, struct coresnap_error *err)
{
	const struct plan *plan = emit->plan;
	const int ret = skip_to(emit, plan->data_end, err);

	if (ret < 0 || plan->tail_size == 0)
		return ret;
	return sink_emit(emit->sink, plan->tail, plan->tail_size, err);
}
