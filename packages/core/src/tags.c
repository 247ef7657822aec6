/* SPDX-License-Identifier: BSD-3-Clause */
#include "tags.h"

#include <string.h>

#include "sys.h"

enum {
	ASKED = 8192,    // tags at once: 128 KiB of memory
	PIECE = 1 << 20, // bytes of memory between looks at cancel
	PAGE = 4096,
};

// Does the extent lie in a mapping with tags? Extents and mappings ascend, and *at with them.
static bool has_tags(const struct snapshot *s, size_t *at, const struct extent *extent)
{
	while (*at < s->maps.n && s->maps.list[*at].end <= extent->start)
		++*at;
	return *at < s->maps.n && snapshot_has_tags(s, &s->maps.list[*at]);
}

size_t tags_packed(const struct mem *mem, uint64_t memory)
{
	return (size_t)arch_tags_size(mem->image->arch, memory);
}

uint64_t tags_size(const struct mem *mem, const struct snapshot *s)
{
	uint64_t size = 0;
	size_t at = 0;

	for (size_t i = 0; s->arch->tags.segment && i < mem->n; i++)
		if (has_tags(s, &at, &mem->list[i]))
			size += arch_tags_size(s->arch, mem->list[i].end - mem->list[i].start);
	return size;
}

static int stage_extent(struct mem *mem, const struct extent *extent, uint8_t *packed,
			struct coresnap_error *err)
{
	for (uint64_t at = extent->start; at < extent->end; at += PIECE) {
		const size_t size = extent->end - at < PIECE ? (size_t)(extent->end - at) : PIECE;

		if (mem->cancel && __atomic_load_n(mem->cancel, __ATOMIC_RELAXED))
			return error_cancelled(err);
		const int ret = tags_read(mem, extent, at, size, packed);

		if (ret < 0) {
			err->address = at;
			return error_set(err, CORESNAP_E_TARGET_GONE, -ret,
					 "process %d went away while the tags of its memory were "
					 "read",
					 mem->image->pid);
		}
		packed += tags_packed(mem, size);
	}
	return 0;
}

int tags_stage(struct mem *mem, const struct snapshot *s, struct coresnap_error *err)
{
	const uint64_t size = tags_size(mem, s);
	size_t at = 0;

	if (size == 0)
		return 0;
	uint8_t *packed = size <= SIZE_MAX ? arena_alloc(mem->arena, (size_t)size) : NULL;

	if (!packed)
		return error_set(err, CORESNAP_E_FAILED, ENOMEM,
				 "no memory to hold %llu bytes of tags of the target's memory",
				 (unsigned long long)size);
	for (size_t i = 0; i < mem->n; i++) {
		struct extent *const extent = &mem->list[i];

		if (!has_tags(s, &at, extent))
			continue;
		const int ret = stage_extent(mem, extent, packed, err);

		if (ret < 0)
			return ret;
		extent->tags = packed;
		packed += tags_packed(mem, extent->end - extent->start);
	}
	return 0;
}

// A page that is not there, such as one behind the end of a file, has none in the kernel's core
// either; its reason is EIO whatever else it could be (__access_remote_tags in
// arch/arm64/kernel/mte.c).
static void skip_page(struct mem *mem, const struct extent *extent, uint64_t start, uint64_t end,
		      int why)
{
	if (!extent->certain && why == -EIO)
		return;
	mem->bytes_untagged += end - start;
	if (mem->untagged)
		mem->untagged(mem->skip_arg, start, end);
}

// How many tags were read, which is fewer than n when a page has none; or a negative errno.
static ssize_t peek(const struct mem *mem, uint64_t address, uint8_t *tags, size_t n)
{
	const uint32_t request = mem->image->arch->tags.peek;
	struct iovec iov = { .iov_base = tags, .iov_len = n };

	// Nobody was stopped: what ptrace(2) would say.
	if (!mem->tracee)
		return -ESRCH;
	const long ret = sys_call(SYS_ptrace, request, mem->tracee, address, &iov);

	if (ret < 0)
		return ret;
	// Those of whole bytes of the core, as it cannot but be.
	const size_t told = iov.iov_len & ~(size_t)1;

	return told == 0 || told > n ? -EIO : (ssize_t)told;
}

int tags_read(struct mem *mem, const struct extent *extent, uint64_t address, size_t memory,
	      uint8_t *packed)
{
	const uint64_t end = address + memory, covers = mem->image->arch->tags.covers;
	uint8_t tags[ASKED];

	while (address < end) {
		const uint64_t left = (end - address) / covers;
		ssize_t n = peek(mem, address, tags, left < ASKED ? (size_t)left : ASKED);

		if (n == -ESRCH && target_exited(mem->image))
			return -ESRCH;
		if (n < 0) {
			const uint64_t next = (address & ~(uint64_t)(PAGE - 1)) + PAGE;
			const uint64_t stop = next < end ? next : end;

			skip_page(mem, extent, address, stop, (int)n);
			n = (ssize_t)((stop - address) / covers);
			memset(tags, 0, (size_t)n);
		}
		for (ssize_t i = 0; i < n; i += 2)
			*packed++ = (uint8_t)(tags[i] | tags[i + 1] << 4);
		address += (uint64_t)n * covers;
	}
	return 0;
}
