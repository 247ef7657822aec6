/* SPDX-License-Identifier: BSD-3-Clause */
// What is compressed comes back, whatever it is; the index is where it must be.
#include "codec.h"

#include <lz4frame.h>
#include <zlib.h>
#include <zstd.h>

#include "check.h"

static uint8_t plain[CODEC_FRAME], back[CODEC_FRAME + 1];

// By the libraries themselves, as other programs do.
static ssize_t unpack_gzip(const uint8_t *packed, size_t size, size_t room)
{
	z_stream stream = { .next_in = (uint8_t *)(uintptr_t)packed,
			    .avail_in = (unsigned int)size,
			    .next_out = back,
			    .avail_out = (unsigned int)room };

	CHECK_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
	const int ret = inflate(&stream, Z_FINISH);

	inflateEnd(&stream);
	return ret == Z_STREAM_END && stream.avail_in == 0 ? stream.next_out - back : -1;
}

static ssize_t unpack_lz4(const uint8_t *packed, size_t size, size_t room)
{
	LZ4F_dctx *context;
	size_t taken = size, plain = room;

	CHECK(!LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)));
	const size_t ret = LZ4F_decompress(context, back, &plain, packed, &taken, NULL);

	LZ4F_freeDecompressionContext(context);
	return ret == 0 && taken == size ? (ssize_t)plain : -1;
}

static ssize_t unpack(int compression, const uint8_t *packed, size_t size, size_t room)
{
	if (compression == CORESNAP_COMPRESS_GZIP)
		return unpack_gzip(packed, size, room);
	if (compression == CORESNAP_COMPRESS_LZ4)
		return unpack_lz4(packed, size, room);
	const size_t plain_size = ZSTD_decompress(back, room, packed, size);

	return ZSTD_isError(plain_size) ? -1 : (ssize_t)plain_size;
}

enum kind { ZEROS, NOISE, TEXT, KINDS };

static void fill(enum kind kind, size_t size)
{
	uint32_t seed = 7;

	memset(plain, 0, sizeof(plain));
	for (size_t i = 0; i < size && kind != ZEROS; i++) {
		seed = seed * 1664525 + 1013904223;
		plain[i] = kind == NOISE ? (uint8_t)(seed >> 24) : (uint8_t)(i / 7 % 50 + 'A');
	}
}

static void there_and_back(int compression, int level, enum kind kind, size_t size)
{
	const struct codec *const codec = codec_of(compression);
	const size_t work_size = codec->work_size(level), room = codec->bound(CODEC_FRAME);
	uint8_t *const work = aligned_alloc(64, (work_size + 63) & ~(size_t)63);
	uint8_t *const packed = malloc(room);

	CHECK(work && packed);
	// What was there before must not matter.
	memset(work, 0xa5, work_size);
	fill(kind, size);
	const size_t n = codec->frame(work, work_size, level, packed, room, plain, size);

	CHECK(n > 0 && n <= codec->bound(size));
	if (kind != NOISE && size > 100)
		CHECK(n < size / 2);
	memset(back, 0xff, sizeof(back));
	CHECK_EQ(unpack(compression, packed, n, size), size);
	CHECK(memcmp(back, plain, size) == 0);
	CHECK_EQ(back[size], 0xff);
	CHECK_EQ(unpack(compression, packed, n - 1, size), -1);
	free(work);
	free(packed);
}

static void every_codec_and_size(void)
{
	static const size_t sizes[] = { 1, 2, 15, 4096, 65537, CODEC_FRAME - 1, CODEC_FRAME };

	for (int compression = CORESNAP_COMPRESS_ZSTD; codec_of(compression); compression++)
		for (enum kind kind = ZEROS; kind < KINDS; kind++)
			for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
				there_and_back(compression, codec_of(compression)->usual, kind,
					       sizes[i]);
}

static void every_level(void)
{
	for (int compression = CORESNAP_COMPRESS_ZSTD; codec_of(compression); compression++) {
		const struct codec *const codec = codec_of(compression);

		for (int level = codec->most; level >= codec->least && level >= -10; level--)
			if (level)
				there_and_back(compression, level, TEXT, 300000);
		there_and_back(compression, codec->least, NOISE, 100000);
	}
}

static void names(void)
{
	for (int compression = CORESNAP_COMPRESS_ZSTD; codec_of(compression); compression++)
		CHECK(strcmp(codec_of(compression)->name, coresnap_compression_name(compression)) ==
		      0);
	CHECK(!codec_of(CORESNAP_COMPRESS_NONE));
	CHECK(!codec_of(-1));
	CHECK(!codec_of(99));
}

// zstd_seekable_compression_format.md
static void index_of_frames(void)
{
	static const uint8_t want_head[] = { 0x5e, 0x2a, 0x4d, 0x18, 33, 0, 0, 0 };
	static const uint8_t want_foot[] = { 3, 0, 0, 0, 0, 0xb1, 0xea, 0x92, 0x8f };
	uint8_t head[CODEC_INDEX_HEAD], foot[CODEC_INDEX_FOOT];

	codec_index_head(codec_of(CORESNAP_COMPRESS_ZSTD), 3, head);
	codec_index_foot(codec_of(CORESNAP_COMPRESS_LZ4), 3, foot);
	CHECK(memcmp(head, want_head, sizeof(head)) == 0);
	CHECK(memcmp(foot, want_foot, sizeof(foot)) == 0);
}

static const struct check_case cases[] = {
	CASE(every_codec_and_size),
	CASE(every_level),
	CASE(names),
	CASE(index_of_frames),
};

CHECK_MAIN(cases)
