/* SPDX-License-Identifier: BSD-3-Clause */
// The ways to compress a core, by libraries of others. Pure: memory in, memory out, nothing allocated.
//
// A core is compressed as many frames, each complete in itself, so that several are made at once and
// any of them can be read without those before it. What follows the last one is an index of them.
#ifndef CORESNAP_CODEC_H
#define CORESNAP_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "coresnap.h"

// Bytes of the core in a frame; the last one has fewer.
#define CODEC_FRAME (4u << 20)

// How many bytes a frame has in the output and in the core.
struct codec_entry {
	uint32_t packed, plain;
};

struct codec {
	const char *name;
	int least, most, usual; // levels
	// Bytes of working memory, aligned to 16, that making a frame takes.
	size_t (*work_size)(int level);
	// The most that a frame of so many bytes takes.
	size_t (*bound)(size_t size);
	// Makes a frame; its size, or 0 when that failed.
	size_t (*frame)(void *work, size_t work_size, int level, uint8_t *out, size_t room,
			const uint8_t *in, size_t size);
	// The index: skippable frames know it by magic; NULL when each frame tells its own size.
	const struct codec_index *index;
};

// The seekable format of zstd (contrib/seekable_format in its sources), which is a skippable frame
// for lz4, too: head, an entry for each frame, foot.
struct codec_index {
	uint32_t magic, foot_magic;
};

#define CODEC_INDEX_HEAD 8
#define CODEC_INDEX_FOOT 9

// The codec of enum coresnap_compression; NULL for none, and for one that is not built in.
const struct codec *codec_of(int compression);

void codec_index_head(const struct codec *codec, size_t frames, uint8_t head[CODEC_INDEX_HEAD]);
void codec_index_foot(const struct codec *codec, size_t frames, uint8_t foot[CODEC_INDEX_FOOT]);

#endif
