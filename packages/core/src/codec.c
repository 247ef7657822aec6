/* SPDX-License-Identifier: BSD-3-Clause */
#define ZSTD_STATIC_LINKING_ONLY // ZSTD_initStaticCCtx(), which needs no malloc
#include "codec.h"

#include <lz4.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

static void put32(uint8_t *at, size_t value)
{
	for (unsigned int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

// -- zstd ----------------------------------------------------------------------------------------

static size_t zstd_work_size(int level)
{
	return ZSTD_estimateCCtxSize(level);
}

static size_t zstd_bound(size_t size)
{
	return ZSTD_compressBound(size);
}

static size_t zstd_frame(void *work, size_t work_size, int level, uint8_t *out, size_t room,
			 const uint8_t *in, size_t size)
{
	ZSTD_CCtx *const context = ZSTD_initStaticCCtx(work, work_size);

	if (!context ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)))
		return 0;
	const size_t packed = ZSTD_compress2(context, out, room, in, size);

	return ZSTD_isError(packed) ? 0 : packed;
}

// -- lz4 -----------------------------------------------------------------------------------------

// lz4_Frame_format.md: magic, then a descriptor of version 1 with independent blocks of at most
// 4 MiB and its checksum; one block with its size before it; the mark of the end.
static const uint8_t lz4_head[] = { 0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73 };

#define LZ4_STORED 0x80000000u // in a block's size: it is not compressed

static size_t lz4_work_size(int level)
{
	(void)level;
	return (size_t)LZ4_sizeofState();
}

static size_t lz4_bound(size_t size)
{
	return sizeof(lz4_head) + 4 + (size_t)LZ4_compressBound((int)size) + 4;
}

// Levels below 0 are faster, as those of the program lz4 (--fast=N).
static size_t lz4_frame(void *work, size_t work_size, int level, uint8_t *out, size_t room,
			const uint8_t *in, size_t size)
{
	uint8_t *const block = out + sizeof(lz4_head) + 4;
	const int most = (int)(room - sizeof(lz4_head) - 8);

	(void)work_size;
	int packed = LZ4_compress_fast_extState(work, (const char *)in, (char *)block, (int)size,
						most, level < 0 ? -level : 1);

	if (packed <= 0)
		return 0;
	put32(block - 4, (size_t)packed);
	if ((size_t)packed >= size) {
		memcpy(block, in, size);
		packed = (int)size;
		put32(block - 4, size | LZ4_STORED);
	}
	memcpy(out, lz4_head, sizeof(lz4_head));
	put32(block + packed, 0);
	return sizeof(lz4_head) + 4 + (size_t)packed + 4;
}

// -- gzip ----------------------------------------------------------------------------------------

// RFC 1952: a member with an extra field that tells the member's own size, so that the next one is
// found without decompressing it.
enum {
	GZIP_HEAD = 20,
	GZIP_FOOT = 8,
	GZIP_SIZE_AT = 16,
	// deflate's own, twice as much as it takes (zconf.h) at 15 bits and level 8.
	GZIP_WORK = 1 << 20,
};

static const uint8_t gzip_head[GZIP_SIZE_AT] = { 0x1f, 0x8b, 8, 4, 0,   0,   0, 0,
						 0,    3,    8, 0, 'C', 'S', 4, 0 };

struct gzip_memory {
	uint8_t *at, *end;
};

static void *gzip_alloc(void *arg, unsigned int count, unsigned int size)
{
	struct gzip_memory *const memory = arg;
	const size_t bytes = ((size_t)count * size + 15) & ~(size_t)15;

	if (bytes > (size_t)(memory->end - memory->at))
		return NULL;
	memory->at += bytes;
	return memory->at - bytes;
}

static void gzip_free(void *arg, void *address)
{
	(void)arg;
	(void)address;
}

static size_t gzip_work_size(int level)
{
	(void)level;
	return GZIP_WORK;
}

static size_t gzip_bound(size_t size)
{
	return GZIP_HEAD + compressBound(size) + GZIP_FOOT;
}

static size_t gzip_frame(void *work, size_t work_size, int level, uint8_t *out, size_t room,
			 const uint8_t *in, size_t size)
{
	struct gzip_memory memory = { .at = work, .end = (uint8_t *)work + work_size };
	z_stream stream = { .zalloc = gzip_alloc, .zfree = gzip_free, .opaque = &memory };

	if (deflateInit2(&stream, level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return 0;
	stream.next_in = (uint8_t *)(uintptr_t)in;
	stream.avail_in = (unsigned int)size;
	stream.next_out = out + GZIP_HEAD;
	stream.avail_out = (unsigned int)(room - GZIP_HEAD - GZIP_FOOT);
	if (deflate(&stream, Z_FINISH) != Z_STREAM_END)
		return 0;
	uint8_t *const foot = stream.next_out;
	const size_t packed = (size_t)(foot - out) + GZIP_FOOT;

	memcpy(out, gzip_head, sizeof(gzip_head));
	put32(out + GZIP_SIZE_AT, packed);
	put32(foot, crc32(0, in, (unsigned int)size));
	put32(foot + 4, size);
	return packed;
}

// ------------------------------------------------------------------------------------------------

static const struct codec_index seekable = { .magic = 0x184d2a5e, .foot_magic = 0x8f92eab1 };

static const struct codec codecs[] = {
	[CORESNAP_COMPRESS_ZSTD] = { .name = "zstd",
				     .least = -7,
				     .most = 19,
				     .usual = 3,
				     .work_size = zstd_work_size,
				     .bound = zstd_bound,
				     .frame = zstd_frame,
				     .index = &seekable },
	[CORESNAP_COMPRESS_LZ4] = { .name = "lz4",
				    .least = -65537,
				    .most = 1,
				    .usual = 1,
				    .work_size = lz4_work_size,
				    .bound = lz4_bound,
				    .frame = lz4_frame,
				    .index = &seekable },
	[CORESNAP_COMPRESS_GZIP] = { .name = "gzip",
				     .least = 1,
				     .most = 9,
				     .usual = 6,
				     .work_size = gzip_work_size,
				     .bound = gzip_bound,
				     .frame = gzip_frame },
};

const struct codec *codec_of(int compression)
{
	if (compression <= 0 || (size_t)compression >= sizeof(codecs) / sizeof(codecs[0]))
		return NULL;
	return &codecs[compression];
}

void codec_index_head(const struct codec *codec, size_t frames, uint8_t head[CODEC_INDEX_HEAD])
{
	put32(head, codec->index->magic);
	put32(head + 4, frames * sizeof(struct codec_entry) + CODEC_INDEX_FOOT);
}

void codec_index_foot(const struct codec *codec, size_t frames, uint8_t foot[CODEC_INDEX_FOOT])
{
	put32(foot, frames);
	foot[4] = 0; // entries without checksums: the frames have their own
	put32(foot + 5, codec->index->foot_magic);
}
